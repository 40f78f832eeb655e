//! Which leader wrote from which offset on, so that two logs can find where they part. Pure.
//!
//! `Log` adds an entry when a batch of a new epoch is appended; followers ask [`LeaderEpochs::end_offset_for`] of their
//! leader and truncate to the answer. Kept in `leader-epoch-checkpoint` (`checkpoint.rs`), learned again from the
//! batches above the recovery point.
//!
//! Epochs and offsets strictly increase: `{0: [0, 10), 3: [10, 25), 4: [25, log end)}`.
//! Source: Kafka `LeaderEpochFileCache`; KIP-101, KIP-279.

use flumen_protocol::id::{LeaderEpoch, Offset};

/// A leader epoch and the first offset written in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The first offset of it.
    pub start_offset: Offset,
}

/// The epochs of one log, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// From entries in any order; those that contradict a later one are dropped.
    pub fn from_entries(entries: impl IntoIterator<Item = EpochStart>) -> Self {
        let mut sorted: Vec<_> = entries.into_iter().collect();
        sorted.sort_by_key(|entry| entry.epoch);
        let mut epochs = Self::default();
        for entry in sorted {
            epochs.assign(entry.epoch, entry.start_offset);
        }
        epochs
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Records that `epoch` wrote at `offset`; returns whether that is news. Later entries that contradict it are dropped.
    pub fn assign(&mut self, epoch: LeaderEpoch, offset: Offset) -> bool {
        if epoch < 0 || self.latest() == Some(epoch) {
            return false;
        }
        self.entries
            .retain(|entry| entry.epoch < epoch && entry.start_offset < offset);
        self.entries.push(EpochStart {
            epoch,
            start_offset: offset,
        });
        true
    }

    /// The epoch that wrote `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        after.checked_sub(1).map(|i| self.entries[i].epoch)
    }

    /// Where `epoch` ends: the largest epoch not above it, and the offset after its last record.
    ///
    /// The newest epoch ends at the log's end. An epoch before the first known one ends where that one starts, and is returned as
    /// asked. `None` for an epoch above the newest, or if nothing is known. Source: `LeaderEpochFileCache.endOffsetFor`.
    pub fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end_offset: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        if epoch < 0 || self.latest()? < epoch {
            return None;
        }
        if self.latest() == Some(epoch) {
            return Some((epoch, log_end_offset));
        }
        let after = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end = self.entries[after].start_offset;
        match after.checked_sub(1) {
            None => Some((epoch, end)),
            Some(floor) => Some((self.entries[floor].epoch, end)),
        }
    }

    /// The log was cut: nothing is left at `offset` and above. Returns whether anything changed.
    pub fn truncate_from_end(&mut self, offset: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.start_offset < offset);
        self.entries.len() != before
    }

    /// Nothing is left below `offset`: the epoch that holds it starts there now. Returns whether anything changed.
    pub fn truncate_from_start(&mut self, offset: Offset) -> bool {
        let after = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        let Some(holds) = after.checked_sub(1) else {
            return false;
        };
        let changed = holds > 0 || self.entries[holds].start_offset != offset;
        self.entries[holds].start_offset = offset;
        self.entries.drain(..holds);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(LeaderEpoch, Offset)]) -> LeaderEpochs {
        LeaderEpochs::from_entries(entries.iter().map(|(epoch, start_offset)| EpochStart {
            epoch: *epoch,
            start_offset: *start_offset,
        }))
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_starts() {
        let known = epochs(&[(2, 10), (4, 30), (7, 50)]);
        let cases = [
            (-1, None),
            (0, Some((0, 10))),
            (1, Some((1, 10))),
            (2, Some((2, 30))),
            (3, Some((2, 30))),
            (4, Some((4, 50))),
            (6, Some((4, 50))),
            (7, Some((7, 60))),
            (8, None),
        ];
        for (epoch, end) in cases {
            assert_eq!(known.end_offset_for(epoch, 60), end, "epoch {epoch}");
        }
        assert_eq!(LeaderEpochs::default().end_offset_for(0, 60), None);
    }

    #[test]
    fn a_new_epoch_drops_entries_it_contradicts() {
        let mut known = epochs(&[(2, 10), (4, 30)]);
        assert!(!known.assign(4, 35));
        assert!(known.assign(5, 30));
        assert_eq!(known, epochs(&[(2, 10), (5, 30)]));
        assert!(known.assign(3, 20));
        assert_eq!(known, epochs(&[(2, 10), (3, 20)]));
        assert!(!known.assign(-1, 40));
    }

    #[test]
    fn truncation_keeps_the_epoch_of_what_is_left() {
        let mut known = epochs(&[(2, 10), (4, 30), (7, 50)]);
        assert!(known.truncate_from_start(35));
        assert_eq!(known, epochs(&[(4, 35), (7, 50)]));
        assert!(!known.truncate_from_start(35));
        assert!(!known.truncate_from_end(51));
        assert!(known.truncate_from_end(50));
        assert_eq!(known, epochs(&[(4, 35)]));
        assert_eq!(
            (known.epoch_of(34), known.epoch_of(35), known.epoch_of(99)),
            (None, Some(4), Some(4))
        );
    }
}
