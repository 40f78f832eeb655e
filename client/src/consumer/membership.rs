//! One member of a classic consumer group. Pure.
//!
//! Owns the member's id, generation, state and what it holds. `consumer/coordinator.rs` asks [`Membership::next`] what to do, does
//! it, and tells the answer through `on_*`. Time comes in as an argument; nothing here waits, locks or talks.
//!
//! ```text
//! Out ──subscribe──▶ Joining ──answer──▶ Planning (leader only) ──counts──▶ Syncing ──answer──▶ Stable
//!                      ▲                                                                          │
//!                      │  eager: Revoking, until the application is done ◀──── rebalance ─────────┤
//!                      ├──────────────────────────────────── cooperative: at once ◀── rebalance ──┤
//!                      ├── cooperative: after the application gave back what moves ◀──────────────┤
//!                      └── lost: unknown member, old generation ◀─────────────────────────────────┘
//! any ── no poll for max.poll.interval ──▶ Idle (left the group; the next poll joins again)
//! any ── fenced, refused ──▶ Failed
//! ```
//! Source: Kafka `AbstractCoordinator`, `ConsumerCoordinator`; KIP-62, KIP-345, KIP-394, KIP-429.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicPartition;
use tokio::time::Instant;

use super::assignor::{Assignor, MemberAssignment, MemberSubscription, RebalanceProtocol};
use super::subscription::{
    decode_assignment, decode_subscription, encode_assignment, encode_subscription,
};
use crate::error::{ClientError, Failure, refused};

/// What stays the same for the life of a member.
#[derive(Debug, Clone)]
pub(crate) struct MembershipConfig {
    pub(crate) group_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) max_poll_interval: Duration,
    pub(crate) retry_backoff: Duration,
}

/// What the driver shall do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing before this time, or before something else happens.
    Wait(Option<Instant>),
    /// Send JoinGroup with these protocols, best first.
    Join {
        member_id: String,
        protocols: Vec<(String, Bytes)>,
        reason: &'static str,
    },
    /// This member leads: tell the number of partitions of these topics.
    Plan { topics: BTreeSet<String> },
    /// Send SyncGroup with the assignments by member id (empty unless this member leads).
    Sync {
        protocol: String,
        assignments: Vec<(String, Bytes)>,
    },
    /// Send Heartbeat.
    Heartbeat,
    /// Send LeaveGroup, and do not wait for the answer.
    Leave {
        member_id: String,
        reason: &'static str,
    },
}

impl Default for Action {
    fn default() -> Action {
        Action::Wait(None)
    }
}

/// What the application must know, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupEvent {
    /// Finish these, commit, then say so.
    Revoking(Vec<TopicPartition>),
    /// These are new.
    Assigned(Vec<TopicPartition>),
    /// These are gone already; others may have them.
    Lost(Vec<TopicPartition>),
    /// The member cannot go on.
    Failed(ClientError),
}

/// The answer to JoinGroup.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    pub(crate) error_code: i16,
    pub(crate) generation_id: i32,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: String,
    /// Member id, instance id, subscription bytes; empty unless this member leads.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Out,
    /// Eager only: everything is being given back before the join.
    Revoking,
    ToJoin {
        not_before: Instant,
    },
    Joining,
    Planning {
        members: Vec<MemberSubscription>,
    },
    ToSync {
        assignments: Vec<(String, Bytes)>,
    },
    Syncing,
    Stable,
    /// Left for want of a poll.
    Idle,
    Failed,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Membership {
    config: MembershipConfig,
    assignors: Vec<Arc<dyn Assignor>>,
    state: State,
    topics: Vec<String>,
    /// Partitions per subscribed topic as last heard, and as they were when this member last joined.
    counts: BTreeMap<String, i32>,
    counts_at_join: BTreeMap<String, i32>,
    member_id: String,
    generation_id: i32,
    protocol: String,
    owned: BTreeSet<TopicPartition>,
    /// Cooperative only: what the application is giving back while the rest goes on.
    returning: Option<BTreeSet<TopicPartition>>,
    next_heartbeat: Instant,
    last_poll: Instant,
    polling: bool,
    join_reason: &'static str,
    leaving: Option<&'static str>,
    events: Vec<GroupEvent>,
}

impl Membership {
    pub(crate) fn new(
        config: MembershipConfig,
        assignors: Vec<Arc<dyn Assignor>>,
        now: Instant,
    ) -> Membership {
        Membership {
            config,
            assignors,
            state: State::Out,
            topics: Vec::new(),
            counts: BTreeMap::new(),
            counts_at_join: BTreeMap::new(),
            member_id: String::new(),
            generation_id: -1,
            protocol: String::new(),
            owned: BTreeSet::new(),
            returning: None,
            next_heartbeat: now,
            last_poll: now,
            polling: false,
            join_reason: "",
            leaving: None,
            events: Vec::new(),
        }
    }

    /// Group id, generation, member id and instance id, as commits and transactions state them.
    pub(crate) fn identity(&self) -> (&str, i32, &str, Option<&str>) {
        (
            &self.config.group_id,
            self.generation_id,
            &self.member_id,
            self.config.instance_id.as_deref(),
        )
    }

    /// What it subscribed to.
    pub(crate) fn topics(&self) -> &[String] {
        &self.topics
    }

    pub(crate) fn take_events(&mut self) -> Vec<GroupEvent> {
        std::mem::take(&mut self.events)
    }

    /// Subscribes to `topics`, all of them; an empty list leaves the group.
    pub(crate) fn on_subscribe(&mut self, topics: Vec<String>, now: Instant) {
        self.last_poll = now;
        if topics.is_empty() {
            self.leave("the consumer unsubscribed");
            self.topics.clear();
            return;
        }
        if topics == self.topics && self.state != State::Out {
            return;
        }
        self.topics = topics;
        match self.state {
            State::Out | State::Idle | State::Failed => self.plan_join(now, "subscribed"),
            State::Stable => self.rejoin(now, "the subscription changed"),
            _ => {}
        }
    }

    /// The application polls, or (`polling` false) has what it polled for. Says whether there is something to do now.
    pub(crate) fn on_poll(&mut self, polling: bool, now: Instant) -> bool {
        self.polling = polling;
        self.last_poll = now;
        let again = polling && self.state == State::Idle;
        if again {
            self.plan_join(now, "polled again");
        }
        again
    }

    /// The application has finished with what was being revoked.
    pub(crate) fn on_rebalance_done(&mut self, now: Instant) {
        if self.state == State::Revoking {
            self.owned.clear();
            self.plan_join(now, "gave its partitions back");
        } else if let Some(returned) = self.returning.take() {
            self.owned.retain(|partition| !returned.contains(partition));
            if self.state == State::Stable {
                self.plan_join(now, "gave moving partitions back");
            }
        }
    }

    /// The number of partitions of the subscribed topics, as metadata has it now.
    pub(crate) fn on_partition_counts(&mut self, counts: BTreeMap<String, i32>, now: Instant) {
        self.counts = counts;
        let changed = self.counts != self.counts_at_join;
        if changed && self.state == State::Stable && self.returning.is_none() {
            self.rejoin(now, "topics or partitions changed");
        }
    }

    /// What to do at `now`.
    pub(crate) fn next(&mut self, now: Instant) -> Action {
        if let Some(reason) = self.leaving.take() {
            let member_id = std::mem::take(&mut self.member_id);
            self.generation_id = -1;
            return Action::Leave { member_id, reason };
        }
        if self.poll_is_overdue(now) {
            self.lose();
            self.leave("no poll within max.poll.interval");
            self.state = State::Idle;
            return self.next(now);
        }
        match &mut self.state {
            State::ToJoin { not_before } if *not_before > now => Action::Wait(Some(*not_before)),
            State::ToJoin { .. } => self.join(),
            State::Planning { members } => {
                let topics = members
                    .iter()
                    .flat_map(|member| member.topics.clone())
                    .collect();
                Action::Plan { topics }
            }
            State::ToSync { assignments } => {
                let assignments = std::mem::take(assignments);
                self.state = State::Syncing;
                Action::Sync {
                    protocol: self.protocol.clone(),
                    assignments,
                }
            }
            State::Stable | State::Revoking if self.generation_id >= 0 => {
                if self.next_heartbeat <= now {
                    self.next_heartbeat = now + self.config.heartbeat_interval;
                    return Action::Heartbeat;
                }
                let poll_by = self.last_poll + self.config.max_poll_interval;
                let wait = if self.polling {
                    self.next_heartbeat
                } else {
                    self.next_heartbeat.min(poll_by)
                };
                Action::Wait(Some(wait))
            }
            _ => Action::Wait(None),
        }
    }

    fn poll_is_overdue(&self, now: Instant) -> bool {
        let member = !matches!(self.state, State::Out | State::Idle | State::Failed);
        member && !self.polling && now >= self.last_poll + self.config.max_poll_interval
    }

    fn join(&mut self) -> Action {
        self.state = State::Joining;
        self.counts_at_join.clone_from(&self.counts);
        let owned: Vec<TopicPartition> = match self.rebalance_protocol() {
            RebalanceProtocol::Eager => Vec::new(),
            RebalanceProtocol::Cooperative => self.owned.iter().cloned().collect(),
        };
        let protocols = self
            .assignors
            .iter()
            .map(|assignor| {
                let subscription = MemberSubscription {
                    member_id: String::new(),
                    group_instance_id: None,
                    topics: self.topics.clone(),
                    user_data: assignor.subscription_user_data(&self.topics, &owned),
                    owned_partitions: owned.clone(),
                    generation_id: self.generation_id,
                    rack_id: None,
                };
                (
                    assignor.name().to_owned(),
                    encode_subscription(&subscription),
                )
            })
            .collect();
        Action::Join {
            member_id: self.member_id.clone(),
            protocols,
            reason: self.join_reason,
        }
    }

    /// A member follows the least of its assignors' protocols, as it cannot know which the group takes.
    fn rebalance_protocol(&self) -> RebalanceProtocol {
        self.assignors
            .iter()
            .map(|assignor| assignor.protocol())
            .min()
            .unwrap_or(RebalanceProtocol::Eager)
    }

    /// JoinGroup was answered.
    pub(crate) fn on_joined(&mut self, joined: Joined, now: Instant) {
        if self.state != State::Joining {
            return;
        }
        let code = ErrorCode::from_code(joined.error_code);
        match code {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired => {
                self.member_id = joined.member_id;
                self.plan_join(now, "got its member id");
                return;
            }
            _ => {
                self.on_refusal(code, "JoinGroup", now);
                return;
            }
        }
        self.generation_id = joined.generation_id;
        self.member_id = joined.member_id;
        self.protocol = joined.protocol;
        if self.assignor().is_none() {
            let reason = format!("the group chose assignor {}, unknown here", self.protocol);
            self.fail(ClientError::Fatal(Failure::new(self.subject(), reason)));
            return;
        }
        if joined.leader != self.member_id || joined.skip_assignment {
            self.state = State::ToSync {
                assignments: Vec::new(),
            };
            return;
        }
        let members = joined
            .members
            .into_iter()
            .map(|(member_id, instance_id, bytes)| {
                // A member whose subscription cannot be read gets nothing, rather than stop the group.
                let unreadable = MemberSubscription {
                    member_id: member_id.clone(),
                    generation_id: -1,
                    ..MemberSubscription::default()
                };
                decode_subscription(member_id, instance_id, bytes).unwrap_or(unreadable)
            })
            .collect();
        self.state = State::Planning { members };
    }

    /// The leader's facts: the number of partitions of each topic that exists.
    pub(crate) fn on_plan(&mut self, counts: &BTreeMap<String, i32>) {
        let State::Planning { members } = &self.state else {
            return;
        };
        let Some(assignor) = self.assignor() else {
            return;
        };
        let mut plan = assignor.assign(counts, members);
        let assignments = members
            .iter()
            .map(|member| {
                let assignment = plan.remove(&member.member_id).unwrap_or_default();
                (member.member_id.clone(), encode_assignment(&assignment))
            })
            .collect();
        self.state = State::ToSync { assignments };
    }

    /// SyncGroup was answered.
    pub(crate) fn on_synced(&mut self, error_code: i16, assignment: Bytes, now: Instant) {
        if self.state != State::Syncing {
            return;
        }
        let code = ErrorCode::from_code(error_code);
        if code != ErrorCode::None {
            self.on_refusal(code, "SyncGroup", now);
            return;
        }
        let Ok(assignment) = decode_assignment(assignment) else {
            let failure = Failure::new(self.subject(), "the leader's assignment cannot be read");
            self.fail(ClientError::Corrupt(failure.in_api("SyncGroup")));
            return;
        };
        self.take_assignment(&assignment, now);
    }

    fn take_assignment(&mut self, assignment: &MemberAssignment, now: Instant) {
        self.state = State::Stable;
        self.next_heartbeat = now + self.config.heartbeat_interval;
        if let Some(assignor) = self.assignor() {
            assignor.on_assignment(assignment, self.generation_id);
        }
        let given: BTreeSet<TopicPartition> = assignment.partitions.iter().cloned().collect();
        let added: Vec<TopicPartition> = given.difference(&self.owned).cloned().collect();
        let returning: BTreeSet<TopicPartition> = self.owned.difference(&given).cloned().collect();
        self.owned.extend(given);
        if !returning.is_empty() {
            self.events
                .push(GroupEvent::Revoking(returning.iter().cloned().collect()));
            self.returning = Some(returning);
        }
        self.events.push(GroupEvent::Assigned(added));
    }

    /// Heartbeat was answered.
    pub(crate) fn on_heartbeat(&mut self, error_code: i16, now: Instant) {
        if !matches!(self.state, State::Stable | State::Revoking) {
            return;
        }
        match ErrorCode::from_code(error_code) {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => {
                if self.state == State::Stable && self.returning.is_none() {
                    self.rejoin(now, "the group rebalances");
                }
            }
            code => self.on_refusal(code, "Heartbeat", now),
        }
    }

    /// A commit was refused with a code that says the member is not (or no longer) what it thinks.
    pub(crate) fn on_commit_refused(&mut self, code: ErrorCode, now: Instant) {
        match code {
            ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::FencedInstanceId
                if matches!(self.state, State::Stable | State::Revoking) =>
            {
                self.on_refusal(code, "OffsetCommit", now);
            }
            ErrorCode::RebalanceInProgress
                if self.state == State::Stable && self.returning.is_none() =>
            {
                self.rejoin(now, "the group rebalances");
            }
            _ => {}
        }
    }

    /// A request could not be answered: the connection is gone, or the coordinator is another one. Tries again later.
    pub(crate) fn on_unavailable(&mut self, now: Instant) {
        let later = now + self.config.retry_backoff;
        match self.state {
            // Whether the join or sync took effect is unknown; joining again tells.
            State::Joining | State::Syncing => self.state = State::ToJoin { not_before: later },
            _ => self.next_heartbeat = self.next_heartbeat.min(later),
        }
    }

    /// The coordinator cannot be asked at all: no permission, no common version.
    pub(crate) fn on_failed(&mut self, error: ClientError) {
        self.lose();
        self.fail(error);
    }

    /// The consumer closes: dynamic members leave at once, static ones keep their place until the session ends.
    pub(crate) fn on_close(&mut self) {
        if self.config.instance_id.is_some() {
            self.state = State::Out;
            self.owned.clear();
        } else {
            self.leave("the consumer was closed");
        }
    }

    fn on_refusal(&mut self, code: ErrorCode, api: &'static str, now: Instant) {
        match code {
            ErrorCode::RebalanceInProgress => {
                self.state = State::ToJoin { not_before: now };
                self.join_reason = "the group rebalances";
            }
            ErrorCode::IllegalGeneration => {
                self.lose();
                self.plan_join(now, "its generation is over");
            }
            ErrorCode::UnknownMemberId => {
                self.lose();
                self.member_id.clear();
                self.plan_join(now, "the group no longer knows it");
            }
            // Also what says nothing of the group, as a disk that is full: the application would be told to try again, and nobody would.
            code if code.is_retriable() => self.on_unavailable(now),
            code => {
                self.lose();
                let error = refused(code, self.subject()).map(|failure| failure.in_api(api));
                self.fail(error);
            }
        }
    }

    fn rejoin(&mut self, now: Instant, reason: &'static str) {
        let eager = self.rebalance_protocol() == RebalanceProtocol::Eager;
        if eager && !self.owned.is_empty() {
            self.events
                .push(GroupEvent::Revoking(self.owned.iter().cloned().collect()));
            self.state = State::Revoking;
            self.join_reason = reason;
        } else {
            self.plan_join(now, reason);
        }
    }

    fn plan_join(&mut self, now: Instant, reason: &'static str) {
        self.state = State::ToJoin { not_before: now };
        self.join_reason = reason;
    }

    /// What it holds is no longer its own, and its generation is over.
    fn lose(&mut self) {
        let lost: Vec<TopicPartition> = std::mem::take(&mut self.owned).into_iter().collect();
        self.returning = None;
        self.generation_id = -1;
        if !lost.is_empty() {
            self.events.push(GroupEvent::Lost(lost));
        }
    }

    fn leave(&mut self, reason: &'static str) {
        self.owned.clear();
        self.returning = None;
        self.state = State::Out;
        if !self.member_id.is_empty() && self.config.instance_id.is_none() {
            self.leaving = Some(reason);
        }
    }

    fn fail(&mut self, error: ClientError) {
        self.state = State::Failed;
        self.events.push(GroupEvent::Failed(error));
    }

    fn assignor(&self) -> Option<&Arc<dyn Assignor>> {
        self.assignors
            .iter()
            .find(|assignor| assignor.name() == self.protocol)
    }

    fn subject(&self) -> String {
        format!("group {}", self.config.group_id)
    }
}

#[cfg(test)]
mod tests;
