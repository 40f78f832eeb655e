//! A group's committed offset is the last one that was committed.
//!
//! Each partition of a group is a register. A commit takes effect at some moment between its two events, one without an answer at
//! some moment after its first or never; a transaction's offsets between the request for its commit and the answer. Among
//! themselves commits are ordered by their records, and a transaction's record is written when its offsets are sent: so a plain
//! commit in the midst of a transaction may stand although the transaction ends after it. What a reader is told must be an offset
//! whose commit was asked for, and that no later commit had replaced for certain when the reader asked.

use std::collections::BTreeMap;

use crate::facts::Facts;
use crate::hash::HashMap;
use crate::history::{Group, Outcome, Partition, What};
use crate::{AnomalyKind, Findings};

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let mut registers = Registers::default();
    for (at, event) in facts.history.events.iter().enumerate() {
        match &event.what {
            What::OffsetsCommitting {
                commit,
                group,
                partition,
                offset,
                ..
            } => {
                let place = (*group, *partition);
                let commit_of = Commit {
                    place,
                    offset: *offset,
                    since: at,
                };
                registers.commits.insert(*commit, commit_of);
                registers.begin(&commit_of);
            }
            What::OffsetsCommitted { commit, outcome } => {
                registers.end_commit(*commit, *outcome, at);
            }
            What::OffsetsFetching { group } => registers.asked(event.process, *group, at),
            What::OffsetsFetched {
                group,
                partition,
                offset,
            } => {
                let asked = registers.asked.get(&(event.process, *group)).copied();
                let told = Told {
                    at,
                    asked,
                    reader: event.process,
                    offset: *offset,
                };
                registers.told(facts, (*group, *partition), &told, findings);
            }
            other => registers.transaction(facts, other, at),
        }
    }
}

type Place = (Group, Partition);

/// A commit that was asked for, or sent in a transaction.
#[derive(Clone, Copy, Debug)]
struct Commit {
    place: Place,
    offset: i64,
    /// The event that asked, or sent.
    since: usize,
}

/// A commit of one offset, as far as it is known.
#[derive(Clone, Copy, Debug)]
struct Write {
    /// Its first event: among commits it counts from here.
    since: usize,
    /// Event of its outcome; none while it may still take effect.
    done: Option<usize>,
}

/// A commit that is certainly done.
#[derive(Clone, Copy, Debug)]
struct Done {
    offset: i64,
    since: usize,
    at: usize,
}

/// One partition of one group.
#[derive(Default)]
struct Register {
    /// By offset: the commits of it that may be what a reader is told; those that certainly never were are taken out.
    writes: HashMap<i64, Vec<Write>>,
    /// Commits that are done, each begun later than all before it: in the order of both events.
    done: Vec<Done>,
}

impl Register {
    /// The latest commit that was done before `asked`; what was done before it began is replaced.
    fn bar(&self, asked: usize) -> Option<Done> {
        let upto = self.done.partition_point(|done| done.at < asked);
        self.done[..upto].last().copied()
    }
}

#[derive(Default)]
struct Registers {
    registers: HashMap<Place, Register>,
    commits: HashMap<u64, Commit>,
    /// Offsets sent in each transaction that has not ended: the last for each partition.
    staged: HashMap<u64, BTreeMap<Place, Commit>>,
    /// When a process last asked for a group's offsets.
    asked: HashMap<(u32, Group), usize>,
}

struct Told {
    at: usize,
    asked: Option<usize>,
    reader: u32,
    offset: i64,
}

impl Registers {
    /// What a transaction does to the offsets it holds.
    fn transaction(&mut self, facts: &Facts<'_>, what: &What, at: usize) {
        match what {
            What::OffsetsSent {
                txn,
                group,
                partition,
                offset,
                ..
            } => {
                let staged = self.staged.entry(*txn).or_default();
                let place = (*group, *partition);
                let commit = Commit {
                    place,
                    offset: *offset,
                    since: at,
                };
                staged.insert(place, commit);
            }
            What::OffsetsRefused { txn, group } => {
                if let Some(staged) = self.staged.get_mut(txn) {
                    staged.retain(|(of, _), _| of != group);
                }
            }
            What::TxnCommitting { txn } => {
                for commit in self.staged.get(txn).cloned().unwrap_or_default().values() {
                    self.begin(commit);
                }
            }
            What::TxnCommitted { txn } => {
                for commit in self.staged.remove(txn).unwrap_or_default().values() {
                    self.end(commit, at, true);
                }
            }
            What::TxnAborted { txn } => {
                let asked = facts.txn(*txn).committing.is_some();
                for commit in self.staged.remove(txn).unwrap_or_default().values() {
                    if asked {
                        self.end(commit, at, false);
                    }
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, commit: &Commit) {
        let register = self.registers.entry(commit.place).or_default();
        let writes = register.writes.entry(commit.offset).or_default();
        writes.push(Write {
            since: commit.since,
            done: None,
        });
    }

    fn end_commit(&mut self, commit: u64, outcome: Outcome, at: usize) {
        let found = self.commits.remove(&commit);
        let commit = found
            .unwrap_or_else(|| panic!("commit {commit} has an outcome and was never asked for"));
        match outcome {
            Outcome::Acked => self.end(&commit, at, true),
            Outcome::Failed => self.end(&commit, at, false),
            Outcome::Unknown => {}
        }
    }

    fn end(&mut self, commit: &Commit, at: usize, done: bool) {
        let Commit {
            place,
            offset,
            since,
        } = *commit;
        let register = self.registers.entry(place).or_default();
        let writes = register.writes.entry(offset).or_default();
        if !done {
            // A reader that asks from now on must not be told it; one that was told it before was told too much, and that stays
            // unseen: it is the price of one pass.
            writes.retain(|write| write.since != since);
            return;
        }
        // What was done before says nothing more than what is done now; a consumer may commit one offset a thousand times.
        writes.retain(|write| write.done.is_none() && write.since != since);
        writes.push(Write {
            since,
            done: Some(at),
        });
        if register.done.last().is_none_or(|last| last.since < since) {
            register.done.push(Done { offset, since, at });
        }
    }

    fn asked(&mut self, process: u32, group: Group, at: usize) {
        self.asked.insert((process, group), at);
    }

    fn told(&self, facts: &Facts<'_>, place: Place, told: &Told, findings: &mut Findings) {
        let empty = Register::default();
        let register = self.registers.get(&place).unwrap_or(&empty);
        // Without the moment of the question nobody knows what was done before it.
        let bar = told.asked.and_then(|asked| register.bar(asked));
        let since = bar.map(|bar| bar.since);
        let fits =
            |write: &Write| since.is_none_or(|since| write.done.is_none_or(|done| done >= since));
        let writes = register.writes.get(&told.offset);
        let legal = match writes {
            Some(writes) => writes.iter().any(fits),
            None => false,
        } || (told.offset == -1 && bar.is_none());
        if legal {
            return;
        }
        let (group, partition) = place;
        let reader = facts.name(told.reader);
        let bar_events = bar.into_iter().flat_map(|bar| [bar.since, bar.at]);
        let events = bar_events.chain(told.asked).chain([told.at]);
        let replaced = writes.and_then(|writes| writes.last());
        match (bar, replaced) {
            (Some(bar), Some(replaced)) => findings.add(
                AnomalyKind::GroupOffsetsBack,
                format!(
                    "{reader} is told offset {} of {partition} for group {group}; a later commit had replaced it with {}",
                    told.offset, bar.offset
                ),
                events.chain([replaced.since]).chain(replaced.done),
                &[],
            ),
            (Some(bar), None) => findings.add(
                AnomalyKind::GroupOffsetsWrong,
                format!(
                    "{reader} is told offset {} of {partition} for group {group}, which nobody committed; {} was committed",
                    told.offset, bar.offset
                ),
                events,
                &[],
            ),
            (None, _) => findings.add(
                AnomalyKind::GroupOffsetsWrong,
                format!(
                    "{reader} is told offset {} of {partition} for group {group}, which nobody had asked to commit",
                    told.offset
                ),
                events.chain(self.staged_as(place, told.offset)),
                &[],
            ),
        }
    }

    /// The event that sent this offset in a transaction whose commit nobody asked for, if there is one.
    fn staged_as(&self, place: Place, offset: i64) -> Option<usize> {
        let staged = self.staged.values().filter_map(|staged| staged.get(&place));
        staged
            .filter(|commit| commit.offset == offset)
            .map(|commit| commit.since)
            .min()
    }
}
