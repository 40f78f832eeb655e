//! G1c: transaction A read a value of B, and B one of A, perhaps through others. Only committed transactions count, and only reads
//! of committed data; that one overwrites the other (ww edges) is nothing a log has an opinion on.
//!
//! A transaction's reads are those its process made since its transaction before asked for its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::facts::Facts;
use crate::hash::HashMap;
use crate::history::{Isolation, What};
use crate::{AnomalyKind, Findings};

/// Who read from whom, and the event of the read: edges from writer to reader.
type Edges = BTreeMap<u64, BTreeMap<u64, (usize, i64)>>;

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let edges = gather(facts);
    let mut in_circles = BTreeSet::new();
    for txn in on_circles(&edges) {
        if in_circles.contains(&txn) {
            continue;
        }
        let Some(circle) = shortest_circle(&edges, txn) else {
            continue;
        };
        in_circles.extend(circle.iter().copied());
        report(facts, &edges, &circle, findings);
    }
}

fn gather(facts: &Facts<'_>) -> Edges {
    let mut edges = Edges::new();
    let mut reads: HashMap<u32, Vec<(usize, i64, u64)>> = HashMap::default();
    let committed = |txn: u64| {
        let txn = facts.txn(txn);
        txn.aborted.is_none() && (txn.committed.is_some() || txn.seen.is_some())
    };
    let writers: BTreeSet<u32> = facts.txns.values().map(|txn| txn.process).collect();
    for (at, event) in facts.history.events.iter().enumerate() {
        if !writers.contains(&event.process) {
            continue;
        }
        match &event.what {
            What::Polled(read) if read.isolation == Isolation::ReadCommitted => {
                let writer = |value: u64| facts.find(value).and_then(|value| value.txn());
                let reads = reads.entry(event.process).or_default();
                for (offset, value) in &read.records {
                    // One read of each transaction is enough.
                    if let Some(writer) = writer(*value)
                        && reads.last().is_none_or(|last| last.2 != writer)
                    {
                        reads.push((at, *offset, writer));
                    }
                }
            }
            What::TxnCommitting { txn } => {
                for (read_at, offset, writer) in reads.remove(&event.process).unwrap_or_default() {
                    if writer != *txn && committed(writer) && committed(*txn) {
                        let readers = edges.entry(writer).or_default();
                        readers.entry(*txn).or_insert((read_at, offset));
                    }
                }
            }
            What::TxnAborted { .. } | What::TxnUnknown { .. } => {
                reads.remove(&event.process);
            }
            _ => {}
        }
    }
    edges
}

/// Transactions that may be on a circle: what is left when those without readers, or that read from nobody left, are taken away.
fn on_circles(edges: &Edges) -> Vec<u64> {
    let mut incoming: BTreeMap<u64, usize> = BTreeMap::new();
    for (writer, readers) in edges {
        incoming.entry(*writer).or_default();
        for reader in readers.keys() {
            *incoming.entry(*reader).or_default() += 1;
        }
    }
    let mut free: Vec<u64> = incoming
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(txn, _)| *txn)
        .collect();
    while let Some(txn) = free.pop() {
        incoming.remove(&txn);
        for reader in edges.get(&txn).into_iter().flat_map(BTreeMap::keys) {
            if let Some(count) = incoming.get_mut(reader) {
                *count -= 1;
                if *count == 0 {
                    free.push(*reader);
                }
            }
        }
    }
    incoming.into_keys().collect()
}

/// The shortest way from a transaction back to itself.
fn shortest_circle(edges: &Edges, start: u64) -> Option<Vec<u64>> {
    let mut came_from: BTreeMap<u64, u64> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(txn) = next.pop_front() {
        for reader in edges.get(&txn).into_iter().flat_map(BTreeMap::keys) {
            if *reader == start {
                let mut circle = vec![txn];
                while *circle.last()? != start {
                    circle.push(came_from[circle.last()?]);
                }
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(reader) {
                came_from.insert(*reader, txn);
                next.push_back(*reader);
            }
        }
    }
    None
}

fn report(facts: &Facts<'_>, edges: &Edges, circle: &[u64], findings: &mut Findings) {
    let mut events = Vec::new();
    let mut offsets = Vec::new();
    let mut words = Vec::new();
    for (at, writer) in circle.iter().enumerate() {
        let reader = circle[(at + 1) % circle.len()];
        let (read, offset) = edges[writer][&reader];
        events.push(read);
        offsets.push(offset);
        words.push(format!("{reader} read from {writer}"));
        events.extend(sent_at(facts, read, *writer));
        let txn = facts.txn(*writer);
        events.extend(
            [Some(txn.begun), txn.committing, txn.committed]
                .into_iter()
                .flatten(),
        );
    }
    findings.add(
        AnomalyKind::CircularFlow,
        format!("of the committed transactions, {}", words.join(", and ")),
        events,
        &offsets,
    );
}

/// The event that sent what this read shows of this transaction.
fn sent_at(facts: &Facts<'_>, read: usize, writer: u64) -> Option<usize> {
    let What::Polled(read) = &facts.history.events[read].what else {
        return None;
    };
    let mut values = read
        .records
        .iter()
        .filter_map(|(_, value)| facts.find(*value));
    values
        .find(|value| value.txn() == Some(writer))
        .map(|value| value.sent)
}
