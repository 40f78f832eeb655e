//! What is judged: events of clients in the order in which they happened, on one timeline.
//!
//! Every request leaves two events, one before it is sent (`Sent`, `TxnCommitting`, `OffsetsCommitting`, …) and one when its
//! outcome is known. What lies between them may have happened at any moment in between; that is all a client can know, and the
//! rules ask for no more. A request whose second event is missing is one with an unknown outcome.

use std::collections::BTreeMap;

/// What the clients did and saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// Names of the processes and roles, for people.
    pub names: BTreeMap<u32, String>,
}

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Virtual time in milliseconds; only the liveness rules read it.
    pub at_ms: u64,
    /// Who: one run of one client. A client that is started again, or makes a new producer, is another process.
    pub process: u32,
    /// What it did or saw.
    pub what: What,
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Number of the topic.
    pub topic: u16,
    /// Number of the partition in it.
    pub index: u16,
}

/// A consumer group, by number.
pub type Group = u16;

/// By what means a value was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Producer {
    /// Without a producer id: a retry may write it twice.
    Plain,
    /// With a producer id and a sequence.
    Idempotent,
    /// Inside the transaction with this number. A transaction's number is unique for ever: each attempt has its own.
    Transactional(u64),
}

/// What a reader is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Committed transactions, and what was sent outside of transactions.
    ReadCommitted,
    /// Everything below the high watermark.
    ReadUncommitted,
}

/// Where a partition stood, as told in a fetch response; −1 where it was not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// End of what consumers may read.
    pub high_watermark: i64,
    /// First offset of a transaction that is still open, or the high watermark.
    pub last_stable_offset: i64,
    /// First offset that was not deleted.
    pub log_start: i64,
}

impl Marks {
    /// Nothing was told.
    pub const UNKNOWN: Marks = Marks {
        high_watermark: -1,
        last_stable_offset: -1,
        log_start: -1,
    };
}

/// What a reader got of one partition. It moved from offset `from` to `next` and was given `records` on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Of which partition.
    pub partition: Partition,
    /// What the reader may see.
    pub isolation: Isolation,
    /// The reader's position before. If it is not known, the first record's offset.
    pub from: i64,
    /// The reader's position afterwards: all offsets in `[from, next)` were passed. If it is not known, the last record's offset + 1.
    pub next: i64,
    /// Offset and value.
    pub records: Vec<(i64, u64)>,
    /// As told by the response the records came in, or a later one.
    pub marks: Marks,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Told that it is done.
    Acked,
    /// Told that it is certainly not done, and will not be.
    Failed,
    /// Not told, or in words that leave it open: it may be done, now or later.
    Unknown,
}

/// An event's kind and data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    // --- producers
    /// Asks for the producer id of a transactional id (`InitProducerId`).
    ProducerStarting {
        /// Number of the transactional id.
        transactional_id: u32,
    },
    /// Was given it: processes that were given it before this one asked are fenced from now on.
    ProducerStarted {
        /// Number of the transactional id.
        transactional_id: u32,
    },
    /// Was told that another producer took over its transactional id.
    Fenced,
    /// Sends a value. Values are unique for ever.
    Sent {
        /// By what means.
        producer: Producer,
        /// Where to.
        partition: Partition,
        /// What.
        value: u64,
    },
    /// Was told the value's offset; −1 if it was told that the value is written, not where.
    Acked {
        /// What.
        value: u64,
        /// Where it was written.
        offset: i64,
    },
    /// Was told that the value is certainly not written.
    Failed {
        /// What.
        value: u64,
    },
    /// The value may be written or not.
    Unknown {
        /// What.
        value: u64,
    },
    /// Begins a transaction.
    TxnBegun {
        /// Its number.
        txn: u64,
    },
    /// Adds a group's offset to the transaction. Recorded when asked; without `OffsetsRefused` after it, it counts as accepted
    /// if the transaction commits.
    OffsetsSent {
        /// The transaction.
        txn: u64,
        /// Whose offset.
        group: Group,
        /// The generation the member says it is in, if it says so.
        generation: Option<i32>,
        /// Of which partition.
        partition: Partition,
        /// Next offset to read.
        offset: i64,
    },
    /// The transaction's offsets were refused.
    OffsetsRefused {
        /// The transaction.
        txn: u64,
        /// Whose offsets.
        group: Group,
    },
    /// Asks for the transaction to be committed. Before this event nobody may see any of it.
    TxnCommitting {
        /// Its number.
        txn: u64,
    },
    /// Was told that it is committed.
    TxnCommitted {
        /// Its number.
        txn: u64,
    },
    /// Was told that it is aborted, or never asked for a commit and was told that it cannot any more.
    TxnAborted {
        /// Its number.
        txn: u64,
    },
    /// Gave up without an answer: committed, aborted, or still to be.
    TxnUnknown {
        /// Its number.
        txn: u64,
    },

    // --- consumers
    /// Owns these partitions of the group from now on. Partitions it owned before and still does are named again. A static member
    /// that comes back without a rebalance is given what its former self owned: that must have been revoked, in its name.
    Assigned {
        /// In which group; none if the consumer chose the partitions itself.
        group: Option<Group>,
        /// The group's generation; 0 without a group.
        generation: i32,
        /// All that it owns now.
        partitions: Vec<Partition>,
    },
    /// Does not own them any more, or moved its position in them itself (seek, reset).
    Revoked {
        /// Those.
        partitions: Vec<Partition>,
    },
    /// Was given records, or none.
    Polled(Read),
    /// Asks for a group's committed offset to be set: one event for each partition.
    OffsetsCommitting {
        /// Number of the commit: one for each partition, unique for ever.
        commit: u64,
        /// Whose offset.
        group: Group,
        /// The generation the member says it is in, if it says so.
        generation: Option<i32>,
        /// Of which partition.
        partition: Partition,
        /// Next offset to read.
        offset: i64,
    },
    /// The commit ended.
    OffsetsCommitted {
        /// Which.
        commit: u64,
        /// How.
        outcome: Outcome,
    },
    /// Asks for a group's committed offsets.
    OffsetsFetching {
        /// Whose.
        group: Group,
    },
    /// Was told one of them, in answer to this process's last `OffsetsFetching` of the group. That offsets go with a deleted group or
    /// topic, or expire, is not part of a history.
    OffsetsFetched {
        /// Whose.
        group: Group,
        /// Of which partition.
        partition: Partition,
        /// Next offset to read; −1 if none is committed.
        offset: i64,
    },

    // --- the world
    /// A host lost its memory, and what it had not made durable.
    Crashed {
        /// Which.
        host: u32,
    },
    /// A host runs again.
    Restarted {
        /// Which.
        host: u32,
    },
    /// From now on nothing is broken any more: all these must move within the promised time.
    FaultsStopped {
        /// Roles or processes, as in [`What::Moved`].
        expected: Vec<u32>,
    },
    /// Got something done.
    Moved {
        /// Who: a role outlives the processes that play it, so it has a number of its own.
        who: u32,
    },
    /// After the drain, when every transaction should have ended: a partition read from its beginning to its end.
    FinalRead(Read),
}

impl History {
    /// Adds an event; its index.
    pub fn push(&mut self, at_ms: u64, process: u32, what: What) -> usize {
        self.events.push(Event {
            at_ms,
            process,
            what,
        });
        self.events.len() - 1
    }

    /// Gives a process or role a name.
    pub fn name(&mut self, number: u32, name: impl Into<String>) {
        self.names.insert(number, name.into());
    }

    /// All reads with their event's index, the final ones too.
    pub(crate) fn reads(&self) -> impl Iterator<Item = (usize, &Event, &Read)> {
        self.events
            .iter()
            .enumerate()
            .filter_map(|(at, event)| match &event.what {
                What::Polled(read) | What::FinalRead(read) => Some((at, event, read)),
                _ => None,
            })
    }

    /// The reads after the drain.
    pub(crate) fn final_reads(&self) -> impl Iterator<Item = (usize, &Read)> {
        self.events
            .iter()
            .enumerate()
            .filter_map(|(at, event)| match &event.what {
                What::FinalRead(read) => Some((at, read)),
                _ => None,
            })
    }
}
