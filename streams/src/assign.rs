//! Tasks to members: even, sticky, whole. Pure, apart from what a member remembers.
//!
//! Plugged into the consumer as its assignor, so that Streams works on any cluster with the classic group protocol. The
//! group's leader runs [`share`] for all; members read their tasks off their partitions. A task's partitions always go
//! together: sub-topology `s`, partition `p` of each of its source topics (co-partitioning).
//!
//! Whoever runs a task keeps it, as far as that is even; then whoever has its state on disk gets it; the rest goes to who has
//! the least. A partition that moves is first given back and handed on in the next round (KIP-429), so that never two run it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flumen_client::{Assignor, MemberAssignment, MemberSubscription, RebalanceProtocol};
use flumen_protocol::id::TopicPartition;
use parking_lot::Mutex;

use crate::topology::{TaskId, Topology};

const NAME: &str = "flumen-streams";
const VERSION: u8 = 1;

/// Which topics each sub-topology reads, and whether it keeps state.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    subtopologies: Vec<(Vec<String>, bool)>,
}

impl Plan {
    pub(crate) fn new(topology: &Topology, application_id: &str) -> Self {
        let subtopologies = topology.subtopologies().iter().map(|subtopology| {
            let sources = subtopology
                .sources
                .iter()
                .map(|source| source.topic(application_id))
                .collect();
            (sources, !subtopology.stores.is_empty())
        });
        Self {
            subtopologies: subtopologies.collect(),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(subtopologies: &[(&[&str], bool)]) -> Self {
        let owned = |(topics, stateful): &(&[&str], bool)| {
            (
                topics.iter().map(|topic| (*topic).to_owned()).collect(),
                *stateful,
            )
        };
        Self {
            subtopologies: subtopologies.iter().map(owned).collect(),
        }
    }

    /// Every topic that is read.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.subtopologies
            .iter()
            .flat_map(|(sources, _)| sources.iter().cloned())
            .collect()
    }

    /// The task that reads a partition, and the index of the topic among its sources.
    pub(crate) fn task_of(&self, partition: &TopicPartition) -> Option<(TaskId, usize)> {
        (0u32..)
            .zip(&self.subtopologies)
            .find_map(|(id, (sources, _))| {
                let source = sources.iter().position(|topic| *topic == partition.topic)?;
                Some((
                    TaskId {
                        subtopology: id,
                        partition: partition.partition,
                    },
                    source,
                ))
            })
    }

    /// All tasks with their partitions; those with state first.
    fn tasks(&self, counts: &BTreeMap<String, i32>) -> [BTreeMap<TaskId, Vec<TopicPartition>>; 2] {
        let mut tasks = [BTreeMap::new(), BTreeMap::new()];
        for (id, (sources, stateful)) in (0u32..).zip(&self.subtopologies) {
            for topic in sources {
                for partition in 0..counts.get(topic).copied().unwrap_or(0) {
                    let task = TaskId {
                        subtopology: id,
                        partition,
                    };
                    let partitions: &mut Vec<_> =
                        tasks[usize::from(!stateful)].entry(task).or_default();
                    partitions.push(TopicPartition {
                        topic: topic.clone(),
                        partition,
                    });
                }
            }
        }
        tasks
    }
}

/// The group's assignor of one engine.
#[derive(Debug)]
pub(crate) struct TaskAssignor {
    plan: Plan,
    /// Tasks whose state lies in this engine's database.
    stored: Arc<Mutex<BTreeSet<TaskId>>>,
}

impl TaskAssignor {
    pub(crate) fn new(plan: Plan, stored: Arc<Mutex<BTreeSet<TaskId>>>) -> Self {
        Self { plan, stored }
    }
}

impl Assignor for TaskAssignor {
    fn name(&self) -> &str {
        NAME
    }

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Cooperative
    }

    fn subscription_user_data(
        &self,
        _topics: &[String],
        _owned: &[TopicPartition],
    ) -> Option<Bytes> {
        Some(encode(&self.stored.lock()))
    }

    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, MemberAssignment> {
        let assigned = share(&self.plan, partitions, members);
        let with_data = assigned.into_iter().map(|(member, partitions)| {
            (
                member,
                MemberAssignment {
                    partitions,
                    user_data: None,
                },
            )
        });
        with_data.collect()
    }
}

pub(crate) fn encode(stored: &BTreeSet<TaskId>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + 8 * stored.len());
    bytes.put_u8(VERSION);
    for task in stored {
        bytes.put_u32(task.subtopology);
        bytes.put_i32(task.partition);
    }
    bytes.freeze()
}

/// What another member has on disk; nothing if its version speaks of it in another way.
pub(crate) fn decode(user_data: Option<&Bytes>) -> BTreeSet<TaskId> {
    let Some((&VERSION, mut tasks)) = user_data.and_then(|data| data.split_first()) else {
        return BTreeSet::new();
    };
    let mut stored = BTreeSet::new();
    while tasks.remaining() >= 8 {
        stored.insert(TaskId {
            subtopology: tasks.get_u32(),
            partition: tasks.get_i32(),
        });
    }
    stored
}

/// One member while tasks are given out.
struct Taker<'m> {
    member: &'m str,
    owned: BTreeSet<TaskId>,
    stored: BTreeSet<TaskId>,
    taken: BTreeSet<TaskId>,
    /// Of the class that is being given out.
    in_class: usize,
}

/// The partitions of each member for the coming round.
pub(crate) fn share(
    plan: &Plan,
    counts: &BTreeMap<String, i32>,
    members: &[MemberSubscription],
) -> BTreeMap<String, Vec<TopicPartition>> {
    let owners = owners(members);
    let mut takers = takers(plan, members, &owners);
    let classes = plan.tasks(counts);
    for tasks in &classes {
        give_out(tasks.keys().copied().collect(), &mut takers);
    }
    let mut assigned = BTreeMap::new();
    for taker in &takers {
        let partitions = taker.taken.iter().flat_map(|task| {
            classes
                .iter()
                .find_map(|tasks| tasks.get(task))
                .into_iter()
                .flatten()
        });
        // What another member still reads comes in the next round, when it has given it back.
        let free = partitions.filter(|partition| {
            owners
                .get(*partition)
                .is_none_or(|owner| *owner == taker.member)
        });
        assigned.insert(taker.member.to_owned(), free.cloned().collect());
    }
    assigned
}

/// Who reads what now. Of two claims the one of the later generation is right; two of the same generation cannot both be.
fn owners(members: &[MemberSubscription]) -> BTreeMap<&TopicPartition, &str> {
    let mut claims: BTreeMap<&TopicPartition, (i32, Option<&str>)> = BTreeMap::new();
    for member in members {
        for partition in &member.owned_partitions {
            let claim = claims.entry(partition).or_insert((i32::MIN, None));
            if member.generation_id > claim.0 {
                *claim = (member.generation_id, Some(&member.member_id));
            } else if member.generation_id == claim.0 {
                claim.1 = None;
            }
        }
    }
    claims
        .into_iter()
        .filter_map(|(partition, (_, owner))| Some((partition, owner?)))
        .collect()
}

fn takers<'m>(
    plan: &Plan,
    members: &'m [MemberSubscription],
    owners: &BTreeMap<&TopicPartition, &'m str>,
) -> Vec<Taker<'m>> {
    let mut takers: Vec<Taker<'m>> = members
        .iter()
        .map(|member| {
            let mine = member
                .owned_partitions
                .iter()
                .filter(|partition| owners.get(partition) == Some(&member.member_id.as_str()));
            Taker {
                member: &member.member_id,
                owned: mine
                    .filter_map(|partition| plan.task_of(partition))
                    .map(|(task, _)| task)
                    .collect(),
                stored: decode(member.user_data.as_ref()),
                taken: BTreeSet::new(),
                in_class: 0,
            }
        })
        .collect();
    takers.sort_by_key(|taker| taker.member);
    takers
}

/// Gives the tasks of one class out: no member gets two more than another.
fn give_out(mut tasks: BTreeSet<TaskId>, takers: &mut [Taker<'_>]) {
    if takers.is_empty() {
        return;
    }
    let (floor, mut extra) = (tasks.len() / takers.len(), tasks.len() % takers.len());
    takers.iter_mut().for_each(|taker| taker.in_class = 0);
    for running in [true, false] {
        for taker in takers.iter_mut() {
            let wish = if running { &taker.owned } else { &taker.stored };
            let wanted: Vec<TaskId> = wish.intersection(&tasks).copied().collect();
            for task in wanted {
                if taker.in_class < floor || (taker.in_class == floor && extra > 0) {
                    extra -= usize::from(taker.in_class == floor);
                    taker.take(task, &mut tasks);
                }
            }
        }
    }
    while let Some(task) = tasks.first().copied() {
        let least = takers
            .iter_mut()
            .min_by_key(|taker| (taker.in_class, taker.taken.len()));
        least.expect("there is a member").take(task, &mut tasks);
    }
}

impl Taker<'_> {
    fn take(&mut self, task: TaskId, tasks: &mut BTreeSet<TaskId>) {
        tasks.remove(&task);
        self.taken.insert(task);
        self.in_class += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sub-topology 0 reads `a` and `b` together, without state; 1 reads `r`, with state.
    fn plan() -> Plan {
        Plan::of(&[(&["a", "b"], false), (&["r"], true)])
    }

    fn counts(a: i32, b: i32, r: i32) -> BTreeMap<String, i32> {
        [
            ("a".to_owned(), a),
            ("b".to_owned(), b),
            ("r".to_owned(), r),
        ]
        .into()
    }

    fn member(id: &str, stored: &[(u32, i32)]) -> MemberSubscription {
        let stored = stored
            .iter()
            .map(|&(subtopology, partition)| TaskId {
                subtopology,
                partition,
            })
            .collect();
        MemberSubscription {
            member_id: id.to_owned(),
            topics: plan().topics(),
            generation_id: -1,
            user_data: Some(encode(&stored)),
            ..MemberSubscription::default()
        }
    }

    /// Rounds until nothing moves any more, as members that give back join again.
    fn settle(
        members: &mut [MemberSubscription],
        counts: &BTreeMap<String, i32>,
        generation: i32,
    ) -> usize {
        for round in 0..4 {
            let assigned = share(&plan(), counts, members);
            let mut still = true;
            for member in members.iter_mut() {
                let given = &assigned[&member.member_id];
                let owned = std::mem::replace(&mut member.owned_partitions, given.clone());
                member.generation_id = generation + round;
                still &= owned.iter().all(|partition| given.contains(partition))
                    && owned.len() == given.len();
            }
            let mut all: Vec<_> = members
                .iter()
                .flat_map(|member| member.owned_partitions.clone())
                .collect();
            all.sort();
            assert!(
                all.windows(2).all(|pair| pair[0] != pair[1]),
                "nothing is read twice"
            );
            if still {
                return round as usize;
            }
        }
        panic!("the group never settles");
    }

    fn tasks_of(member: &MemberSubscription) -> BTreeSet<TaskId> {
        member
            .owned_partitions
            .iter()
            .filter_map(|partition| plan().task_of(partition))
            .map(|(task, _)| task)
            .collect()
    }

    #[test]
    fn state_on_disk_brings_a_task_home() {
        let mut members = [
            member("m1", &[(1, 2), (1, 3)]),
            member("m2", &[(1, 0), (1, 1)]),
        ];
        settle(&mut members, &counts(4, 4, 4), 1);
        let stateful: Vec<_> = tasks_of(&members[0])
            .into_iter()
            .filter(|task| task.subtopology == 1)
            .collect();
        assert_eq!(
            stateful
                .iter()
                .map(|task| task.partition)
                .collect::<Vec<_>>(),
            [2, 3]
        );
    }

    #[test]
    fn a_claim_of_an_older_generation_is_a_zombies() {
        let mut old = member("old", &[]);
        let mut new = member("new", &[]);
        let partition = TopicPartition {
            topic: "r".into(),
            partition: 0,
        };
        (old.owned_partitions, old.generation_id) = (vec![partition.clone()], 3);
        (new.owned_partitions, new.generation_id) = (vec![partition.clone()], 4);
        let assigned = share(&plan(), &counts(0, 0, 1), &[old, new]);
        assert_eq!(
            (assigned["new"].as_slice(), assigned["old"].len()),
            (&[partition][..], 0)
        );
    }

    #[test]
    fn user_data_of_another_version_says_nothing() {
        assert!(decode(Some(&Bytes::from_static(&[9, 0, 0, 0, 1, 0, 0, 0, 1]))).is_empty());
        assert!(decode(Some(&Bytes::new())).is_empty() && decode(None).is_empty());
    }

    proptest! {
        #[test]
        fn everything_is_assigned_once_evenly_and_hardly_moves(
            (a, b, r) in (0i32..9, 0i32..9, 0i32..20),
            sizes in prop::collection::vec(1usize..7, 1..6),
        ) {
            let counts = counts(a, b, r);
            let mut members: Vec<MemberSubscription> = Vec::new();
            let mut generation = 1;
            for size in sizes {
                let before: BTreeMap<String, BTreeSet<TaskId>> =
                    members.iter().map(|member| (member.member_id.clone(), tasks_of(member))).collect();
                let old_size = members.len();
                members.truncate(size);
                while members.len() < size {
                    members.push(member(&format!("m{generation}-{}", members.len()), &[]));
                }
                settle(&mut members, &counts, generation);
                generation += 10;
                let all: usize = members.iter().map(|member| member.owned_partitions.len()).sum();
                prop_assert_eq!(all, usize::try_from(a + b + r).unwrap(), "all partitions are read");
                for class in 0..2 {
                    let sizes = members.iter().map(|member| tasks_of(member).iter().filter(|task| task.subtopology == class).count());
                    let (min, max) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
                    prop_assert!(max - min <= 1, "class {class}: {min} to {max}");
                }
                for member in &members {
                    for partition in &member.owned_partitions {
                        let (task, _) = plan().task_of(partition).unwrap();
                        let together = plan().tasks(&counts).iter().find_map(|tasks| tasks.get(&task).cloned()).unwrap();
                        prop_assert!(together.iter().all(|other| member.owned_partitions.contains(other)));
                    }
                }
                if size >= old_size {
                    // Joining members take only their share: nothing moves between those that stay.
                    for (id, tasks) in &before {
                        let now = members.iter().find(|member| member.member_id == *id).map(tasks_of).unwrap();
                        prop_assert!(now.is_subset(tasks), "{id} had {tasks:?}, has {now:?}");
                    }
                }
                prop_assert_eq!(settle(&mut members, &counts, generation), 0, "a second rebalance moves nothing");
                generation += 10;
            }
        }
    }
}
