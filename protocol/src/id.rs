//! The small names and numbers that every crate passes around. Plain data; nothing here knows how
//! it came about.

use std::fmt;
use std::str::FromStr;

/// Position of a record in its partition; the first is 0.
pub type Offset = i64;
/// Term of a partition's leader; -1 is unknown.
pub type LeaderEpoch = i32;
/// Node id of a broker; -1 is none.
pub type BrokerId = i32;
/// Partition number within its topic, from 0.
pub type PartitionIndex = i32;
/// Id of an idempotent or transactional producer; -1 is none.
pub type ProducerId = i64;
/// Epoch of a producer id; -1 is none.
pub type ProducerEpoch = i16;
/// Sequence number of a record within producer id and epoch; -1 is none, wraps from `i32::MAX` to
/// 0.
pub type Sequence = i32;

/// A topic's id: 128 bits that, unlike its name, never come back after the topic was deleted. Also
/// used for directory ids.
///
/// Shown and parsed as Kafka's `Uuid`: 22 characters of URL-safe base64 without padding.
///
/// ```
/// use flumen_protocol::id::TopicId;
/// let id: TopicId = "J0U8bOPVRHmhWQaL8NTZSA".parse().unwrap();
/// assert_eq!(id.to_string(), "J0U8bOPVRHmhWQaL8NTZSA");
/// assert_eq!(TopicId::default().to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// All zero: "no id".
    pub const NIL: Self = Self([0; 16]);

    /// Whether this is "no id".
    pub fn is_nil(self) -> bool {
        self == Self::NIL
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits are 21 full digits of 6 bits and one with 2 bits left over
        let bits = u128::from_be_bytes(self.0);
        for digit in 0..22u32 {
            let six = match digit {
                21 => (bits << 4) & 0x3f,
                _ => (bits >> (122 - 6 * digit)) & 0x3f,
            };
            write!(f, "{}", char::from(BASE64[six as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 22 characters of URL-safe base64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a topic id: 22 characters of URL-safe base64 expected")]
pub struct TopicIdError(String);

impl FromStr for TopicId {
    type Err = TopicIdError;

    fn from_str(text: &str) -> Result<Self, TopicIdError> {
        let wrong = || TopicIdError(text.to_owned());
        if text.len() != 22 {
            return Err(wrong());
        }
        let mut bits = 0u128;
        for (i, byte) in text.bytes().enumerate() {
            let six = BASE64.iter().position(|b| *b == byte).ok_or_else(wrong)? as u128;
            match i {
                21 if six & 0xf != 0 => return Err(wrong()),
                21 => bits = bits << 2 | six >> 4,
                _ => bits = bits << 6 | six,
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

/// A partition of a topic, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<String>, partition: PartitionIndex) -> Self {
        let topic = topic.into();
        Self { topic, partition }
    }
}

/// As Kafka writes it and names its directory: `orders-3`.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_reads_back_what_it_shows() {
        for bytes in [[0; 16], [255; 16], *b"0123456789abcdef"] {
            let id = TopicId(bytes);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        // Kafka: new Uuid(0, 1).toString(), Uuid.METADATA_TOPIC_ID
        assert_eq!(
            TopicId(1u128.to_be_bytes()).to_string(),
            "AAAAAAAAAAAAAAAAAAAAAQ"
        );
    }

    #[test]
    fn what_is_not_a_topic_id_is_refused() {
        for text in [
            "",
            "A",
            "AAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(text.parse::<TopicId>().is_err(), "{text}");
        }
    }
}
