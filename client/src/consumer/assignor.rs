//! How a group's partitions are shared among its members. Pure.
//!
//! Owns the [`Assignor`] contract and the built-in ones: [`RangeAssignor`], [`StickyAssignor`],
//! [`CooperativeStickyAssignor`]. `membership.rs` calls them; Streams brings its own. An assignor sees facts and returns
//! a plan; it never talks to a broker.
//!
//! Names and bytes are Java's, so that members of both kinds may share a group.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flumen_protocol::id::TopicPartition;
use parking_lot::Mutex;

use super::subscription::{NAMES_BYTES_MAX, by_topic};

/// What becomes of a member's partitions while the group rebalances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RebalanceProtocol {
    /// All are given back before the member joins again.
    Eager,
    /// They are kept, and only those that move are given back (KIP-429).
    Cooperative,
}

/// What the leader knows of one member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberSubscription {
    /// Given by the broker.
    pub member_id: String,
    /// Set for static members.
    pub group_instance_id: Option<String>,
    /// What it subscribed to.
    pub topics: Vec<String>,
    /// What it still holds; always empty under [`RebalanceProtocol::Eager`].
    pub owned_partitions: Vec<TopicPartition>,
    /// The generation in which it got them; -1 where it does not say.
    pub generation_id: i32,
    /// Where it runs.
    pub rack_id: Option<String>,
    /// What [`Assignor::subscription_user_data`] returned over there.
    pub user_data: Option<Bytes>,
}

/// What one member gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberAssignment {
    /// To read from now on.
    pub partitions: Vec<TopicPartition>,
    /// Handed to that member's [`Assignor::on_assignment`].
    pub user_data: Option<Bytes>,
}

/// Shares partitions among the members of a group.
///
/// The group uses the first name that all members list. The broker picks one member as leader; its assignor
/// decides for all. Source: Kafka `ConsumerPartitionAssignor`.
pub trait Assignor: Debug + Send + Sync {
    /// The name members agree by.
    fn name(&self) -> &str;

    /// A member follows the least of its assignors' protocols.
    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Eager
    }

    /// What this member wants the leader to know, asked before every join.
    fn subscription_user_data(&self, topics: &[String], owned: &[TopicPartition]) -> Option<Bytes> {
        let _ = (topics, owned);
        None
    }

    /// The plan: `partitions` maps each existing topic to its number of partitions; the result is by member id. A member
    /// that is not in the result gets nothing.
    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, MemberAssignment>;

    /// What this member got, told before the assignment takes effect.
    fn on_assignment(&self, assignment: &MemberAssignment, generation_id: i32) {
        let _ = (assignment, generation_id);
    }
}

/// Per topic: members in order get equal ranges of partitions. Partitions with the same number of several topics
/// meet in one member. Source: Kafka `RangeAssignor`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &'static str {
        "range"
    }

    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, MemberAssignment> {
        let mut plan: BTreeMap<String, MemberAssignment> = members
            .iter()
            .map(|member| (member.member_id.clone(), MemberAssignment::default()))
            .collect();
        for (topic, &count) in partitions {
            let mut takers: Vec<&MemberSubscription> = members
                .iter()
                .filter(|member| member.topics.contains(topic))
                .collect();
            // Static members come first and in the order of their names, as in Java: their shares survive restarts.
            takers.sort_by_key(|member| {
                let instance = member.group_instance_id.as_deref();
                (instance.is_none(), instance, member.member_id.as_str())
            });
            let Ok(members) = i32::try_from(takers.len()) else {
                continue;
            };
            if members == 0 {
                continue;
            }
            let (each, extra) = (count / members, count % members);
            let mut next = 0;
            for (member, index) in takers.into_iter().zip(0..) {
                let share = each + i32::from(index < extra);
                if let Some(assignment) = plan.get_mut(&member.member_id) {
                    assignment
                        .partitions
                        .extend((next..next + share).map(|partition| TopicPartition {
                            topic: topic.clone(),
                            partition,
                        }));
                }
                next += share;
            }
        }
        plan
    }
}

/// As even as can be, and as few moves as can be; all partitions are given back while the group rebalances.
/// Source: Kafka `StickyAssignor`, whose user data (version 1) it reads and writes.
#[derive(Debug, Default)]
pub struct StickyAssignor {
    last: Mutex<(Vec<TopicPartition>, i32)>,
}

/// Java's `StickyAssignorUserData` v1: `[topic string, partitions [i32]] · generation i32`.
fn encode_memory(partitions: &[TopicPartition], generation_id: i32) -> Bytes {
    let count = |len: usize| i32::try_from(len).expect("fewer than 2^31 partitions");
    let mut out = BytesMut::new();
    let topics = by_topic(partitions);
    out.put_i32(count(topics.len()));
    for (topic, partitions) in topics {
        out.put_i16(i16::try_from(topic.len()).expect("names are shorter than 32 KiB"));
        out.put_slice(topic.as_bytes());
        out.put_i32(count(partitions.len()));
        partitions
            .into_iter()
            .for_each(|partition| out.put_i32(partition));
    }
    out.put_i32(generation_id);
    out.freeze()
}

/// The reverse; what cannot be read is nothing remembered.
fn decode_memory(user_data: Option<&Bytes>) -> (Vec<TopicPartition>, i32) {
    let read = |mut bytes: Bytes| {
        let mut partitions = Vec::new();
        let mut names = 0;
        for _ in 0..bytes.try_get_i32().ok()? {
            let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
            if length > bytes.len() {
                return None;
            }
            let topic = String::from_utf8(bytes.split_to(length).to_vec()).ok()?;
            for _ in 0..bytes.try_get_i32().ok()? {
                names += topic.len();
                if names > NAMES_BYTES_MAX {
                    return None;
                }
                partitions.push(TopicPartition::new(
                    topic.clone(),
                    bytes.try_get_i32().ok()?,
                ));
            }
        }
        Some((partitions, bytes.try_get_i32().unwrap_or(-1)))
    };
    user_data
        .cloned()
        .and_then(read)
        .unwrap_or((Vec::new(), -1))
}

impl Assignor for StickyAssignor {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn subscription_user_data(&self, _: &[String], _: &[TopicPartition]) -> Option<Bytes> {
        let last = self.last.lock();
        if last.0.is_empty() {
            return None;
        }
        Some(encode_memory(&last.0, last.1))
    }

    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, MemberAssignment> {
        let remembered: Vec<MemberSubscription> = members
            .iter()
            .map(|member| {
                let (owned_partitions, generation_id) = decode_memory(member.user_data.as_ref());
                MemberSubscription {
                    owned_partitions,
                    generation_id,
                    ..member.clone()
                }
            })
            .collect();
        share_evenly(partitions, &remembered)
    }

    fn on_assignment(&self, assignment: &MemberAssignment, generation_id: i32) {
        *self.last.lock() = (assignment.partitions.clone(), generation_id);
    }
}

/// As [`StickyAssignor`], but members keep what does not move, and a partition that moves is given to its new member
/// only in the next round, after the old one has given it back. Source: Kafka `CooperativeStickyAssignor`, KIP-429.
#[derive(Debug, Clone, Copy, Default)]
pub struct CooperativeStickyAssignor;

impl Assignor for CooperativeStickyAssignor {
    fn name(&self) -> &'static str {
        "cooperative-sticky"
    }

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Cooperative
    }

    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, MemberAssignment> {
        let mut plan = share_evenly(partitions, members);
        hold_back_moving_partitions(&mut plan, members);
        plan
    }
}

/// Takes out of `plan` what another member still holds: it gives it back first, and the next round hands it over.
///
/// For cooperative assignors of other crates, too.
pub fn hold_back_moving_partitions(
    plan: &mut BTreeMap<String, MemberAssignment>,
    members: &[MemberSubscription],
) {
    let mut holders: BTreeMap<&TopicPartition, BTreeSet<&str>> = BTreeMap::new();
    for member in members {
        for partition in &member.owned_partitions {
            holders
                .entry(partition)
                .or_default()
                .insert(&member.member_id);
        }
    }
    for (member_id, assignment) in plan {
        assignment.partitions.retain(|partition| {
            holders
                .get(partition)
                .is_none_or(|ids| ids.iter().all(|id| *id == member_id.as_str()))
        });
    }
}

/// Gives each partition to one subscribed member: first who has it keeps it, then the free ones go to who has least,
/// then partitions move from a member to one that has at least two less, until none can.
fn share_evenly(
    partitions: &BTreeMap<String, i32>,
    members: &[MemberSubscription],
) -> BTreeMap<String, MemberAssignment> {
    let takers = takers_by_topic(partitions, members);
    let mut held = keep_owned(partitions, members);
    place_free(partitions, &takers, &mut held);
    balance(&takers, &mut held);
    members
        .iter()
        .zip(held)
        .map(|(member, held)| {
            let partitions = held.into_iter().collect();
            (
                member.member_id.clone(),
                MemberAssignment {
                    partitions,
                    user_data: None,
                },
            )
        })
        .collect()
}

/// Topic → indexes of the members that subscribed to it.
fn takers_by_topic<'a>(
    partitions: &'a BTreeMap<String, i32>,
    members: &[MemberSubscription],
) -> BTreeMap<&'a str, Vec<usize>> {
    partitions
        .keys()
        .map(|topic| {
            let takers = (0..members.len())
                .filter(|&index| members[index].topics.contains(topic))
                .collect();
            (topic.as_str(), takers)
        })
        .collect()
}

/// Where two members claim a partition, the later generation has it; at the same generation neither.
fn keep_owned(
    partitions: &BTreeMap<String, i32>,
    members: &[MemberSubscription],
) -> Vec<BTreeSet<TopicPartition>> {
    let mut claims: BTreeMap<&TopicPartition, (i32, Option<usize>)> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for partition in &member.owned_partitions {
            let exists = partitions
                .get(&partition.topic)
                .is_some_and(|count| (0..*count).contains(&partition.partition));
            if !exists || !member.topics.contains(&partition.topic) {
                continue;
            }
            let claim = claims.entry(partition).or_insert((i32::MIN, None));
            match member.generation_id.cmp(&claim.0) {
                std::cmp::Ordering::Greater => *claim = (member.generation_id, Some(index)),
                std::cmp::Ordering::Equal => claim.1 = None,
                std::cmp::Ordering::Less => {}
            }
        }
    }
    let mut held = vec![BTreeSet::new(); members.len()];
    for (partition, (_, owner)) in claims {
        if let Some(owner) = owner {
            held[owner].insert(partition.clone());
        }
    }
    held
}

/// Topics that few members can take come first, so that they do not meet members already full.
fn place_free(
    partitions: &BTreeMap<String, i32>,
    takers: &BTreeMap<&str, Vec<usize>>,
    held: &mut [BTreeSet<TopicPartition>],
) {
    let taken: BTreeSet<TopicPartition> = held.iter().flatten().cloned().collect();
    let mut topics: Vec<(&str, &Vec<usize>)> = takers.iter().map(|(t, m)| (*t, m)).collect();
    topics.sort_by_key(|(topic, takers)| (takers.len(), *topic));
    for (topic, takers) in topics {
        let count = partitions.get(topic).copied().unwrap_or(0);
        let mut order: BTreeSet<(usize, usize)> = takers
            .iter()
            .map(|&index| (held[index].len(), index))
            .collect();
        for partition in 0..count {
            let partition = TopicPartition {
                topic: topic.to_owned(),
                partition,
            };
            if taken.contains(&partition) {
                continue;
            }
            let Some((load, index)) = order.pop_first() else {
                break;
            };
            held[index].insert(partition);
            order.insert((load + 1, index));
        }
    }
}

/// Every move lowers the sum of squares of the loads, so this ends.
fn balance(takers: &BTreeMap<&str, Vec<usize>>, held: &mut [BTreeSet<TopicPartition>]) {
    loop {
        let mut moved = false;
        let mut order: Vec<usize> = (0..held.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(held[index].len()));
        for from in order {
            let candidates: Vec<TopicPartition> = held[from].iter().cloned().collect();
            for partition in candidates {
                let to = takers
                    .get(partition.topic.as_str())
                    .into_iter()
                    .flatten()
                    .min_by_key(|&&index| (held[index].len(), index));
                let Some(&to) = to else { continue };
                if held[to].len() + 1 < held[from].len() {
                    held[from].remove(&partition);
                    held[to].insert(partition);
                    moved = true;
                }
            }
        }
        if !moved {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
