//! One value, one place: phantoms, duplicates, two values at one offset, and acknowledged values that nobody is ever shown.
//!
//! A value that a reader passed over is found by [`super::polls`]; here are those that no reader got as far as.

use crate::facts::{Facts, Value};
use crate::hash::HashMap;
use crate::history::{Isolation, Partition, Producer, Read};
use crate::{AnomalyKind, Findings};

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let mut places = Places::default();
    for value in &facts.values {
        if let Some((at, offset)) = value.acked.filter(|(_, offset)| *offset >= 0) {
            places.note(
                value.partition,
                offset,
                (value.value, at, value.sent),
                findings,
            );
        }
    }
    let mut doubled = Doubled::default();
    for (at, _, read) in facts.history.reads() {
        for (offset, number) in &read.records {
            let sent = facts.find(*number);
            let since = sent.map_or(at, |value| value.sent);
            places.note(read.partition, *offset, (*number, at, since), findings);
            match sent {
                Some(value) if value.partition == read.partition && value.failed.is_none() => {
                    doubled.note(value, at, *offset, findings);
                }
                Some(value) => phantom(facts, value, at, (read, *offset), findings),
                None => findings.add(
                    AnomalyKind::Phantom,
                    format!(
                        "{}@{offset} shows {number}, which nobody sent",
                        read.partition
                    ),
                    [at],
                    &[*offset],
                ),
            }
        }
    }
    unseen(facts, findings);
}

/// What lies where: value, the event that says so, and the event it was sent in.
#[derive(Default)]
struct Places(HashMap<(Partition, i64), (u64, usize, usize)>);

impl Places {
    fn note(
        &mut self,
        partition: Partition,
        offset: i64,
        (value, at, sent): (u64, usize, usize),
        findings: &mut Findings,
    ) {
        let first = self
            .0
            .entry((partition, offset))
            .or_insert((value, at, sent));
        if first.0 != value {
            findings.add(
                AnomalyKind::InconsistentOffsets,
                format!("{partition}@{offset} is {} and is {value}", first.0),
                [first.1, first.2, at, sent],
                &[offset],
            );
        }
    }
}

/// Values that were found at two offsets; each is reported once.
#[derive(Default)]
struct Doubled(HashMap<u64, ()>);

impl Doubled {
    fn note(&mut self, value: &Value, at: usize, offset: i64, findings: &mut Findings) {
        let Some((first_at, first)) = value.place() else {
            return;
        };
        if first == offset || value.producer == Producer::Plain {
            return;
        }
        if self.0.insert(value.value, ()).is_none() {
            findings.add(
                AnomalyKind::Duplicate,
                format!(
                    "{} lies in {} at offset {first} and at offset {offset}",
                    value.value, value.partition
                ),
                [value.sent, first_at, at],
                &[first, offset],
            );
        }
    }
}

fn phantom(
    facts: &Facts<'_>,
    value: &Value,
    at: usize,
    (read, offset): (&Read, i64),
    findings: &mut Findings,
) {
    let sender = facts.name(value.process);
    let message = match value.failed {
        Some(_) => format!(
            "{}@{offset} shows {}, which {sender} was told is not written",
            read.partition, value.value
        ),
        None => format!(
            "{}@{offset} shows {}, which {sender} sent to {}",
            read.partition, value.value, value.partition
        ),
    };
    let events = [Some(value.sent), value.failed, Some(at)];
    findings.add(
        AnomalyKind::Phantom,
        message,
        events.into_iter().flatten(),
        &[offset],
    );
}

/// Acknowledged values above the end of the last read of their partition.
fn unseen(facts: &Facts<'_>, findings: &mut Findings) {
    let mut ends: HashMap<Partition, (usize, &Read)> = HashMap::default();
    for (at, read) in facts.history.final_reads() {
        // The reader of uncommitted data gets as far as anyone does; a hanging transaction is another rule's.
        let first = ends.entry(read.partition).or_insert((at, read));
        if read.isolation == Isolation::ReadUncommitted {
            *first = (at, read);
        }
    }
    for value in &facts.values {
        let (Some((acked, offset)), Some((end, read))) = (value.acked, ends.get(&value.partition))
        else {
            continue;
        };
        let committed = facts.is_committed(value);
        if acked > *end || !committed {
            continue;
        }
        // Without an offset the value may lie anywhere; it is gone for certain only if nothing was ever deleted.
        let gone = match offset {
            0.. => offset >= read.next && value.seen.is_none_or(|(at, _)| at != *end),
            _ => value.seen.is_none() && read.marks.log_start == 0,
        };
        if !gone {
            continue;
        }
        let seen = value.seen.map(|(at, _)| at);
        let kind = match seen {
            None => AnomalyKind::Unseen,
            Some(_) => AnomalyKind::LostWrite,
        };
        let told = match offset {
            0.. => format!(
                "{} was acknowledged at {}@{offset}",
                value.value, value.partition
            ),
            _ => format!("{} was acknowledged in {}", value.value, value.partition),
        };
        let message = match seen {
            None => format!(
                "{told}, nobody ever read it, and the log ends at {}",
                read.next
            ),
            Some(_) => format!(
                "{told} and read, and in the end the log ends at {}",
                read.next
            ),
        };
        let events = [Some(value.sent), Some(acked), seen, Some(*end)];
        let commit = value.txn().map(|txn| facts.commit_evidence(facts.txn(txn)));
        findings.add(
            kind,
            message,
            events
                .into_iter()
                .flatten()
                .chain(commit.into_iter().flatten()),
            &[offset],
        );
    }
}
