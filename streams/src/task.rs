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
    pub(crate) fn assigned(
        &mut self,
        plan: &Plan,
        partitions: &[TopicPartition],
    ) -> BTreeSet<TaskId> {
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
            if let Some((task, State::Running)) =
                task.and_then(|task| Some((task, self.states.remove(&task)?)))
            {
                ended.push(task);
            }
        }
        ended
    }

    /// The stores of a task are restored and these are its positions. False if it went in the meantime.
    pub(crate) fn running(
        &mut self,
        task: TaskId,
        positions: &BTreeMap<TopicPartition, i64>,
    ) -> bool {
        let Some(state) = self.states.get_mut(&task) else {
            return false;
        };
        *state = State::Running;
        for (partition, position) in positions {
            self.positions.insert(partition.clone(), Some(*position));
        }
        true
    }

    /// The engine is a new one: every task has to be restored again.
    pub(crate) fn reset(&mut self) -> BTreeSet<TaskId> {
        self.states
            .values_mut()
            .for_each(|state| *state = State::Restoring);
        self.positions
            .values_mut()
            .for_each(|position| *position = None);
        self.states.keys().copied().collect()
    }

    /// The tasks that are not ready yet.
    pub(crate) fn restoring(&self) -> BTreeSet<TaskId> {
        let restoring = self
            .states
            .iter()
            .filter(|(_, state)| **state == State::Restoring);
        restoring.map(|(task, _)| *task).collect()
    }

    /// The partitions of these tasks.
    pub(crate) fn partitions_of(
        &self,
        plan: &Plan,
        tasks: &BTreeSet<TaskId>,
    ) -> Vec<TopicPartition> {
        let of_tasks = |partition: &&TopicPartition| {
            plan.task_of(partition)
                .is_some_and(|(task, _)| tasks.contains(&task))
        };
        self.positions.keys().filter(of_tasks).cloned().collect()
    }

    pub(crate) fn all_running(&self) -> bool {
        self.states.values().all(|state| *state == State::Running)
    }

    pub(crate) fn all_partitions(&self) -> Vec<TopicPartition> {
        self.positions.keys().cloned().collect()
    }

    /// A position was lost and replaced. What a running task has to be fed so that the new one is committed even if nothing
    /// ever comes.
    pub(crate) fn moved(
        &mut self,
        plan: &Plan,
        partition: &TopicPartition,
        position: i64,
    ) -> Option<(TaskId, Vec<Fetched>)> {
        let known = self.positions.get_mut(partition)?;
        let (task, source) = plan.task_of(partition)?;
        if self.states.get(&task) != Some(&State::Running) {
            return None;
        }
        *known = Some(position);
        let nothing = Fetched {
            source,
            from: position,
            next_offset: position,
            batches: Vec::new(),
        };
        Some((task, vec![nothing]))
    }

    /// Sorts what was fetched by task. Leaves out what is of no running task: it will be fetched again.
    pub(crate) fn take(&mut self, plan: &Plan, fetched: Vec<FetchedRecords>) -> Taken {
        let mut inputs: BTreeMap<TaskId, Vec<Fetched>> = BTreeMap::new();
        let mut gaps = BTreeMap::new();
        for fetched in fetched {
            let FetchedRecords {
                partition,
                from_offset,
                batches,
                next_offset,
                ..
            } = fetched;
            let Some((task, source)) = plan.task_of(&partition) else {
                continue;
            };
            let Some(Some(position)) = self.positions.get_mut(&partition) else {
                continue;
            };
            if from_offset > *position {
                gaps.insert(partition, *position);
                continue;
            }
            // Nothing but transaction markers is no reason for a commit of its own.
            let nothing = batches.is_empty() || next_offset <= *position;
            if self.states.get(&task) != Some(&State::Running) {
                continue;
            }
            let from = std::mem::replace(position, next_offset.max(*position));
            if nothing {
                continue;
            }
            inputs.entry(task).or_default().push(Fetched {
                source,
                from,
                next_offset,
                batches,
            });
        }
        let inputs = inputs.into_iter().collect();
        Taken { inputs, gaps }
    }
}

/// Fetched records by task.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) inputs: Vec<(TaskId, Vec<Fetched>)>,
    /// Partitions that the consumer reads further on than their tasks are: it has to go back.
    pub(crate) gaps: BTreeMap<TopicPartition, i64>,
}

#[cfg(test)]
mod tests {
    use flumen_protocol::batch::RecordBatch;
    use flumen_protocol::builder::{BatchBuilder, BatchOptions};

    use super::*;

    fn plan() -> Plan {
        Plan::of(&[(&["a", "b"], false), (&["r"], true)])
    }

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic, partition)
    }

    fn task(subtopology: u32, partition: i32) -> TaskId {
        TaskId {
            subtopology,
            partition,
        }
    }

    fn fetched(partition: TopicPartition, from_offset: i64, next_offset: i64) -> FetchedRecords {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: from_offset,
            ..BatchOptions::default()
        });
        (from_offset..next_offset).for_each(|_| builder.push(0, None, None, &[]));
        let batches = vec![RecordBatch::parse(builder.build()).unwrap()];
        let (high_watermark, last_stable_offset) = (next_offset, next_offset);
        FetchedRecords {
            partition,
            from_offset,
            batches,
            next_offset,
            leader_epoch: 0,
            high_watermark,
            last_stable_offset,
        }
    }

    fn offsets(inputs: &[(TaskId, Vec<Fetched>)]) -> Vec<(TaskId, usize, i64, i64)> {
        let all = inputs.iter().flat_map(|(task, fetched)| {
            fetched
                .iter()
                .map(|f| (*task, f.source, f.from, f.next_offset))
        });
        all.collect()
    }

    #[test]
    fn a_task_is_fed_only_while_it_runs_and_nothing_twice() {
        let mut tasks = Tasks::default();
        let both = [partition("a", 1), partition("b", 1)];
        assert_eq!(tasks.assigned(&plan(), &both), [task(0, 1)].into());
        assert!(!tasks.all_running());
        assert!(
            tasks
                .take(&plan(), vec![fetched(partition("a", 1), 0, 5)])
                .inputs
                .is_empty(),
            "its stores are not ready"
        );
        assert!(tasks.running(
            task(0, 1),
            &[(both[0].clone(), 3), (both[1].clone(), 0)].into()
        ));
        assert!(tasks.all_running());
        let inputs = tasks.take(
            &plan(),
            vec![
                fetched(partition("a", 1), 0, 5),
                fetched(partition("b", 1), 0, 2),
            ],
        );
        assert_eq!(
            offsets(&inputs.inputs),
            [(task(0, 1), 0, 3, 5), (task(0, 1), 1, 0, 2)]
        );
        assert!(
            tasks
                .take(&plan(), vec![fetched(partition("a", 1), 0, 5)])
                .inputs
                .is_empty(),
            "it had that"
        );
        assert!(
            tasks
                .take(&plan(), vec![fetched(partition("x", 1), 0, 5)])
                .inputs
                .is_empty(),
            "of no task"
        );
    }

    #[test]
    fn markers_alone_move_nothing() {
        let mut tasks = Tasks::default();
        tasks.assigned(&plan(), &[partition("r", 0)]);
        tasks.running(task(1, 0), &[(partition("r", 0), 10)].into());
        let mut markers = fetched(partition("r", 0), 10, 12);
        markers.batches.clear();
        assert!(tasks.take(&plan(), vec![markers]).inputs.is_empty());
        let inputs = tasks.take(&plan(), vec![fetched(partition("r", 0), 12, 13)]);
        assert_eq!(offsets(&inputs.inputs), [(task(1, 0), 0, 12, 13)]);
    }

    #[test]
    fn what_is_revoked_while_it_is_restored_never_runs() {
        let mut tasks = Tasks::default();
        tasks.assigned(&plan(), &[partition("r", 0), partition("r", 1)]);
        tasks.running(task(1, 0), &[(partition("r", 0), 0)].into());
        assert_eq!(
            tasks.removed(&plan(), &[partition("r", 1)]),
            [],
            "it did not run"
        );
        assert!(!tasks.running(task(1, 1), &BTreeMap::new()));
        assert_eq!(tasks.removed(&plan(), &[partition("r", 0)]), [task(1, 0)]);
        assert!(tasks.all_partitions().is_empty());
    }

    #[test]
    fn after_a_reset_all_are_restored_again() {
        let mut tasks = Tasks::default();
        tasks.assigned(&plan(), &[partition("r", 0), partition("r", 1)]);
        tasks.running(task(1, 0), &[(partition("r", 0), 7)].into());
        assert_eq!(tasks.reset(), [task(1, 0), task(1, 1)].into());
        assert!(
            tasks
                .take(&plan(), vec![fetched(partition("r", 0), 7, 9)])
                .inputs
                .is_empty()
        );
        assert_eq!(
            tasks.partitions_of(&plan(), &[task(1, 0)].into()),
            [partition("r", 0)]
        );
        assert_eq!(tasks.restoring().len(), 2);
    }

    #[test]
    fn a_consumer_that_ran_ahead_is_sent_back() {
        let mut tasks = Tasks::default();
        tasks.assigned(&plan(), &[partition("r", 0)]);
        tasks.running(task(1, 0), &[(partition("r", 0), 10)].into());
        let taken = tasks.take(&plan(), vec![fetched(partition("r", 0), 11, 20)]);
        assert!(taken.inputs.is_empty());
        assert_eq!(taken.gaps, [(partition("r", 0), 10)].into());
    }
}
