//! A reader that keeps its partition goes forward and passes over nothing it is owed.
//!
//! A gap between offsets is legal if nothing is known to lie there that this reader should be shown: markers, data of aborted
//! transactions (for readers of committed data), what was never written. What is known is what was acknowledged, or shown to
//! another reader. Below the start of the log nothing is owed.

use crate::facts::{Facts, Value, ValueId};
use crate::hash::HashMap;
use crate::history::{Isolation, Partition, Read, What};
use crate::{AnomalyKind, Findings};

/// Where a reader stands: its next offset, and the event of its last read.
type Position = (i64, usize);

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let owed = Owed::gather(facts);
    let mut positions: HashMap<u32, HashMap<Partition, Position>> = HashMap::default();
    for (at, event) in facts.history.events.iter().enumerate() {
        match &event.what {
            What::Assigned { partitions, .. } => {
                let held = positions.entry(event.process).or_default();
                held.retain(|partition, _| partitions.contains(partition));
            }
            What::Revoked { partitions } => {
                let held = positions.entry(event.process).or_default();
                held.retain(|partition, _| !partitions.contains(partition));
            }
            What::Polled(read) => {
                let held = positions.entry(event.process).or_default();
                if let Some(position) = held.insert(read.partition, (read.next, at)) {
                    between(facts, &owed, (position, at), read, findings);
                }
                within(facts, &owed, at, read, findings);
            }
            What::FinalRead(read) => {
                let start = read.marks.log_start;
                if start >= 0 && start < read.from {
                    let gap = Gap {
                        events: [at, at],
                        range: (start, read.from),
                        kind: AnomalyKind::IntPollSkip,
                    };
                    passed_over(facts, &owed, read, &gap, findings);
                }
                within(facts, &owed, at, read, findings);
            }
            _ => {}
        }
    }
}

/// What readers are owed, by offset.
struct Owed {
    committed: HashMap<Partition, Vec<(i64, ValueId)>>,
    all: HashMap<Partition, Vec<(i64, ValueId)>>,
}

impl Owed {
    fn gather(facts: &Facts<'_>) -> Owed {
        let mut owed = Owed {
            committed: HashMap::default(),
            all: HashMap::default(),
        };
        for (id, value) in (0..).zip(&facts.values) {
            let Some((_, offset)) = value.place() else {
                continue;
            };
            let all = owed.all.entry(value.partition).or_default();
            all.push((offset, id));
            if facts.is_committed(value) {
                let committed = owed.committed.entry(value.partition).or_default();
                committed.push((offset, id));
            }
        }
        for list in owed.committed.values_mut().chain(owed.all.values_mut()) {
            list.sort_unstable();
        }
        owed
    }

    /// The first value that a reader is owed at an offset in `[from, to)`.
    fn first(&self, read: &Read, from: i64, to: i64) -> Option<(i64, ValueId)> {
        let list = match read.isolation {
            Isolation::ReadCommitted => self.committed.get(&read.partition)?,
            Isolation::ReadUncommitted => self.all.get(&read.partition)?,
        };
        let at = list.partition_point(|(offset, _)| *offset < from);
        list.get(at).copied().filter(|(offset, _)| *offset < to)
    }
}

/// Offsets `range.0 .. range.1` that a reader passed without a record, and the events of its reads before and after.
struct Gap {
    events: [usize; 2],
    range: (i64, i64),
    kind: AnomalyKind,
}

fn between(
    facts: &Facts<'_>,
    owed: &Owed,
    ((next, before), at): (Position, usize),
    read: &Read,
    findings: &mut Findings,
) {
    if read.from < next {
        findings.add(
            AnomalyKind::NonmonotonicPoll,
            format!(
                "{} read {} up to {next} and goes on from {}",
                facts.name(facts.history.events[at].process),
                read.partition,
                read.from
            ),
            [before, at],
            &[read.from, next],
        );
        return;
    }
    let gap = Gap {
        events: [before, at],
        range: (next, read.from),
        kind: AnomalyKind::PollSkip,
    };
    passed_over(facts, owed, read, &gap, findings);
}

fn within(facts: &Facts<'_>, owed: &Owed, at: usize, read: &Read, findings: &mut Findings) {
    if disordered(at, read, findings) {
        return;
    }
    let mut position = read.from;
    for (offset, _) in &read.records {
        pass(facts, owed, (at, read), (position, *offset), findings);
        position = offset + 1;
    }
    pass(facts, owed, (at, read), (position, read.next), findings);
}

fn disordered(at: usize, read: &Read, findings: &mut Findings) -> bool {
    let mut position = read.from;
    for (offset, _) in &read.records {
        if *offset < position || *offset >= read.next {
            findings.add(
                AnomalyKind::IntNonmonotonicPoll,
                format!(
                    "{} shows offset {offset} at position {position} of {} to {}",
                    read.partition, read.from, read.next
                ),
                [at],
                &[*offset],
            );
            return true;
        }
        position = offset + 1;
    }
    false
}

fn pass(
    facts: &Facts<'_>,
    owed: &Owed,
    (at, read): (usize, &Read),
    range: (i64, i64),
    findings: &mut Findings,
) {
    if range.0 < range.1 {
        let gap = Gap {
            events: [at, at],
            range,
            kind: AnomalyKind::IntPollSkip,
        };
        passed_over(facts, owed, read, &gap, findings);
    }
}

fn passed_over(facts: &Facts<'_>, owed: &Owed, read: &Read, gap: &Gap, findings: &mut Findings) {
    let from = gap.range.0.max(read.marks.log_start);
    let Some((offset, id)) = owed.first(read, from, gap.range.1) else {
        return;
    };
    let value = &facts.values[id as usize];
    let kind = match (gap.kind, torn(facts, read, value)) {
        (_, true) => AnomalyKind::TornTransaction,
        (_, false) if value.seen.is_none() => AnomalyKind::LostWrite,
        (kind, false) => kind,
    };
    let reader = facts.name(facts.history.events[gap.events[1]].process);
    let place = format!("{}@{offset}", read.partition);
    let message = match kind {
        AnomalyKind::TornTransaction => format!(
            "{reader} passed {place} and was not shown {}; another value of transaction {} was shown as committed",
            value.value,
            value.txn().unwrap_or_default()
        ),
        AnomalyKind::LostWrite => format!(
            "{} was acknowledged at {place}, {reader} passed that, and nobody was ever shown it",
            value.value
        ),
        _ => format!("{reader} passed {place} and was not shown {}", value.value),
    };
    // What is owed to every reader was told to its sender, or shown to another.
    let told = [
        value.place().map(|place| place.0),
        value.seen.map(|seen| seen.0),
    ];
    let commit = match read.isolation {
        Isolation::ReadCommitted => value.txn().map(|txn| facts.commit_evidence(facts.txn(txn))),
        Isolation::ReadUncommitted => None,
    };
    let evidence = commit.into_iter().flatten();
    let events = told.into_iter().flatten().chain(gap.events).chain(evidence);
    findings.add(kind, message, events, &[offset]);
}

/// Whether readers of committed data were shown another value of its transaction and not this one.
fn torn(facts: &Facts<'_>, read: &Read, value: &Value) -> bool {
    read.isolation == Isolation::ReadCommitted
        && value.seen_committed.is_none()
        && value.txn().is_some_and(|txn| facts.txn(txn).seen.is_some())
}
