//! Leader side of one partition: how far the log is written, durable and visible. Pure.
//!
//! On one node the only in-sync replica is the leader, so the high watermark follows the leader's own log: its durable end, or its
//! written end where the topic asks for `flush.mode=async`. Followers' progress joins here as a further minimum.
//!
//! ```text
//!   log_start          high_watermark  durable_end      log_end
//!      |--- visible to consumers ---|-- flushed --|-- page cache --|
//! ```
//! All ends are exclusive: the first offset that is *not* covered. `high_watermark <= log_end`, and it never goes back within an
//! epoch.

use std::collections::VecDeque;

use flumen_planted::{Bug, planted};
use flumen_protocol::id::{LeaderEpoch, Offset};

/// What an acknowledged record has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On disk: `fdatasync` has returned.
    Flushed,
    /// In the page cache (`flush.mode=async`, Kafka's default); after so many records a flush is due (`flush.messages`).
    Written { flush_messages: u64 },
}

/// Progress of the high watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advance {
    /// The new high watermark.
    pub(crate) high_watermark: Offset,
    /// How many bytes became visible.
    pub(crate) bytes: u64,
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Leader {
    epoch: LeaderEpoch,
    durability: Durability,
    log_end: Offset,
    durable_end: Offset,
    high_watermark: Offset,
    /// (end offset, bytes) of appends above the high watermark, oldest first.
    hidden: VecDeque<(Offset, u64)>,
}

impl Leader {
    /// A leader that begins with a log that ends at `log_end`, durable below `durable_end`.
    pub(crate) fn new(
        epoch: LeaderEpoch,
        durability: Durability,
        durable_end: Offset,
        log_end: Offset,
    ) -> Leader {
        let mut leader = Leader {
            epoch,
            durability,
            log_end,
            durable_end,
            high_watermark: 0,
            hidden: VecDeque::new(),
        };
        leader.high_watermark = leader.acknowledged_end();
        leader
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// `bytes` were appended and the log now ends at `log_end`. Reports may arrive out of order.
    pub(crate) fn on_append(&mut self, log_end: Offset, bytes: u64) -> Option<Advance> {
        if log_end > self.log_end {
            self.log_end = log_end;
            self.hidden.push_back((log_end, bytes));
        } else if let Some(last) = self.hidden.back_mut() {
            last.1 += bytes;
        }
        self.advance()
    }

    /// Everything below `durable_end` is on disk.
    pub(crate) fn on_flushed(&mut self, durable_end: Offset) -> Option<Advance> {
        self.durable_end = self.durable_end.max(durable_end);
        self.log_end = self.log_end.max(durable_end);
        self.advance()
    }

    /// The topic's `flush.mode` changed. The high watermark does not go back: what was visible stays visible.
    pub(crate) fn on_durability(&mut self, durability: Durability) -> Option<Advance> {
        self.durability = durability;
        self.advance()
    }

    /// Whether what was appended is to be flushed now: at once, or when enough has come together.
    pub(crate) fn is_flush_due(&self) -> bool {
        match self.durability {
            Durability::Flushed => true,
            Durability::Written { flush_messages } => self.unflushed() >= flush_messages,
        }
    }

    /// How many offsets are not on disk.
    pub(crate) fn unflushed(&self) -> u64 {
        u64::try_from(self.log_end - self.durable_end).unwrap_or(0)
    }

    fn acknowledged_end(&self) -> Offset {
        match self.durability {
            // Wrong: what is written is not yet safe.
            Durability::Flushed if planted(Bug::AckBeforeFlush) => self.log_end,
            Durability::Flushed => self.durable_end,
            Durability::Written { .. } => self.log_end,
        }
    }

    fn advance(&mut self) -> Option<Advance> {
        let end = self.acknowledged_end();
        if end <= self.high_watermark {
            return None;
        }
        self.high_watermark = end;
        let mut bytes = 0;
        while let Some(&(upto, size)) = self.hidden.front() {
            if upto > end {
                break;
            }
            bytes += size;
            self.hidden.pop_front();
        }
        Some(Advance {
            high_watermark: end,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_record_is_not_visible_before_the_flush() {
        let mut leader = Leader::new(0, Durability::Flushed, 10, 10);
        assert_eq!(leader.on_append(15, 500), None);
        assert_eq!(leader.on_append(20, 700), None);
        assert_eq!(leader.high_watermark(), 10);
        assert_eq!(
            leader.on_flushed(15),
            Some(Advance {
                high_watermark: 15,
                bytes: 500
            })
        );
        assert_eq!(leader.on_flushed(15), None);
        assert_eq!(
            leader.on_flushed(20),
            Some(Advance {
                high_watermark: 20,
                bytes: 700
            })
        );
    }

    #[test]
    fn with_async_flush_written_is_visible() {
        let mut leader = Leader::new(
            0,
            Durability::Written {
                flush_messages: u64::MAX,
            },
            0,
            3,
        );
        assert_eq!(leader.high_watermark(), 3);
        assert_eq!(
            leader.on_append(4, 80),
            Some(Advance {
                high_watermark: 4,
                bytes: 80
            })
        );
    }

    #[test]
    fn what_recovery_found_beyond_the_durable_end_waits_for_its_flush() {
        let mut leader = Leader::new(0, Durability::Flushed, 7, 9);
        assert_eq!(leader.high_watermark(), 7);
        assert_eq!(leader.on_flushed(9).map(|a| a.high_watermark), Some(9));
    }

    #[test]
    fn reports_of_appends_may_arrive_out_of_order() {
        let mut leader = Leader::new(
            0,
            Durability::Written {
                flush_messages: u64::MAX,
            },
            0,
            0,
        );
        assert_eq!(leader.on_append(4, 40).map(|a| a.high_watermark), Some(4));
        assert_eq!(leader.on_append(2, 20), None);
        assert_eq!(leader.high_watermark(), 4);
    }

    #[test]
    fn the_high_watermark_never_goes_back_when_a_topic_becomes_durable() {
        let mut leader = Leader::new(
            0,
            Durability::Written {
                flush_messages: u64::MAX,
            },
            0,
            5,
        );
        assert_eq!(leader.on_durability(Durability::Flushed), None);
        assert_eq!(leader.high_watermark(), 5);
    }

    #[test]
    fn a_topic_that_does_not_wait_for_the_disk_is_flushed_after_so_many_records() {
        let mut leader = Leader::new(0, Durability::Written { flush_messages: 3 }, 0, 0);
        leader.on_append(2, 20);
        assert_eq!((leader.high_watermark(), leader.is_flush_due()), (2, false));
        leader.on_append(3, 10);
        assert!(leader.is_flush_due());
        leader.on_flushed(3);
        assert_eq!((leader.unflushed(), leader.is_flush_due()), (0, false));
    }
}
