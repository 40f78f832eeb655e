//! A short way to write histories by hand, and to say what they show.

use crate::history::{Group, History, Isolation, Marks, Outcome, Partition, Producer, Read, What};
use crate::{AnomalyKind, Promises, check, smallest};

/// Two partitions.
pub(crate) const A: Partition = Partition { topic: 0, index: 0 };
pub(crate) const B: Partition = Partition { topic: 0, index: 1 };

/// The only group.
pub(crate) const GROUP: Group = 0;

/// A history being written; each verb is one event of the process named last.
#[derive(Default)]
pub(crate) struct Story {
    history: History,
    process: u32,
    at_ms: u64,
}

pub(crate) fn story() -> Story {
    Story::default()
}

impl Story {
    pub(crate) fn by(mut self, process: u32) -> Story {
        self.process = process;
        self
    }

    pub(crate) fn at_ms(mut self, at_ms: u64) -> Story {
        self.at_ms = at_ms;
        self
    }

    pub(crate) fn and(mut self, what: What) -> Story {
        self.history.push(self.at_ms, self.process, what);
        self
    }

    fn sends(self, producer: Producer, partition: Partition, value: u64) -> Story {
        self.and(What::Sent {
            producer,
            partition,
            value,
        })
    }

    pub(crate) fn sends_plain(self, partition: Partition, value: u64) -> Story {
        self.sends(Producer::Plain, partition, value)
    }

    pub(crate) fn sends_once(self, partition: Partition, value: u64) -> Story {
        self.sends(Producer::Idempotent, partition, value)
    }

    pub(crate) fn sends_in(self, txn: u64, partition: Partition, value: u64) -> Story {
        self.sends(Producer::Transactional(txn), partition, value)
    }

    pub(crate) fn acked(self, value: u64, offset: i64) -> Story {
        self.and(What::Acked { value, offset })
    }

    /// Sent by an idempotent producer and acknowledged at once.
    pub(crate) fn wrote(self, partition: Partition, value: u64, offset: i64) -> Story {
        self.sends_once(partition, value).acked(value, offset)
    }

    /// Sent in a transaction and acknowledged at once.
    pub(crate) fn wrote_in(self, txn: u64, partition: Partition, value: u64, offset: i64) -> Story {
        self.sends_in(txn, partition, value).acked(value, offset)
    }

    pub(crate) fn begins(self, txn: u64) -> Story {
        self.and(What::TxnBegun { txn })
    }

    pub(crate) fn asks_commit(self, txn: u64) -> Story {
        self.and(What::TxnCommitting { txn })
    }

    pub(crate) fn committed(self, txn: u64) -> Story {
        self.and(What::TxnCommitted { txn })
    }

    /// Asked to and was told so.
    pub(crate) fn commits(self, txn: u64) -> Story {
        self.asks_commit(txn).committed(txn)
    }

    pub(crate) fn aborts(self, txn: u64) -> Story {
        self.and(What::TxnAborted { txn })
    }

    pub(crate) fn asks_for_id(self) -> Story {
        self.and(What::ProducerStarting {
            transactional_id: 0,
        })
    }

    pub(crate) fn has_id(self) -> Story {
        self.and(What::ProducerStarted {
            transactional_id: 0,
        })
    }

    pub(crate) fn adds_offset(self, txn: u64, generation: Option<i32>, offset: i64) -> Story {
        self.and(What::OffsetsSent {
            txn,
            group: GROUP,
            generation,
            partition: A,
            offset,
        })
    }

    fn read(
        isolation: Isolation,
        partition: Partition,
        range: (i64, i64),
        records: &[(i64, u64)],
    ) -> Read {
        Read {
            partition,
            isolation,
            from: range.0,
            next: range.1,
            records: records.to_vec(),
            marks: Marks::UNKNOWN,
        }
    }

    /// As a reader of committed data.
    pub(crate) fn polls(
        self,
        partition: Partition,
        range: (i64, i64),
        records: &[(i64, u64)],
    ) -> Story {
        let read = Story::read(Isolation::ReadCommitted, partition, range, records);
        self.and(What::Polled(read))
    }

    /// As a reader of uncommitted data.
    pub(crate) fn peeks(
        self,
        partition: Partition,
        range: (i64, i64),
        records: &[(i64, u64)],
    ) -> Story {
        let read = Story::read(Isolation::ReadUncommitted, partition, range, records);
        self.and(What::Polled(read))
    }

    /// At the end, from the start, as a reader of committed data.
    pub(crate) fn ends(self, partition: Partition, next: i64, records: &[(i64, u64)]) -> Story {
        let read = Story::read(Isolation::ReadCommitted, partition, (0, next), records);
        self.and(What::FinalRead(read))
    }

    /// What the last read was told of its partition.
    pub(crate) fn told(
        mut self,
        log_start: i64,
        last_stable_offset: i64,
        high_watermark: i64,
    ) -> Story {
        let event = self.history.events.last_mut().unwrap();
        let (What::Polled(read) | What::FinalRead(read)) = &mut event.what else {
            panic!("the last event is no read");
        };
        read.marks = Marks {
            high_watermark,
            last_stable_offset,
            log_start,
        };
        self
    }

    pub(crate) fn owns(self, generation: i32, partitions: &[Partition]) -> Story {
        self.and(What::Assigned {
            group: Some(GROUP),
            generation,
            partitions: partitions.to_vec(),
        })
    }

    pub(crate) fn gives_up(self, partitions: &[Partition]) -> Story {
        self.and(What::Revoked {
            partitions: partitions.to_vec(),
        })
    }

    /// Of partition A; a commit's number is 100 × its offset + `of`.
    pub(crate) fn asks_to_commit(self, of: u64, generation: Option<i32>, offset: i64) -> Story {
        self.and(What::OffsetsCommitting {
            commit: Story::commit(of, offset),
            group: GROUP,
            generation,
            partition: A,
            offset,
        })
    }

    pub(crate) fn told_of_commit(self, of: u64, offset: i64, outcome: Outcome) -> Story {
        self.and(What::OffsetsCommitted {
            commit: Story::commit(of, offset),
            outcome,
        })
    }

    fn commit(of: u64, offset: i64) -> u64 {
        100 * u64::try_from(offset).unwrap() + of
    }

    /// Asks to commit and is told that it is done.
    pub(crate) fn commits_offset(self, of: u64, offset: i64) -> Story {
        self.asks_to_commit(of, None, offset)
            .told_of_commit(of, offset, Outcome::Acked)
    }

    pub(crate) fn asks_for_offsets(self) -> Story {
        self.and(What::OffsetsFetching { group: GROUP })
    }

    pub(crate) fn hears(self, offset: i64) -> Story {
        self.and(What::OffsetsFetched {
            group: GROUP,
            partition: A,
            offset,
        })
    }

    pub(crate) fn finds(self, offset: i64) -> Story {
        self.asks_for_offsets().hears(offset)
    }

    /// Nothing is wrong with it.
    #[track_caller]
    pub(crate) fn is_legal(&self) {
        let anomalies = check(&self.history, &Promises::default());
        assert!(anomalies.is_empty(), "{anomalies:#?}\n{}", self.history);
    }

    /// It shows these, and its smallest history of each still shows that one.
    #[track_caller]
    pub(crate) fn shows(&self, kinds: &[AnomalyKind]) -> String {
        let anomalies = check(&self.history, &Promises::default());
        let found: Vec<_> = anomalies.iter().map(|anomaly| anomaly.kind).collect();
        assert_eq!(found, kinds, "{anomalies:#?}\n{}", self.history);
        for anomaly in &anomalies {
            let small = smallest(&self.history, anomaly);
            let again = check(&small, &Promises::default());
            let again = again.iter().find(|again| again.kind == anomaly.kind);
            assert!(again.is_some(), "{anomaly}: not in\n{small}");
            assert_eq!(
                again.unwrap().events.len(),
                small.events.len(),
                "{anomaly}: more than is needed in\n{small}"
            );
        }
        let first = anomalies.first().expect("one at least");
        format!("{first}\n{}", smallest(&self.history, first))
    }
}
