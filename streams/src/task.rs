//! Which tasks an engine has, what they read, and how far. Pure; called by `session.rs`.
//!
//! ```text
//! assigned ──► Restoring ──restored──► Running ──revoked, lost──► gone
//!                  ▲                      │
//!                  └──────engine reset────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use flumen_client::FetchedRecords;
use flumen_protocol::id::TopicPartition;

use crate::assign::Plan;
use crate::topology::TaskId;
use crate::worker::Fetched;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its stores are not ready: it is not fed.
    Restoring,
    Running,
}

/// The tasks of one engine.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    states: BTreeMap<TaskId, State>,
    /// The next offset to be fed; known once the task runs.
    positions: BTreeMap<TopicPartition, Option<i64>>,
}

impl Tasks {
    /// New partitions; returns the tasks that have to be restored: new ones, and running ones that got a partition more.
    pub(crate) fn assigned(&mut self, plan: &Plan, partitions: &[TopicPartition]) -> BTreeSet<TaskId> {
        let mut new = BTreeSet::new();
        for partition in partitions {
            if let Some((task, _)) = plan.task_of(partition) {
                self.positions.insert(partition.clone(), None);
                self.states.insert(task, State::Restoring);
                new.insert(task);
            }
        }
        new
    }

    /// Partitions go; returns the running tasks that end with them.
    pub(crate) fn removed(&mut self, plan: &Plan, partitions: &[TopicPartition]) -> Vec<TaskId> {
        let mut ended = Vec::new();
        for partition in partitions {
            self.positions.remove(partition);
            let task = plan.task_of(partition).map(|(task, _)| task);
            if let Some((task, State::Running)) = task.and_then(|task| Some((task, self.states.remove(&task)?))) {
                ended.push(task);
            }
        }
        ended
    }

    /// The stores of a task are restored and these are its positions. False if it went in the meantime.
    pub(crate) fn running(&mut self, task: TaskId, positions: &BTreeMap<TopicPartition, i64>) -> bool {
        let Some(state) = self.states.get_mut(&task) else { return false };
        *state = State::Running;
        for (partition, position) in positions {
            self.positions.insert(partition.clone(), Some(*position));
        }
        true
    }

    /// The engine is a new one: every task has to be restored again.
    pub(crate) fn reset(&mut self) -> BTreeSet<TaskId> {
        self.states.values_mut().for_each(|state| *state = State::Restoring);
        self.positions.values_mut().for_each(|position| *position = None);
        self.states.keys().copied().collect()
    }

    /// The tasks that are not ready yet.
    pub(crate) fn restoring(&self) -> BTreeSet<TaskId> {
        let restoring = self.states.iter().filter(|(_, state)| **state == State::Restoring);
        restoring.map(|(task, _)| *task).collect()
    }

    /// The partitions of these tasks.
    pub(crate) fn partitions_of(&self, plan: &Plan, tasks: &BTreeSet<TaskId>) -> Vec<TopicPartition> {
        let of_tasks = |partition: &&TopicPartition| plan.task_of(partition).is_some_and(|(task, _)| tasks.contains(&task));
        self.positions.keys().filter(of_tasks).cloned().collect()
    }

    pub(crate) fn all_running(&self) -> bool {
        self.states.values().all(|state| *state == State::Running)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    pub(crate) fn all_partitions(&self) -> Vec<TopicPartition> {
        self.positions.keys().cloned().collect()
    }

    /// A position was lost and replaced.
    pub(crate) fn moved(&mut self, partition: &TopicPartition, position: i64) {
        if let Some(known) = self.positions.get_mut(partition) {
            *known = Some(position);
        }
    }

    /// Sorts what was fetched by task. Leaves out what is of no running task: it will be fetched again.
    pub(crate) fn take(&mut self, plan: &Plan, fetched: Vec<FetchedRecords>) -> Vec<(TaskId, Vec<Fetched>)> {
        let mut inputs: BTreeMap<TaskId, Vec<Fetched>> = BTreeMap::new();
        for FetchedRecords { partition, batches, next_offset, .. } in fetched {
            let Some((task, source)) = plan.task_of(&partition) else { continue };
            let Some(Some(position)) = self.positions.get_mut(&partition) else { continue };
            // Nothing but transaction markers is no reason for a commit of its own.
            let nothing = batches.is_empty() || next_offset <= *position;
            if nothing || self.states.get(&task) != Some(&State::Running) {
                continue;
            }
            let from = std::mem::replace(position, next_offset);
            inputs.entry(task).or_default().push(Fetched { source, from, next_offset, batches });
        }
        inputs.into_iter().collect()
    }
}
