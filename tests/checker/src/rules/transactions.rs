//! Who reads committed data is shown nothing of a transaction before its commit was asked for, and nothing of an aborted one, ever.

use std::collections::HashSet;

use crate::facts::{Facts, Txn, Value};
use crate::history::{Isolation, Read};
use crate::{AnomalyKind, Findings};

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let mut reported = HashSet::new();
    for (at, event, read) in facts.history.reads() {
        if read.isolation == Isolation::ReadUncommitted {
            continue;
        }
        for (offset, value) in &read.records {
            let Some(value) = facts.find(*value) else {
                continue;
            };
            let Some(txn) = value.txn().map(|txn| facts.txn(txn)) else {
                continue;
            };
            let early = txn.committing.is_none_or(|committing| committing > at);
            if (early || txn.aborted.is_some()) && reported.insert(txn.txn) {
                let shown = Shown {
                    at,
                    reader: event.process,
                    read,
                    offset: *offset,
                };
                report(facts, (value, txn), &shown, findings);
            }
        }
    }
}

struct Shown<'a> {
    at: usize,
    reader: u32,
    read: &'a Read,
    offset: i64,
}

fn report(
    facts: &Facts<'_>,
    (value, txn): (&Value, &Txn),
    shown: &Shown<'_>,
    findings: &mut Findings,
) {
    let kind = if txn.aborted.is_some() {
        AnomalyKind::AbortedRead
    } else if txn.process == shown.reader {
        AnomalyKind::PrecommittedRead
    } else {
        AnomalyKind::UncommittedRead
    };
    let why = match kind {
        AnomalyKind::AbortedRead => "which is aborted",
        AnomalyKind::PrecommittedRead => "its own, before it asked for the commit",
        _ => "whose commit nobody had asked for",
    };
    let message = format!(
        "{} was shown {} at {}@{} of transaction {}, {why}",
        facts.name(shown.reader),
        value.value,
        shown.read.partition,
        shown.offset,
        txn.txn
    );
    let events = [
        Some(txn.begun),
        Some(value.sent),
        txn.committing.filter(|committing| *committing < shown.at),
        txn.aborted,
        Some(shown.at),
    ];
    findings.add(kind, message, events.into_iter().flatten(), &[shown.offset]);
}
