//! What happened: the history for the checker, and a text that two runs of one seed must share byte for byte.
//!
//! Everybody who takes part writes here at the moment it happens; the simulation has one thread, so the order is the order. Numbers of
//! roles, processes, values, transactions and commits are given out here, because they must be unique for ever.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flumen_checker::{History, Outcome, What};

use crate::ledger::Ledger;
use crate::oracle::Copies;
use crate::summary::Counters;

/// Roles have the numbers below, processes those from here on.
const FIRST_PROCESS: u32 = 1_000;
/// Who speaks where nobody of the workload does.
const WORLD: u32 = 0;

/// Shared by all. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    state: Arc<Mutex<State>>,
    pub(crate) counters: Arc<Counters>,
}

#[derive(Debug)]
struct State {
    history: History,
    /// Time where no host runs.
    now: Duration,
    next_process: u32,
    next_number: u64,
    notes: Vec<String>,
    flaws: Vec<String>,
    copies: Copies,
    ledger: Ledger,
}

impl Recorder {
    pub(crate) fn new(counters: Arc<Counters>) -> Recorder {
        let mut history = History::default();
        history.name(WORLD, "world");
        let state = State {
            history,
            now: Duration::ZERO,
            next_process: FIRST_PROCESS,
            next_number: 1,
            notes: Vec::new(),
            flaws: Vec::new(),
            copies: Copies::new(),
            ledger: Ledger::default(),
        };
        Recorder {
            state: Arc::new(Mutex::new(state)),
            counters,
        }
    }

    /// The time of the driver, between two steps.
    pub(crate) fn set_now(&self, now: Duration) {
        self.state.lock().unwrap().now = now;
    }

    /// A role outlives the processes that play it.
    pub(crate) fn name_role(&self, role: u32, name: &str) {
        assert!(WORLD < role && role < FIRST_PROCESS);
        self.state.lock().unwrap().history.name(role, name);
    }

    /// A new process that plays `role`.
    pub(crate) fn process(&self, role: u32) -> Journal {
        let mut state = self.state.lock().unwrap();
        let process = state.next_process;
        state.next_process += 1;
        let name = state.history.names.get(&role).cloned().unwrap_or_default();
        let name = format!("{name}#{}", process - FIRST_PROCESS);
        state.history.name(process, name);
        Journal {
            recorder: self.clone(),
            role,
            process,
        }
    }

    /// A number nobody else has: of a value, a transaction, a commit.
    pub(crate) fn number(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.next_number += 1;
        state.next_number - 1
    }

    /// Something the world did.
    pub(crate) fn world(&self, what: What) {
        self.push(WORLD, what);
    }

    /// A line for the text that is not for the checker.
    pub(crate) fn note(&self, what: impl fmt::Display) {
        let mut state = self.state.lock().unwrap();
        let at = state.at();
        state.notes.push(format!("{at:?} {what}"));
    }

    /// What a host found wrong by a rule of its own.
    pub(crate) fn flaw(&self, what: String) {
        self.note(&what);
        self.state.lock().unwrap().flaws.push(what);
    }

    pub(crate) fn flaws(&self) -> Vec<String> {
        self.state.lock().unwrap().flaws.clone()
    }

    fn push(&self, process: u32, what: What) {
        self.count(&what);
        let mut state = self.state.lock().unwrap();
        let at_ms = u64::try_from(state.at().as_millis()).unwrap();
        state.history.push(at_ms, process, what);
    }

    fn count(&self, what: &What) {
        let counters = &self.counters;
        match what {
            What::Acked { .. } => counters.records_acked.add(1),
            What::Unknown { .. } => counters.records_unknown.add(1),
            What::TxnCommitted { .. } => counters.commits.add(1),
            What::TxnAborted { .. } => counters.aborts.add(1),
            What::TxnUnknown { .. } => counters.transactions_unknown.add(1),
            What::Fenced => counters.fencings.add(1),
            What::Assigned { group: Some(_), .. } => counters.rebalances.add(1),
            What::OffsetsCommitted {
                outcome: Outcome::Acked,
                ..
            } => counters.group_commits.add(1),
            What::Polled(read) => counters.records_read.add(read.records.len() as u64),
            _ => {}
        }
    }

    /// The roles that have moved since the faults stopped.
    pub(crate) fn moved(&self) -> Vec<u32> {
        let state = self.state.lock().unwrap();
        let events = &state.history.events;
        let stopped = events
            .iter()
            .rposition(|event| matches!(event.what, What::FaultsStopped { .. }))
            .unwrap_or(events.len());
        let mut moved: Vec<u32> = events[stopped..]
            .iter()
            .filter_map(|event| match event.what {
                What::Moved { who } => Some(who),
                _ => None,
            })
            .collect();
        moved.sort_unstable();
        moved.dedup();
        moved
    }

    pub(crate) fn copies(&self) -> Copies {
        self.state.lock().unwrap().copies.clone()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.state.lock().unwrap().ledger.clone()
    }

    pub(crate) fn history(&self) -> History {
        self.state.lock().unwrap().history.clone()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.state.lock().unwrap().notes.clone()
    }
}

impl State {
    fn at(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or(self.now)
    }
}

/// The pen of one process.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    recorder: Recorder,
    role: u32,
    process: u32,
}

impl Journal {
    pub(crate) fn record(&self, what: What) {
        self.recorder.push(self.process, what);
    }

    /// The role got something done.
    pub(crate) fn moved(&self) {
        self.record(What::Moved { who: self.role });
    }

    /// A number nobody else has.
    pub(crate) fn number(&self) -> u64 {
        self.recorder.number()
    }

    /// The group refused so many commits.
    pub(crate) fn refused(&self, commits: usize) {
        let refused = &self.recorder.counters.refused_commits;
        refused.add(commits as u64);
    }

    /// A value that is sent is a copy of one that was read.
    pub(crate) fn copies(&self, copy: u64, source: u64) {
        let mut state = self.recorder.state.lock().unwrap();
        state.copies.insert(copy, source);
    }

    /// The book of the compacted topic.
    pub(crate) fn ledger<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        act(&mut self.recorder.state.lock().unwrap().ledger)
    }

    pub(crate) fn note(&self, what: impl fmt::Display) {
        self.recorder
            .note(format_args!("process {}: {what}", self.process));
    }
}
