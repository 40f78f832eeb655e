//! The offsets of one group: what is committed, what an open transaction holds back, what is too old. Changed by `apply_*` only,
//! the same calls live and on replay, so that the map is at all times what a replay of the log gives.
//!
//! An offset committed inside a transaction waits under its producer id until the marker of that transaction is in the log.
//! Two commits of one partition are ordered by the log positions of their *records*, not by that of the marker: compaction keeps
//! the record with the higher position, and live state must agree with a replay of the compacted log (Kafka: `recordOffset`).
//! A tombstone takes what a transaction holds of its partition as well, here as in a compacted log. So what is merely too old is not
//! tombstoned while a transaction holds an offset of it; what belongs to a deleted topic is.

use std::collections::{BTreeMap, BTreeSet};

use flumen_planted::{Bug, planted};
use flumen_protocol::id::{ProducerId, TopicPartition};

use super::record::OffsetRecord;

/// A committed offset and where its record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) value: OffsetRecord,
    /// Position of the record in its partition of `__consumer_offsets`.
    pub(crate) position: i64,
}

/// All offsets of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    committed: BTreeMap<TopicPartition, Committed>,
    /// Of transactions that have not ended, by producer.
    pending: BTreeMap<ProducerId, BTreeMap<TopicPartition, Committed>>,
}

impl Offsets {
    /// An offset record was appended at `position`, inside `producer`'s transaction if there is one; `None` is a tombstone.
    pub(crate) fn apply(
        &mut self,
        partition: &TopicPartition,
        value: Option<&OffsetRecord>,
        position: i64,
        producer: Option<ProducerId>,
    ) {
        let Some(value) = value else {
            self.committed.remove(partition);
            for staged in self.pending.values_mut() {
                staged.remove(partition);
            }
            self.pending.retain(|_, staged| !staged.is_empty());
            return;
        };
        let commit = Committed {
            value: value.clone(),
            position,
        };
        match producer {
            // Wrong: the transaction may still abort.
            Some(_) if planted(Bug::OffsetsBeforeMarker) => {
                self.committed.insert(partition.clone(), commit)
            }
            None => self.committed.insert(partition.clone(), commit),
            Some(producer) => self
                .pending
                .entry(producer)
                .or_default()
                .insert(partition.clone(), commit),
        };
    }

    /// The marker of `producer`'s transaction is in the log: what it staged becomes visible, or is dropped.
    pub(crate) fn apply_marker(&mut self, producer: ProducerId, committed: bool) {
        let Some(staged) = self.pending.remove(&producer) else {
            return;
        };
        if !committed {
            return;
        }
        for (partition, commit) in staged {
            if self
                .committed
                .get(&partition)
                .is_none_or(|current| current.position < commit.position)
            {
                self.committed.insert(partition, commit);
            }
        }
    }

    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<&OffsetRecord> {
        self.committed.get(partition).map(|commit| &commit.value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &OffsetRecord)> {
        self.committed
            .iter()
            .map(|(partition, commit)| (partition, &commit.value))
    }

    /// A transaction that has not ended holds an offset of this partition back.
    pub(crate) fn is_unstable(&self, partition: &TopicPartition) -> bool {
        self.pending
            .values()
            .any(|staged| staged.contains_key(partition))
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn is_pending(&self, producer: ProducerId) -> bool {
        self.pending.contains_key(&producer)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// Partitions of which anything is known and that may be tombstoned: no open transaction holds an offset of them.
    pub(crate) fn removable(
        &self,
        mut which: impl FnMut(&TopicPartition, &OffsetRecord) -> bool,
    ) -> Vec<TopicPartition> {
        let due = self.committed.iter().filter(|(partition, commit)| {
            which(partition, &commit.value) && !self.is_unstable(partition)
        });
        due.map(|(partition, _)| partition.clone()).collect()
    }

    /// Partitions of these topics of which anything is known, held back by a transaction or not: where a topic is gone, what a
    /// transaction still holds of it must not come back with its marker.
    pub(crate) fn of_topics(&self, which: impl Fn(&str) -> bool) -> Vec<TopicPartition> {
        let staged = self.pending.values().flat_map(BTreeMap::keys);
        let known = self.committed.keys().chain(staged);
        let of_topics: BTreeSet<_> = known.filter(|known| which(&known.topic)).collect();
        of_topics.into_iter().cloned().collect()
    }

    /// Partitions with an offset that expired: `retention_ms` after `since(offset)`, or at the moment the record itself names
    /// (only records of very old clients do).
    pub(crate) fn expired(
        &self,
        now_ms: i64,
        retention_ms: i64,
        since: impl Fn(&OffsetRecord) -> i64,
    ) -> Vec<TopicPartition> {
        self.removable(|_, offset| match offset.expire_timestamp_ms {
            Some(at) => now_ms >= at,
            None => now_ms.saturating_sub(since(offset)) >= retention_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> TopicPartition {
        TopicPartition {
            topic: "orders".to_owned(),
            partition: 0,
        }
    }

    fn at(offset: i64) -> OffsetRecord {
        OffsetRecord {
            offset,
            ..OffsetRecord::default()
        }
    }

    fn offset(offsets: &Offsets) -> Option<i64> {
        offsets.get(&orders()).map(|record| record.offset)
    }

    #[test]
    fn a_staged_offset_is_invisible_until_its_marker_and_gone_after_an_abort() {
        let mut offsets = Offsets::default();
        offsets.apply(&orders(), Some(&at(10)), 0, None);
        offsets.apply(&orders(), Some(&at(20)), 1, Some(7));
        assert_eq!(
            (offset(&offsets), offsets.is_unstable(&orders())),
            (Some(10), true)
        );
        offsets.apply_marker(7, false);
        assert_eq!(
            (offset(&offsets), offsets.is_unstable(&orders())),
            (Some(10), false)
        );
        offsets.apply(&orders(), Some(&at(30)), 3, Some(7));
        offsets.apply_marker(7, true);
        assert_eq!(
            (offset(&offsets), offsets.is_unstable(&orders())),
            (Some(30), false)
        );
    }

    #[test]
    fn a_plain_commit_after_the_staged_one_wins_although_its_marker_comes_later() {
        let mut offsets = Offsets::default();
        offsets.apply(&orders(), Some(&at(20)), 1, Some(7));
        offsets.apply(&orders(), Some(&at(10)), 2, None);
        offsets.apply_marker(7, true);
        assert_eq!(
            offset(&offsets),
            Some(10),
            "as a replay of the compacted log would have it"
        );
    }

    #[test]
    fn transactions_of_two_producers_do_not_end_each_other() {
        let mut offsets = Offsets::default();
        offsets.apply(&orders(), Some(&at(1)), 1, Some(7));
        offsets.apply(&orders(), Some(&at(2)), 2, Some(8));
        offsets.apply_marker(7, true);
        assert_eq!(
            (offset(&offsets), offsets.is_unstable(&orders())),
            (Some(1), true)
        );
        offsets.apply_marker(8, true);
        assert_eq!(
            (offset(&offsets), offsets.is_unstable(&orders())),
            (Some(2), false)
        );
    }

    #[test]
    fn an_offset_staged_by_an_open_transaction_does_not_expire() {
        let mut offsets = Offsets::default();
        offsets.apply(&orders(), Some(&at(1)), 1, None);
        assert_eq!(offsets.expired(1_000, 1_000, |_| 0), [orders()]);
        offsets.apply(&orders(), Some(&at(2)), 2, Some(7));
        assert_eq!(offsets.expired(1_000, 1_000, |_| 0), []);
        offsets.apply_marker(7, false);
        assert_eq!(offsets.expired(999, 1_000, |_| 0), []);
        assert_eq!(offsets.expired(1_000, 1_000, |_| 0), [orders()]);
    }
}
