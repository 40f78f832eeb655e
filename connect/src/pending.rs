//! Records of a sink between the fetch and the write: decoded, per partition, with their bytes kept for dead letters. Pure.
//!
//! Owns the ranges: each batch begins where the one before it ended, whatever markers, aborted or left-out records lie between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flumen_client::Record;

use crate::converter::Converter;
use crate::dead_letter::{DeadLetter, Stage};
use crate::error::RejectedRecord;
use crate::record::{Header, SinkBatch, SinkRecord, TopicPartition};
use crate::value::Text;

/// What is read and not yet durable in the target.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Next offset that the target expects, by partition.
    positions: BTreeMap<TopicPartition, i64>,
    batches: Vec<SinkBatch>,
    /// The records as they were, beside those of `batches`.
    raw: Vec<Vec<Record>>,
    records: usize,
    bytes: usize,
    since: Option<Instant>,
}

/// Records of one partition, up to `next_offset`.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) partition: &'a TopicPartition,
    pub(crate) records: Vec<Record>,
    pub(crate) next_offset: i64,
}

/// When a batch is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) linger: Duration,
}

impl Pending {
    /// Begins at these offsets.
    pub(crate) fn new(positions: BTreeMap<TopicPartition, i64>) -> Pending {
        Pending {
            positions,
            ..Pending::default()
        }
    }

    /// Adds what was fetched of a partition, up to its `next_offset`. Gives back the records that cannot be decoded.
    pub(crate) fn add(
        &mut self,
        read: Read<'_>,
        decode: &Decode<'_>,
        now: Instant,
    ) -> Vec<DeadLetter> {
        let Read {
            partition,
            records,
            next_offset,
        } = read;
        let start = self
            .positions
            .get(partition)
            .copied()
            .unwrap_or(next_offset);
        let index = self
            .batches
            .iter()
            .position(|batch| batch.topic_partition == *partition)
            .unwrap_or_else(|| {
                self.batches.push(SinkBatch {
                    topic_partition: partition.clone(),
                    start_offset: start,
                    next_offset: start,
                    records: Vec::new(),
                });
                self.raw.push(Vec::new());
                self.batches.len() - 1
            });
        let (batch, raw) = (&mut self.batches[index], &mut self.raw[index]);
        let mut letters = Vec::new();
        batch.records.reserve(records.len());
        for record in records {
            self.bytes += record.key.as_ref().map_or(0, Bytes::len)
                + record.value.as_ref().map_or(0, Bytes::len)
                + 32;
            match decode.record(&partition.topic, &record) {
                Ok(decoded) => {
                    batch.records.push(decoded);
                    raw.push(record);
                    self.records += 1;
                }
                Err((stage, reason)) => letters.push(letter(partition, &record, stage, reason)),
            }
        }
        batch.next_offset = next_offset;
        let _ = self.since.get_or_insert(now);
        letters
    }

    /// Whether it should be written now.
    pub(crate) fn is_due(&self, limits: Limits, now: Instant) -> bool {
        self.records >= limits.records
            || self.bytes >= limits.bytes
            || self.wait(limits, now).is_some_and(|left| left.is_zero())
    }

    /// How long it may still wait; `None`: there is nothing.
    pub(crate) fn wait(&self, limits: Limits, now: Instant) -> Option<Duration> {
        // A range without records costs the target a transaction: it waits ten times as long.
        let patience = if self.records > 0 {
            limits.linger
        } else {
            (limits.linger * 10).max(Duration::from_secs(1))
        };
        self.since
            .map(|since| (since + patience).saturating_duration_since(now))
    }

    /// What to write; empty: nothing was read.
    pub(crate) fn batches(&self) -> &[SinkBatch] {
        &self.batches
    }

    /// Takes out records that the target refuses, and gives their dead letters. The ranges stay.
    pub(crate) fn reject(&mut self, mut rejected: Vec<RejectedRecord>) -> Vec<DeadLetter> {
        // From the back, so that the indexes before stay what they are.
        rejected.sort_by_key(|r| std::cmp::Reverse((r.batch, r.record)));
        rejected.dedup_by_key(|r| (r.batch, r.record));
        let mut letters = Vec::new();
        for RejectedRecord {
            batch,
            record,
            reason,
        } in rejected
        {
            if self
                .batches
                .get(batch)
                .is_none_or(|batch| record >= batch.records.len())
            {
                continue;
            }
            let _ = self.batches[batch].records.remove(record);
            let raw = self.raw[batch].remove(record);
            letters.push(letter(
                &self.batches[batch].topic_partition,
                &raw,
                Stage::TaskPut,
                reason,
            ));
            self.records -= 1;
        }
        letters.reverse();
        letters
    }

    /// It was written: the next ranges begin behind it. Returns where each partition is now.
    pub(crate) fn written(&mut self) -> BTreeMap<TopicPartition, i64> {
        let moved: BTreeMap<TopicPartition, i64> = self
            .batches
            .drain(..)
            .map(|batch| (batch.topic_partition, batch.next_offset))
            .collect();
        self.positions.extend(
            moved
                .iter()
                .map(|(partition, next)| (partition.clone(), *next)),
        );
        self.raw.clear();
        self.records = 0;
        self.bytes = 0;
        self.since = None;
        moved
    }
}

/// Bytes to values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decode<'a> {
    pub(crate) key: &'a dyn Converter,
    pub(crate) value: &'a dyn Converter,
}

impl Decode<'_> {
    fn record(&self, topic: &str, record: &Record) -> Result<SinkRecord, (Stage, String)> {
        let key = self
            .key
            .decode(topic, record.key.as_ref())
            .map_err(|e| (Stage::KeyConverter, e.0))?;
        let value = self
            .value
            .decode(topic, record.value.as_ref())
            .map_err(|e| (Stage::ValueConverter, e.0))?;
        let headers = if record.headers.is_empty() {
            Vec::new()
        } else {
            record
                .headers
                .iter_owned()
                .map(|(name, value)| Header {
                    name: Text::from(&*name),
                    value,
                })
                .collect()
        };
        Ok(SinkRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key,
            value,
            headers,
        })
    }
}

fn letter(partition: &TopicPartition, record: &Record, stage: Stage, reason: String) -> DeadLetter {
    DeadLetter {
        topic: partition.topic.clone(),
        position: Some((partition.partition, record.offset)),
        place: None,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record
            .headers
            .iter_owned()
            .map(|(name, value)| (name.into_owned(), value))
            .collect(),
        timestamp: Some(record.timestamp),
        stage,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::converter::{JsonConverter, StringConverter};
    use crate::value::Value;
    use flumen_client::Headers;

    fn record(offset: i64, value: &'static str) -> Record {
        Record {
            offset,
            timestamp: 1,
            key: None,
            value: Some(Bytes::from(value)),
            headers: Headers::default(),
        }
    }

    fn read(partition: &TopicPartition, records: Vec<Record>, next_offset: i64) -> Read<'_> {
        Read {
            partition,
            records,
            next_offset,
        }
    }

    #[test]
    fn ranges_are_adjacent_over_gaps_bad_and_refused_records() {
        let (tp, json) = (TopicPartition::new("t", 0), JsonConverter::new(false));
        let decode = Decode {
            key: &StringConverter,
            value: &json,
        };
        let now = crate::runtime::now();
        let mut pending = Pending::new([(tp.clone(), 5)].into());
        let letters = pending.add(
            read(
                &tp,
                vec![record(7, "1"), record(8, "{"), record(9, "3")],
                12,
            ),
            &decode,
            now,
        );
        assert!(
            letters[0].describe().starts_with("t-0 offset 8: no JSON"),
            "{}",
            letters[0].describe()
        );
        assert!(
            pending
                .add(read(&tp, vec![record(12, "4")], 13), &decode, now)
                .is_empty()
        );
        let batch = &pending.batches()[0];
        assert_eq!(
            (batch.start_offset, batch.next_offset, batch.records.len()),
            (5, 13, 3)
        );
        let refused = [0, 2].map(|record| RejectedRecord {
            batch: 0,
            record,
            reason: "no".to_owned(),
        });
        let letters = pending.reject(refused.into());
        assert_eq!(
            letters
                .iter()
                .map(|letter| letter.position.unwrap().1)
                .collect::<Vec<_>>(),
            [7, 12]
        );
        assert_eq!(pending.batches()[0].records[0].value.value, Value::Int64(3));
        assert_eq!(pending.written(), [(tp.clone(), 13)].into());
        let _ = pending.add(read(&tp, vec![], 20), &decode, now);
        assert_eq!(
            (
                pending.batches()[0].start_offset,
                pending.batches()[0].next_offset
            ),
            (13, 20)
        );
    }

    #[test]
    fn a_batch_is_written_when_it_is_full_or_old_and_an_empty_range_waits_longer() {
        let (tp, decode) = (
            TopicPartition::new("t", 0),
            Decode {
                key: &StringConverter,
                value: &StringConverter,
            },
        );
        let limits = Limits {
            records: 2,
            bytes: 1000,
            linger: Duration::from_millis(50),
        };
        let now = crate::runtime::now();
        let mut pending = Pending::new(BTreeMap::new());
        assert!(!pending.is_due(limits, now + Duration::from_secs(99)));
        let _ = pending.add(read(&tp, vec![], 3), &decode, now);
        assert!(!pending.is_due(limits, now + limits.linger));
        let _ = pending.add(read(&tp, vec![record(3, "x")], 4), &decode, now);
        assert!(!pending.is_due(limits, now));
        assert!(pending.is_due(limits, now + limits.linger));
        let _ = pending.add(read(&tp, vec![record(4, "x")], 5), &decode, now);
        assert!(pending.is_due(limits, now));
    }
}
