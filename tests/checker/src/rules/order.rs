//! The order of a partition: what was sent later lies later.

use std::collections::BTreeMap;

use crate::facts::{Facts, Value};
use crate::hash::HashMap;
use crate::history::{Partition, Producer, What};
use crate::{AnomalyKind, Findings};

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    order_of_a_producer(facts, findings);
    order_of_time(facts, findings);
}

/// The values of one idempotent producer lie in the order in which it sent them, whatever it had to send twice.
fn order_of_a_producer(facts: &Facts<'_>, findings: &mut Findings) {
    let mut last: HashMap<(u32, bool, Partition), &Value> = HashMap::default();
    for value in &facts.values {
        if value.producer == Producer::Plain || value.failed.is_some() {
            continue;
        }
        let Some((at, offset)) = value.place() else {
            continue;
        };
        let key = (value.process, value.txn().is_some(), value.partition);
        let before = last.insert(key, value);
        if let Some(before) = before
            && let Some((before_at, before_offset)) = before.place()
            && before_offset >= offset
        {
            findings.add(
                AnomalyKind::NonmonotonicSend,
                format!(
                    "{} sent {} and then {} to {}; they lie at offsets {before_offset} and {offset}",
                    facts.name(value.process),
                    before.value,
                    value.value,
                    value.partition
                ),
                [before.sent, before_at, value.sent, at],
                &[before_offset, offset],
            );
        }
    }
}

/// The end of a partition as far as anyone could know it, and the events that say so.
#[derive(Clone, Copy)]
struct End {
    offset: i64,
    at: usize,
    sent: usize,
}

/// A value that was sent when the log was known to reach some offset lies there or above, whoever sent it.
fn order_of_time(facts: &Facts<'_>, findings: &mut Findings) {
    let mut ends: BTreeMap<Partition, End> = BTreeMap::new();
    let mut sent = facts.values.iter();
    for (at, event) in facts.history.events.iter().enumerate() {
        let (partition, end) = match &event.what {
            What::Sent { .. } => {
                let value = sent.next().expect("a value for each event of this kind");
                taken(value, ends.get(&value.partition), findings);
                continue;
            }
            What::Acked { value, offset } => {
                let value = facts.find(*value).expect("acknowledged values were sent");
                let end = End {
                    offset: offset + 1,
                    at,
                    sent: value.sent,
                };
                (value.partition, end)
            }
            What::Polled(read) => {
                let end = End {
                    offset: read.marks.high_watermark,
                    at,
                    sent: at,
                };
                (read.partition, end)
            }
            _ => continue,
        };
        let known = ends.entry(partition).or_insert(end);
        if end.offset > known.offset {
            *known = end;
        }
    }
}

fn taken(value: &Value, end: Option<&End>, findings: &mut Findings) {
    let (Some(end), Some((at, offset))) = (end, value.place()) else {
        return;
    };
    if offset < end.offset {
        findings.add(
            AnomalyKind::OffsetTaken,
            format!(
                "{} was sent when {} was known to reach offset {}, and lies at offset {offset}",
                value.value, value.partition, end.offset
            ),
            [end.sent, end.at, value.sent, at],
            &[offset],
        );
    }
}
