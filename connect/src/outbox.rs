//! Records of a source on their way into one transaction: converted, spread over partitions, packed into blocks. Pure.
//!
//! Owns the open blocks and the positions that belong to them. `source_task.rs` sends the blocks as they fill and the rest at the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flumen_client::{Compression, RecordBlock, partition_for_key};

use crate::offsets;
use crate::record::{Boundary, SourceBatch};

/// Records without a key change the partition after so many: runs compress well, and a small file still reaches every partition.
const RUN_RECORDS: usize = 100;
/// A block is sent when it has so many bytes.
const BLOCK_BYTES: usize = 256 * 1024;

/// Kafka's default max.message.bytes is 1 MiB.
const BATCH_BYTES_MAX: usize = 1_000_000;
/// Below this a topic that still refuses is one that takes nothing.
const BATCH_BYTES_MIN: usize = 512;

/// How large a batch may be: as much as any topic takes by default, less where a topic takes less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchLimit(usize);

impl Default for BatchLimit {
    fn default() -> BatchLimit {
        BatchLimit(BATCH_BYTES_MAX)
    }
}

impl BatchLimit {
    /// The next one to try after a batch was refused for its size; `None`: it is not the batches, it is their records.
    pub(crate) fn smaller(self) -> Option<BatchLimit> {
        let half = self.0.min(2 * BLOCK_BYTES) / 2;
        (half >= BATCH_BYTES_MIN).then_some(BatchLimit(half))
    }
}

/// A record in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
    pub(crate) timestamp: i64,
}

impl Encoded {
    /// An upper bound of its bytes in a batch of its own.
    pub(crate) fn size(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + len(value) + 10)
            .sum();
        len(&self.key) + len(&self.value) + headers + 128
    }
}

/// A block that is full.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) block: RecordBlock,
}

#[derive(Debug)]
struct Target {
    blocks: Vec<Option<RecordBlock>>,
    turn: usize,
    run: usize,
}

/// What is not sent yet.
#[derive(Debug)]
pub(crate) struct Outbox {
    compression: Compression,
    limit: BatchLimit,
    targets: BTreeMap<Arc<str>, Target>,
    positions: BTreeMap<String, String>,
}

impl Outbox {
    pub(crate) fn new(compression: Compression, limit: BatchLimit) -> Outbox {
        Outbox {
            compression,
            limit,
            targets: BTreeMap::new(),
            positions: BTreeMap::new(),
        }
    }

    /// Whether the number of partitions of `topic` must be told first.
    pub(crate) fn knows(&self, topic: &str) -> bool {
        self.targets.contains_key(topic)
    }

    /// `topic` has so many partitions.
    pub(crate) fn learn(&mut self, topic: &Arc<str>, partitions: i32) {
        let blocks = (0..partitions.max(1)).map(|_| None).collect();
        let _ = self.targets.insert(
            Arc::clone(topic),
            Target {
                blocks,
                turn: 0,
                run: 0,
            },
        );
    }

    /// Adds a record; gives back a block that is full now.
    ///
    /// # Errors
    /// A sentence: the record names a partition that the topic does not have.
    pub(crate) fn push(
        &mut self,
        topic: &Arc<str>,
        record: &Encoded,
    ) -> Result<Option<Full>, String> {
        let target = self
            .targets
            .get_mut(topic)
            .expect("partitions are learnt before the first record");
        let count = i32::try_from(target.blocks.len()).expect("made from an i32");
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) if (0..count).contains(&partition) => partition,
            (Some(partition), _) => {
                return Err(format!(
                    "topic {topic} has {count} partitions, the record names {partition}"
                ));
            }
            (None, Some(key)) => partition_for_key(key, count),
            (None, None) => target.next_turn(),
        };
        let slot = &mut target.blocks[usize::try_from(partition).expect("not negative")];
        let compression = self.compression;
        // A batch beyond max.message.bytes is refused as a whole, so a large record goes into a block of its own.
        let BatchLimit(most) = self.limit;
        let before = slot.take_if(|block| block.size_bytes() + record.size() > most);
        let block =
            slot.get_or_insert_with(|| RecordBlock::with_capacity(compression, BLOCK_BYTES + 4096));
        let headers: Vec<(&[u8], Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|(name, value)| (&name[..], value.as_deref()))
            .collect();
        block.push(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
        let full = before.or_else(|| slot.take_if(|block| block.size_bytes() >= BLOCK_BYTES));
        Ok(full.map(|block| Full {
            topic: Arc::clone(topic),
            partition,
            block,
        }))
    }

    /// Notes how far the batch brings the connector.
    pub(crate) fn note(&mut self, connector: &str, batch: &SourceBatch) {
        for position in &batch.positions {
            let _ = self.positions.insert(
                offsets::encode_key(connector, &position.partition),
                offsets::encode_offset(&position.offset),
            );
        }
    }

    /// Everything that is left: open blocks, and the position records by key.
    pub(crate) fn finish(&mut self) -> (Vec<Full>, BTreeMap<String, String>) {
        let mut full = Vec::new();
        for (topic, target) in &mut self.targets {
            for (partition, slot) in target.blocks.iter_mut().enumerate() {
                let partition = i32::try_from(partition).expect("made from an i32");
                full.extend(slot.take().map(|block| Full {
                    topic: Arc::clone(topic),
                    partition,
                    block,
                }));
            }
        }
        (full, std::mem::take(&mut self.positions))
    }
}

impl Target {
    fn next_turn(&mut self) -> i32 {
        if self.run >= RUN_RECORDS {
            self.turn = (self.turn + 1) % self.blocks.len();
            self.run = 0;
        }
        self.run += 1;
        i32::try_from(self.turn).expect("below the number of partitions")
    }
}

/// When a transaction ends. Kafka: `transaction.boundary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// After every batch.
    Poll,
    /// When it is this old or this large.
    Interval(Duration, usize),
    /// Where the plugin says so.
    Connector,
}

/// The open transaction, as far as its end is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) since: Instant,
    pub(crate) bytes: usize,
    /// What the last batch said.
    pub(crate) boundary: Boundary,
}

impl Open {
    /// Whether it should be committed now.
    pub(crate) fn is_due(&self, rule: Rule, now: Instant) -> bool {
        match (self.boundary, rule) {
            (Boundary::Mid, _) => false,
            (Boundary::Here, _) | (Boundary::Any, Rule::Poll) => true,
            (Boundary::Any, Rule::Connector) => false,
            (Boundary::Any, Rule::Interval(age, bytes)) => {
                self.bytes >= bytes || now.saturating_duration_since(self.since) >= age
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SourcePosition;

    fn record(key: Option<&'static str>, bytes: usize) -> Encoded {
        Encoded {
            partition: None,
            key: key.map(Bytes::from),
            value: Some(vec![b'x'; bytes].into()),
            headers: Vec::new(),
            timestamp: 1,
        }
    }

    #[test]
    fn records_without_a_key_go_round_in_runs_and_a_key_stays() {
        let topic: Arc<str> = "t".into();
        let mut outbox = Outbox::new(Compression::None, BatchLimit::default());
        outbox.learn(&topic, 3);
        for _ in 0..350 {
            assert!(outbox.push(&topic, &record(None, 1)).unwrap().is_none());
        }
        for _ in 0..10 {
            let _ = outbox.push(&topic, &record(Some("k"), 1)).unwrap();
        }
        let (full, _) = outbox.finish();
        let mut sizes: Vec<usize> = full.iter().map(|full| full.block.len()).collect();
        sizes[usize::try_from(partition_for_key(b"k", 3)).unwrap()] -= 10;
        assert_eq!(sizes, [150, 100, 100]);
        assert!(outbox.finish().0.is_empty());
        let wrong = Encoded {
            partition: Some(3),
            ..record(None, 1)
        };
        assert_eq!(
            outbox.push(&topic, &wrong).unwrap_err(),
            "topic t has 3 partitions, the record names 3"
        );
    }

    #[test]
    fn batches_get_smaller_until_every_record_has_its_own() {
        let topic: Arc<str> = "t".into();
        let mut limit = Some(BatchLimit::default());
        let mut largest = Vec::new();
        while let Some(now) = limit {
            let mut outbox = Outbox::new(Compression::None, now);
            outbox.learn(&topic, 1);
            let mut blocks = Vec::new();
            for _ in 0..4_000 {
                blocks.extend(outbox.push(&topic, &record(None, 400)).unwrap());
            }
            blocks.extend(outbox.finish().0);
            largest.extend(blocks.iter().map(|full| full.block.len()).max());
            limit = now.smaller();
        }
        assert!(largest.is_sorted_by(|before, after| before >= after));
        assert_eq!((largest[0] > 600, largest.last()), (true, Some(&1)));
        assert_eq!(largest.len(), 11);
    }

    #[test]
    fn a_block_is_given_back_when_it_is_full_and_the_last_position_counts() {
        let topic: Arc<str> = "t".into();
        let mut outbox = Outbox::new(Compression::None, BatchLimit::default());
        outbox.learn(&topic, 1);
        assert!(
            outbox
                .push(&topic, &record(None, 200_000))
                .unwrap()
                .is_none()
        );
        assert_eq!(
            outbox
                .push(&topic, &record(None, 100_000))
                .unwrap()
                .unwrap()
                .block
                .len(),
            2
        );
        assert!(
            outbox
                .push(&topic, &record(None, 200_000))
                .unwrap()
                .is_none()
        );
        assert_eq!(
            outbox
                .push(&topic, &record(None, 900_000))
                .unwrap()
                .unwrap()
                .block
                .len(),
            1,
            "the two do not fit together"
        );
        for at in [1, 2] {
            let position = SourcePosition {
                partition: [("f".to_owned(), "x".into())].into(),
                offset: [("position".to_owned(), at.into())].into(),
            };
            outbox.note(
                "c",
                &SourceBatch {
                    positions: vec![position],
                    ..SourceBatch::default()
                },
            );
        }
        assert_eq!(
            outbox.finish().1,
            [(
                r#"["c",{"f":"x"}]"#.to_owned(),
                r#"{"position":2}"#.to_owned()
            )]
            .into()
        );
    }

    #[test]
    fn a_transaction_ends_where_its_rule_says_and_never_in_the_middle() {
        let since = crate::runtime::now();
        let later = since + Duration::from_millis(100);
        let due = |boundary, rule, bytes, now| {
            Open {
                since,
                bytes,
                boundary,
            }
            .is_due(rule, now)
        };
        let interval = Rule::Interval(Duration::from_millis(100), 10);
        assert!(!due(Boundary::Any, interval, 9, since));
        assert!(due(Boundary::Any, interval, 10, since));
        assert!(due(Boundary::Any, interval, 0, later));
        assert!(!due(Boundary::Mid, interval, 99, later));
        assert!(due(Boundary::Here, Rule::Connector, 0, since));
        assert!(!due(Boundary::Any, Rule::Connector, 99, later));
        assert!(due(Boundary::Any, Rule::Poll, 0, since));
    }
}
