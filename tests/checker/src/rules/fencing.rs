//! A producer that was replaced writes and commits nothing any more.
//!
//! Process B replaces A if B asked for the transactional id after A had it: from the moment B has it, nothing that A sends may be
//! written, and no commit that A asks for may be carried out. What A had under way at that moment may have been in time. Who asked
//! side by side may have got it in either order; of those nothing is said. Nor may a process that was told that it is fenced be
//! told afterwards that something it sent later is written.

use std::collections::BTreeMap;

use crate::facts::Facts;
use crate::hash::HashMap;
use crate::history::What;
use crate::{AnomalyKind, Findings};

/// Since when a process may write nothing, and the events that say so.
struct Fence {
    since: usize,
    events: Vec<usize>,
    by: String,
}

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let fences = gather(facts);
    for value in &facts.values {
        // A process may have a producer without transactions besides, which nobody fences.
        let Some(fence) = value.txn().and_then(|_| fences.get(&value.process)) else {
            continue;
        };
        let written = value.place().or(value.acked);
        if let Some((at, offset)) = written.filter(|_| value.sent > fence.since) {
            findings.add(
                AnomalyKind::FencedWrite,
                format!(
                    "{} was fenced {}, sent {} afterwards, and it lies in {} at offset {offset}",
                    facts.name(value.process),
                    fence.by,
                    value.value,
                    value.partition
                ),
                fence.events.iter().copied().chain([value.sent, at]),
                &[offset],
            );
        }
    }
    for txn in facts.txns.values() {
        let (Some(fence), Some(committing), Some(committed)) =
            (fences.get(&txn.process), txn.committing, txn.committed)
        else {
            continue;
        };
        if committing > fence.since {
            findings.add(
                AnomalyKind::FencedWrite,
                format!(
                    "{} was fenced {}, and transaction {} was committed for it afterwards",
                    facts.name(txn.process),
                    fence.by,
                    txn.txn
                ),
                fence
                    .events
                    .iter()
                    .copied()
                    .chain([txn.begun, committing, committed]),
                &[],
            );
        }
    }
}

/// Processes that were given a transactional id and not replaced since, each with the event that gave it.
type Holders = Vec<(u32, usize)>;

fn gather(facts: &Facts<'_>) -> BTreeMap<u32, Fence> {
    let mut holders: HashMap<u32, Holders> = HashMap::default();
    let mut asking: HashMap<(u32, u32), usize> = HashMap::default();
    let mut fences: BTreeMap<u32, Fence> = BTreeMap::new();
    for (at, event) in facts.history.events.iter().enumerate() {
        match &event.what {
            What::ProducerStarting { transactional_id } => {
                asking.insert((event.process, *transactional_id), at);
            }
            What::ProducerStarted { transactional_id } => {
                let asked = asking
                    .remove(&(event.process, *transactional_id))
                    .unwrap_or(at);
                let holders = holders.entry(*transactional_id).or_default();
                holders.retain(|(holder, had)| {
                    let replaced = *had < asked && *holder != event.process;
                    if replaced {
                        fences.entry(*holder).or_insert_with(|| Fence {
                            since: at,
                            events: vec![*had, asked, at],
                            by: format!("by {}", facts.name(event.process)),
                        });
                    }
                    *had >= asked
                });
                holders.push((event.process, at));
            }
            What::Fenced => {
                fences.entry(event.process).or_insert_with(|| Fence {
                    since: at,
                    events: vec![at],
                    by: "as it was told".to_owned(),
                });
            }
            _ => {}
        }
    }
    fences
}
