//! Judges a history of what Kafka clients did and saw by Kafka's promises, knowing nothing of any broker.
//!
//! [`check`] reads a [`History`] and names every [`Anomaly`] in it, with the smallest set of events that shows it; [`smallest`]
//! makes a history of those alone, and a history prints as lines for people. It takes linear time, and n log n where it sorts.
//!
//! The names are those of Jepsen's Kafka tests. What is unknown is never held against anybody: a request without an answer may
//! have been carried out or not, now or later. What Kafka does not promise is no anomaly: transactions that write in each
//! other's midst (G0), offsets left out between two sends (control records, other producers), a reader that goes back because
//! its partition was given to it anew, records below the start of the log, a plain producer's retry that writes twice.
//!
//! ```
//! use flumen_checker::{AnomalyKind, History, Partition, Producer, Promises, What, check, smallest};
//! let orders = Partition { topic: 0, index: 0 };
//! let mut history = History::default();
//! history.name(1, "writer");
//! for (value, offset) in [(1, 0), (2, 0)] {
//!     history.push(10, 1, What::Sent { producer: Producer::Plain, partition: orders, value });
//!     history.push(20, 1, What::Acked { value, offset });
//! }
//! let anomalies = check(&history, &Promises::default());
//! assert_eq!(anomalies[0].kind, AnomalyKind::InconsistentOffsets);
//! println!("{}\n{}", anomalies[0], smallest(&history, &anomalies[0]));
//! ```

mod display;
mod facts;
mod hash;
mod history;
mod rules;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use history::{
    Event, Group, History, Isolation, Marks, Outcome, Partition, Producer, Read, What,
};

/// Anomalies of one kind that are kept: the first ones say what the thousandth would.
const OF_A_KIND_MAX: usize = 20;

/// What the history is held to, where that is a matter of choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promises {
    /// After the faults stopped, all that were expected to move must have done so within this time.
    pub moves_within_ms: u64,
}

impl Default for Promises {
    fn default() -> Promises {
        Promises {
            moves_within_ms: 30_000,
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal,)+) => {
        /// What can be wrong with a history.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AnomalyKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl AnomalyKind {
            /// All of them.
            pub const ALL: &[AnomalyKind] = &[$(AnomalyKind::$kind,)+];

            /// Its name, as Jepsen writes it where Jepsen has it.
            pub const fn name(self) -> &'static str {
                match self { $(AnomalyKind::$kind => $name,)+ }
            }
        }
    };
}

kinds! {
    /// Acknowledged, a reader passed its offset, and nobody ever read it; or read once, and gone at the end.
    LostWrite = "lost-write",
    /// Acknowledged, and never read after the full drain.
    Unseen = "unseen",
    /// One value of an idempotent or transactional producer at two offsets.
    Duplicate = "duplicate",
    /// Two values at one offset.
    InconsistentOffsets = "inconsistent-offsets",
    /// Read, though it was never sent there or was reported as certainly not written.
    Phantom = "phantom",
    /// A reader of committed data was shown a value of an aborted transaction.
    AbortedRead = "G1a",
    /// A reader of committed data was shown a value of a transaction before its commit was asked for.
    UncommittedRead = "uncommitted-read",
    /// A transaction was shown its own uncommitted values.
    PrecommittedRead = "precommitted-read",
    /// Committed transactions that read from each other in a circle.
    CircularFlow = "G1c",
    /// A part of a transaction is committed, a part is not.
    TornTransaction = "torn-transaction",
    /// A consumer that kept its partition passed over a record between two polls.
    PollSkip = "poll-skip",
    /// A consumer that kept its partition went back.
    NonmonotonicPoll = "nonmonotonic-poll",
    /// One poll passed over a record.
    IntPollSkip = "int-poll-skip",
    /// The records of one poll are not in the order of their offsets, or lie outside of what it covered.
    IntNonmonotonicPoll = "int-nonmonotonic-poll",
    /// Values of one idempotent producer lie in another order than they were sent in.
    NonmonotonicSend = "nonmonotonic-send",
    /// A value that was sent later got an offset that was already known to be taken.
    OffsetTaken = "offset-taken",
    /// High watermark, last stable offset or log start went back.
    MarkBack = "mark-back",
    /// The log start, last stable offset and high watermark are not in this order, or a record was shown that lies above them.
    MarksDisorder = "marks-disorder",
    /// After the drain the last stable offset is not the high watermark: a transaction hangs.
    LsoStuck = "lso-stuck",
    /// A fenced producer wrote, or committed.
    FencedWrite = "fenced-write",
    /// A group's committed offset went back to one that a later commit had replaced.
    GroupOffsetsBack = "group-offsets-back",
    /// A group's committed offset is none that was committed, or not the last one.
    GroupOffsetsWrong = "group-offsets-wrong",
    /// A partition has two owners in one generation of a group.
    TwoOwners = "two-owners",
    /// A commit by a member of an older generation was accepted.
    StaleCommit = "stale-commit",
    /// Did not move within the promised time after the faults stopped.
    NotMoving = "not-moving",
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One breach of a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Of which promise.
    pub kind: AnomalyKind,
    /// What happened, in a sentence.
    pub message: String,
    /// Indexes of the events that show it: no smaller set does. Ascending.
    pub events: Vec<usize>,
    /// The offsets it is about: of long reads, [`smallest`] keeps the records around these.
    pub offsets: Vec<i64>,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// All anomalies of the history, by kind and then in the order in which they happened; of one kind at most twenty.
///
/// # Panics
/// If the history contradicts itself, as in an outcome of something that was never asked for: then the recorder is wrong.
pub fn check(history: &History, promises: &Promises) -> Vec<Anomaly> {
    let facts = facts::Facts::gather(history);
    let mut findings = Findings::default();
    rules::values::check(&facts, &mut findings);
    rules::order::check(&facts, &mut findings);
    rules::polls::check(&facts, &mut findings);
    rules::transactions::check(&facts, &mut findings);
    rules::circles::check(&facts, &mut findings);
    rules::fencing::check(&facts, &mut findings);
    rules::marks::check(history, &mut findings);
    rules::offsets::check(&facts, &mut findings);
    rules::members::check(&facts, &mut findings);
    rules::liveness::check(history, promises, &mut findings);
    let mut anomalies: Vec<Anomaly> = findings.0.into_values().flatten().collect();
    for anomaly in &mut anomalies {
        anomaly.add_antecedents(&facts);
    }
    anomalies
}

impl Anomaly {
    /// Adds the events without which the others make no sense.
    fn add_antecedents(&mut self, facts: &facts::Facts<'_>) {
        let mut next = 0;
        while let Some(at) = self.events.get(next) {
            let before = facts.antecedent(*at);
            self.events
                .extend(before.filter(|before| !self.events.contains(before)));
            next += 1;
        }
        self.events.sort_unstable();
    }
}

/// The history with the events of one anomaly alone; of its reads the records around the offsets in question.
pub fn smallest(history: &History, anomaly: &Anomaly) -> History {
    let events = anomaly
        .events
        .iter()
        .map(|at| {
            let mut event = history.events[*at].clone();
            if let What::Polled(read) | What::FinalRead(read) = &mut event.what {
                keep_around(&mut read.records, &anomaly.offsets);
            }
            event
        })
        .collect();
    History {
        events,
        names: history.names.clone(),
    }
}

/// Keeps the records at these offsets and their neighbours.
fn keep_around(records: &mut Vec<(i64, u64)>, offsets: &[i64]) {
    let mut keep = vec![false; records.len()];
    for offset in offsets {
        for (at, (found, _)) in records.iter().enumerate() {
            let after = records.get(at + 1).is_none_or(|next| next.0 > *offset);
            let before = at == 0 || records[at - 1].0 < *offset;
            keep[at] |= found == offset || (found < offset && after) || (found > offset && before);
        }
    }
    let mut at = 0;
    records.retain(|_| {
        at += 1;
        keep[at - 1]
    });
}

/// What the rules found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings(BTreeMap<AnomalyKind, Vec<Anomaly>>);

impl Findings {
    /// Keeps an anomaly, unless there are enough of its kind. `events` in any order, also twice.
    pub(crate) fn add(
        &mut self,
        kind: AnomalyKind,
        message: String,
        events: impl IntoIterator<Item = usize>,
        offsets: &[i64],
    ) {
        let found = self.0.entry(kind).or_default();
        if found.len() >= OF_A_KIND_MAX {
            return;
        }
        let mut events: Vec<usize> = events.into_iter().collect();
        events.sort_unstable();
        events.dedup();
        found.push(Anomaly {
            kind,
            message,
            events,
            offsets: offsets.to_vec(),
        });
    }
}
