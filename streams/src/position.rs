//! The metadata that is committed with an input offset: partition time, and the stream time of each windowed node.
//!
//! Called by `app.rs` when it commits and when it gets a task. Byte for byte Kafka's `TopicPartitionMetadata` version 2, so
//! that its tools show it: base64 of
//! `2 u8 · partition time i64 · [count i32 · (length i32 · node name · stream time i64)...]`, the bracket left out when empty.

use std::collections::BTreeMap;

use crate::time::NO_TIMESTAMP;

const VERSION: u8 = 2;
const VERSION_WITHOUT_NODES: u8 = 1;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Times of a partition, as committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionTimes {
    /// Largest event time read, [`NO_TIMESTAMP`] if none.
    pub(crate) partition_time: i64,
    /// Stream time by node name.
    pub(crate) stream_times: BTreeMap<String, i64>,
}

impl Default for PartitionTimes {
    fn default() -> Self {
        Self {
            partition_time: NO_TIMESTAMP,
            stream_times: BTreeMap::new(),
        }
    }
}

impl PartitionTimes {
    /// As the metadata string of an offset commit.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.partition_time.to_be_bytes());
        if !self.stream_times.is_empty() {
            put_length(&mut bytes, self.stream_times.len());
            for (node, time) in &self.stream_times {
                put_length(&mut bytes, node.len());
                bytes.extend_from_slice(node.as_bytes());
                bytes.extend_from_slice(&time.to_be_bytes());
            }
        }
        to_base64(&bytes)
    }

    /// Reads a metadata string; what another program left there counts as no times at all (Kafka: the same).
    pub(crate) fn decode(metadata: &str) -> Self {
        Self::parse(metadata).unwrap_or_default()
    }

    fn parse(metadata: &str) -> Option<Self> {
        let bytes = from_base64(metadata)?;
        let mut rest = bytes.as_slice();
        let version = take::<1>(&mut rest)?[0];
        if !matches!(version, VERSION | VERSION_WITHOUT_NODES) {
            return None;
        }
        let mut times = Self {
            partition_time: i64::from_be_bytes(take(&mut rest)?),
            ..Self::default()
        };
        if version == VERSION && !rest.is_empty() {
            for _ in 0..u32::from_be_bytes(take(&mut rest)?) {
                let length = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).ok()?;
                let (name, behind) = rest.split_at_checked(length)?;
                rest = behind;
                let name = String::from_utf8(name.to_vec()).ok()?;
                times
                    .stream_times
                    .insert(name, i64::from_be_bytes(take(&mut rest)?));
            }
        }
        Some(times)
    }
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("names of nodes are short");
    bytes.extend_from_slice(&length.to_be_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let used = digit <= chunk.len();
            let index = (group >> (18 - 6 * digit)) & 63;
            text.push(if used {
                char::from(ALPHABET[index as usize])
            } else {
                '='
            });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let mut group = 0u32;
        for digit in chunk {
            let value = ALPHABET.iter().position(|letter| letter == digit)?;
            group = group << 6 | u32::try_from(value).ok()?;
        }
        group <<= 6 * (4 - chunk.len());
        let whole = group.to_be_bytes();
        bytes.extend_from_slice(&whole[1..1 + (chunk.len() * 3 / 4)]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kafkas_bytes_are_written_and_read() {
        // Kafka 4.3: new TopicPartitionMetadata(1_700_000_000_000L, new ProcessorMetadata()).encode()
        let times = PartitionTimes {
            partition_time: 1_700_000_000_000,
            ..PartitionTimes::default()
        };
        assert_eq!(times.encode(), "AgAAAYvP5WgA");
        assert_eq!(PartitionTimes::decode("AgAAAYvP5WgA"), times);
        assert_eq!(
            PartitionTimes::decode("AQAAAYvP5WgA"),
            times,
            "version 1 has no nodes"
        );
    }

    #[test]
    fn what_others_left_is_no_time() {
        for metadata in ["", "hello", "AgAA", "CQAAAYvP5WgA", "AgAAAYvP5WgA/////w=="] {
            assert_eq!(
                PartitionTimes::decode(metadata),
                PartitionTimes::default(),
                "{metadata}"
            );
        }
    }

    proptest! {
        #[test]
        fn round_trip(partition_time: i64, stream_times in prop::collection::btree_map(".{0,20}", any::<i64>(), 0..5)) {
            let times = PartitionTimes { partition_time, stream_times };
            prop_assert_eq!(PartitionTimes::decode(&times.encode()), times);
        }

        #[test]
        fn any_string_is_survived(metadata in ".{0,80}") {
            PartitionTimes::decode(&metadata);
        }
    }
}
