//! Membership of groups: in one generation a partition has one owner at a time (a static member that comes back into its place has a
//! former self to give it up), and once a generation has begun the commits of members of
//! older ones are refused.

use crate::facts::Facts;
use crate::hash::HashMap;
use crate::history::{Group, Outcome, Partition, What};
use crate::{AnomalyKind, Findings};

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let mut members = Members::default();
    for (at, event) in facts.history.events.iter().enumerate() {
        match &event.what {
            What::Assigned {
                group: Some(group),
                generation,
                partitions,
            } => {
                let generation = (*group, *generation);
                for partition in partitions {
                    let owned = (generation, *partition);
                    members.own(facts, owned, (event.process, at), findings);
                }
                members.raise(generation, at);
            }
            What::Revoked { partitions } => {
                for partition in partitions {
                    members.disown(event.process, *partition);
                }
            }
            What::OffsetsCommitting {
                commit,
                group,
                generation: Some(generation),
                ..
            } => {
                let stale = members.outdated(*group, *generation, at);
                members.commits.extend(stale.map(|stale| (*commit, stale)));
            }
            What::OffsetsCommitted {
                commit,
                outcome: Outcome::Acked,
            } => {
                if let Some(stale) = members.commits.remove(commit) {
                    stale.report(facts, "its commit was carried out", [at], findings);
                }
            }
            What::OffsetsSent {
                txn,
                group,
                generation: Some(generation),
                ..
            } => {
                let stale = members.outdated(*group, *generation, at);
                members.txns.entry(*txn).or_default().extend(stale);
            }
            What::OffsetsRefused { txn, group } => {
                if let Some(stale) = members.txns.get_mut(txn) {
                    stale.retain(|stale| stale.group != *group);
                }
            }
            What::TxnCommitted { txn } => {
                for stale in members.txns.remove(txn).unwrap_or_default().iter().take(1) {
                    let said = format!("its transaction {txn} was committed");
                    stale.report(facts, &said, [facts.txn(*txn).begun, at], findings);
                }
            }
            _ => {}
        }
    }
}

type Generation = (Group, i32);

#[derive(Default)]
struct Members {
    owners: HashMap<(Generation, Partition), (u32, usize)>,
    /// In which generation a process came to own a partition last.
    held: HashMap<(u32, Partition), Generation>,
    /// The newest generation of each group that any member knows of, and the event that says so.
    newest: HashMap<Group, (i32, usize)>,
    /// Commits under way that are too late.
    commits: HashMap<u64, Stale>,
    txns: HashMap<u64, Vec<Stale>>,
}

/// A commit by a member of `generation`, asked for when `newest` had begun.
struct Stale {
    group: Group,
    generation: i32,
    newest: (i32, usize),
    asked: usize,
}

impl Members {
    fn own(
        &mut self,
        facts: &Facts<'_>,
        (generation, partition): (Generation, Partition),
        (process, at): (u32, usize),
        findings: &mut Findings,
    ) {
        self.held.insert((process, partition), generation);
        let owner = self
            .owners
            .entry((generation, partition))
            .or_insert((process, at));
        if owner.0 != process {
            findings.add(
                AnomalyKind::TwoOwners,
                format!(
                    "{partition} belongs to {} and to {} in generation {} of group {}",
                    facts.name(owner.0),
                    facts.name(process),
                    generation.1,
                    generation.0
                ),
                [owner.1, at],
                &[],
            );
        }
    }

    fn disown(&mut self, process: u32, partition: Partition) {
        let Some(generation) = self.held.remove(&(process, partition)) else {
            return;
        };
        let place = (generation, partition);
        if self
            .owners
            .get(&place)
            .is_some_and(|owner| owner.0 == process)
        {
            self.owners.remove(&place);
        }
    }

    fn raise(&mut self, (group, generation): Generation, at: usize) {
        let newest = self.newest.entry(group).or_insert((generation, at));
        if generation > newest.0 {
            *newest = (generation, at);
        }
    }

    fn outdated(&self, group: Group, generation: i32, asked: usize) -> Option<Stale> {
        let newest = *self.newest.get(&group)?;
        (newest.0 > generation).then_some(Stale {
            group,
            generation,
            newest,
            asked,
        })
    }
}

impl Stale {
    fn report(
        &self,
        facts: &Facts<'_>,
        said: &str,
        events: impl IntoIterator<Item = usize>,
        findings: &mut Findings,
    ) {
        let who = facts.name(facts.history.events[self.asked].process);
        findings.add(
            AnomalyKind::StaleCommit,
            format!(
                "{who} is a member of generation {} of group {}; generation {} had begun, and {said}",
                self.generation, self.group, self.newest.0
            ),
            [self.newest.1, self.asked].into_iter().chain(events),
            &[],
        );
    }
}
