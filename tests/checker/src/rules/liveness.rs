//! After the faults stopped everybody moves.

use std::collections::BTreeMap;

use crate::history::{History, What};
use crate::{AnomalyKind, Findings, Promises};

pub(crate) fn check(history: &History, promises: &Promises, findings: &mut Findings) {
    // Faults may come and stop more than once: each time counts for itself, as long as the quiet lasted.
    let mut waiting: BTreeMap<u32, (usize, u64)> = BTreeMap::new();
    for (at, event) in history.events.iter().enumerate() {
        for late in overdue(&mut waiting, event.at_ms) {
            report(history, promises, late, findings);
        }
        match &event.what {
            What::FaultsStopped { expected } => {
                let until = event.at_ms + promises.moves_within_ms;
                waiting.extend(expected.iter().map(|who| (*who, (at, until))));
            }
            What::Moved { who } => {
                waiting.remove(who);
            }
            What::Crashed { .. } => waiting.clear(),
            _ => {}
        }
    }
}

/// Takes out those whose time was over before `now_ms`: who, and the event since when they were expected.
fn overdue(waiting: &mut BTreeMap<u32, (usize, u64)>, now_ms: u64) -> Vec<(u32, usize)> {
    let late = waiting.iter().filter(|(_, (_, until))| *until < now_ms);
    let late: Vec<_> = late.map(|(who, (since, _))| (*who, *since)).collect();
    for (who, _) in &late {
        waiting.remove(who);
    }
    late
}

fn report(
    history: &History,
    promises: &Promises,
    (who, since): (u32, usize),
    findings: &mut Findings,
) {
    let name = match history.names.get(&who) {
        Some(name) => name.clone(),
        None => format!("p{who}"),
    };
    let last = history.events[..since]
        .iter()
        .rposition(|event| event.what == What::Moved { who });
    findings.add(
        AnomalyKind::NotMoving,
        format!(
            "{name} did not move for {} ms after the faults stopped",
            promises.moves_within_ms
        ),
        last.into_iter().chain([since, history.events.len() - 1]),
        &[],
    );
}
