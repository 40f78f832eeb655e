//! The classic group protocol: members, generations, rebalances. An event machine: JoinGroup is in `join.rs`; SyncGroup, Heartbeat
//! and LeaveGroup are in `sync.rs`; here are the state, its transitions and its deadlines.
//!
//! What must survive a crash (generation, members, assignments) leaves as [`Effects::persist`]; the shard writes it as one
//! `GroupMetadata` record and lets no reply out before that is committed. What need not survive (who waits for which reply, whose
//! session ends when) lives here only.
//!
//! ```text
//! Empty ──join──▶ PreparingRebalance ──all joined, or the deadline──▶ CompletingRebalance ──leader's sync──▶ Stable
//!   ▲                 │     ▲ ▲                                              │                                │
//!   └──nobody left────┘     │ └──join with other metadata, leave, sync deadline, session end ────────────────┤
//!                           └──join with other metadata, leader's join, leave, session end ──────────────────┘
//! ```
//! Source: Kafka `GroupMetadataManager` (the `classicGroup*` methods), KIP-62, KIP-134, KIP-345, KIP-394, KIP-814.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;

use super::member::{Member, Protocol, common_protocols, select_protocol};
use super::record::{GroupMetadata, MemberMetadata};
use crate::coordinator::timers::Timers;
use crate::coordinator::{Time, Token};

/// Where a group is in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// No members; perhaps offsets.
    Empty,
    /// Waits for its members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
}

impl Phase {
    /// Kafka's name, as DescribeGroups and ListGroups print it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::PreparingRebalance => "PreparingRebalance",
            Phase::CompletingRebalance => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }
}

/// What JoinGroup answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinReply {
    pub(crate) error: ErrorCode,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: String,
    /// Filled for the leader only.
    pub(crate) members: Vec<JoinedMember>,
}

/// What the leader learns of each member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) metadata: Bytes,
}

impl JoinReply {
    pub(crate) fn error(member_id: &str, error: ErrorCode) -> JoinReply {
        JoinReply {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// What SyncGroup answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyncReply {
    pub(crate) error: ErrorCode,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

impl SyncReply {
    pub(crate) fn error(error: ErrorCode) -> SyncReply {
        SyncReply {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

/// The reply to a request that had to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    Join(JoinReply),
    Sync(SyncReply),
}

/// What a step of the protocol wants done outside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) completions: Vec<(Token, Completion)>,
    /// The group's metadata changed in a way that must survive: write it before any reply leaves.
    pub(crate) persist: bool,
}

/// Bounds and delays, from the broker's configuration.
#[derive(Clone, Debug)]
pub(crate) struct ClassicConfig {
    pub(crate) session_timeout_min_ms: i32,
    pub(crate) session_timeout_max_ms: i32,
    pub(crate) initial_rebalance_delay_ms: u64,
    pub(crate) max_size: usize,
}

impl Default for ClassicConfig {
    fn default() -> ClassicConfig {
        ClassicConfig {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
        }
    }
}

/// A member that was never told its id cannot be seen leaving: its JoinGroup is given up after this. (Kafka: NewMemberJoinTimeoutMs.)
pub(super) const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 300_000;

/// The deadlines of one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The join phase ends, with whoever has joined.
    Join,
    /// The sync phase ends: who has not synced is out.
    Sync,
    /// A member's session, or the life of a member id that was given out and never used.
    Session(String),
}

/// The first members of an empty group are waited for a little, so that ten consumers starting together cause one rebalance.
#[derive(Clone, Debug)]
pub(super) struct InitialDelay {
    pub(super) step_ms: u64,
    pub(super) remaining_ms: u64,
    pub(super) new_member_added: bool,
}

/// The members of one classic group and where they are in the protocol.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Instance id → member id.
    pub(super) static_members: BTreeMap<String, String>,
    /// Member ids that were given out (KIP-394) and have not joined yet.
    pub(super) pending_members: BTreeSet<String>,
    /// Members of this generation that have not asked for their assignment yet.
    pub(super) pending_sync: BTreeSet<String>,
    pub(super) initial: Option<InitialDelay>,
    pub(super) timers: Timers<Timer>,
    /// Wall time of the last change of phase.
    pub(super) state_timestamp_ms: i64,
}

impl Membership {
    /// A group nobody has joined.
    pub(crate) fn new(now: Time) -> Membership {
        Membership {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            initial: None,
            timers: Timers::default(),
            state_timestamp_ms: now.wall_ms,
        }
    }

    /// A group as its log has it: every session starts anew, nobody waits.
    pub(crate) fn restore(metadata: &GroupMetadata, now: Time) -> Membership {
        let mut group = Membership::new(now);
        group.generation = metadata.generation;
        group.protocol_type = Some(metadata.protocol_type.clone()).filter(|kind| !kind.is_empty());
        group.protocol.clone_from(&metadata.protocol);
        group.leader.clone_from(&metadata.leader);
        group.state_timestamp_ms = metadata.state_timestamp_ms;
        for member in &metadata.members {
            let protocol = Protocol {
                name: metadata.protocol.clone().unwrap_or_default(),
                metadata: member.subscription.clone(),
            };
            if let Some(instance) = &member.instance_id {
                group
                    .static_members
                    .insert(instance.clone(), member.member_id.clone());
            }
            group.members.insert(
                member.member_id.clone(),
                Member {
                    member_id: member.member_id.clone(),
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    protocols: vec![protocol],
                    assignment: member.assignment.clone(),
                    ..Member::default()
                },
            );
            group.touch(&member.member_id, now);
        }
        if !group.members.is_empty() {
            group.phase = Phase::Stable;
        }
        group
    }

    /// What the log is told: the stable generation with its assignments, or that the group is empty.
    pub(crate) fn metadata(&self) -> GroupMetadata {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| MemberMetadata {
            member_id: member.member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: member.assignment.clone(),
        });
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: members.collect(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(crate) fn state_timestamp_ms(&self) -> i64 {
        self.state_timestamp_ms
    }

    /// Nobody is in it and nobody was promised a place.
    pub(crate) fn is_vacant(&self) -> bool {
        self.phase == Phase::Empty && self.pending_members.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.timers.next()
    }

    /// The member's session begins again, unless it waits for a join (then the rebalance's deadline holds).
    pub(crate) fn touch(&mut self, member_id: &str, now: Time) {
        if let Some(member) = self.members.get(member_id) {
            let session_ms = u64::try_from(member.session_timeout_ms).unwrap_or(0);
            self.timers.set(
                Timer::Session(member_id.to_owned()),
                now.monotonic_ms + session_ms,
            );
        }
    }

    /// Refuses a member the group does not know, and a static member whose place has been taken over.
    pub(crate) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    /// Everything whose time has come.
    pub(crate) fn on_tick(&mut self, now: Time, fx: &mut Effects) {
        while let Some(timer) = self.timers.pop_due(now.monotonic_ms) {
            match timer {
                Timer::Join => self.on_join_deadline(now, fx),
                Timer::Sync => self.on_sync_deadline(now, fx),
                Timer::Session(member_id) => self.on_session_end(&member_id, now, fx),
            }
        }
    }

    fn on_join_deadline(&mut self, now: Time, fx: &mut Effects) {
        if let Some(initial) = &mut self.initial
            && initial.new_member_added
            && initial.remaining_ms > 0
        {
            initial.new_member_added = false;
            let delay = initial.remaining_ms.min(initial.step_ms);
            initial.remaining_ms -= delay;
            self.timers.set(Timer::Join, now.monotonic_ms + delay);
            return;
        }
        self.complete_join(now, fx);
    }

    fn on_sync_deadline(&mut self, now: Time, fx: &mut Effects) {
        if !matches!(self.phase, Phase::CompletingRebalance | Phase::Stable)
            || self.pending_sync.is_empty()
        {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_sync) {
            self.remove_member(&member_id, fx);
        }
        self.prepare_rebalance(now, fx);
    }

    fn on_session_end(&mut self, member_id: &str, now: Time, fx: &mut Effects) {
        if self.pending_members.remove(member_id) {
            self.try_complete_join(now, fx);
            return;
        }
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        let waits_for_us = member.sync.is_some() || (member.join.is_some() && !member.is_new);
        if waits_for_us {
            self.touch(member_id, now);
            return;
        }
        self.expel(member_id, now, fx);
    }

    /// Takes a member out and lets the group go on without it.
    pub(super) fn expel(&mut self, member_id: &str, now: Time, fx: &mut Effects) {
        self.remove_member(member_id, fx);
        match self.phase {
            Phase::Stable | Phase::CompletingRebalance => self.prepare_rebalance(now, fx),
            Phase::PreparingRebalance => self.try_complete_join(now, fx),
            Phase::Empty => {}
        }
    }

    /// Takes a member out; what it waits for is answered UNKNOWN_MEMBER_ID, so that a living client joins again.
    pub(super) fn remove_member(&mut self, member_id: &str, fx: &mut Effects) {
        let Some(mut member) = self.members.remove(member_id) else {
            return;
        };
        self.timers.cancel(&Timer::Session(member_id.to_owned()));
        self.pending_sync.remove(member_id);
        release(&mut member, ErrorCode::UnknownMemberId, fx);
        if let Some(instance) = &member.instance_id
            && self
                .static_members
                .get(instance)
                .is_some_and(|current| current == member_id)
        {
            self.static_members.remove(instance);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Time) {
        self.phase = phase;
        self.state_timestamp_ms = now.wall_ms;
    }

    /// The longest a member may take to rejoin.
    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0);
        u64::try_from(longest).unwrap_or(0)
    }

    /// Starts a rebalance: who waits for an assignment is sent to join again.
    pub(super) fn prepare_rebalance(&mut self, now: Time, fx: &mut Effects) {
        for member in self.members.values_mut() {
            if let Some(token) = member.sync.take() {
                fx.completions.push((
                    token,
                    Completion::Sync(SyncReply::error(ErrorCode::RebalanceInProgress)),
                ));
            }
        }
        self.timers.cancel(&Timer::Sync);
        self.pending_sync.clear();
        self.enter(Phase::PreparingRebalance, now);
        if self.all_joined() {
            self.complete_join(now, fx);
        } else {
            self.timers
                .set(Timer::Join, now.monotonic_ms + self.rebalance_timeout_ms());
        }
    }

    /// Ends the join phase if nobody is missing (the initial delay of a fresh group is always waited out).
    pub(super) fn try_complete_join(&mut self, now: Time, fx: &mut Effects) {
        if self.phase == Phase::PreparingRebalance && self.initial.is_none() && self.all_joined() {
            self.complete_join(now, fx);
        }
    }

    fn all_joined(&self) -> bool {
        self.pending_members.is_empty() && self.members.values().all(|member| member.join.is_some())
    }

    /// Ends the join phase with those who are there: the next generation.
    pub(super) fn complete_join(&mut self, now: Time, fx: &mut Effects) {
        self.timers.cancel(&Timer::Join);
        let missing = self
            .members
            .values()
            .filter(|member| member.join.is_none() && member.instance_id.is_none());
        for member_id in missing
            .map(|member| member.member_id.clone())
            .collect::<Vec<_>>()
        {
            self.remove_member(&member_id, fx);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none of them is back yet: wait for one, or for the ends of their sessions.
            self.timers
                .set(Timer::Join, now.monotonic_ms + self.rebalance_timeout_ms());
            return;
        }
        self.initial = None;
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.enter(Phase::Empty, now);
            fx.persist = true;
            return;
        }
        let leader = self
            .leader
            .clone()
            .expect("a leader was elected among the joined members");
        self.protocol = select_protocol(&self.members, &leader);
        self.enter(Phase::CompletingRebalance, now);
        self.timers
            .set(Timer::Sync, now.monotonic_ms + self.rebalance_timeout_ms());
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.pending_sync.insert(member_id.clone());
            let reply = self.join_reply(&member_id);
            self.finish_join(&member_id, reply, fx);
            self.touch(&member_id, now);
        }
    }

    /// Keeps the leader if it has joined, else makes one of those who have.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &String| {
            self.members
                .get(id)
                .is_some_and(|member| member.join.is_some())
        };
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let elected = self
            .members
            .values()
            .find(|member| member.join.is_some())
            .map(|member| member.member_id.clone());
        let found = elected.is_some();
        if found {
            self.leader = elected;
        }
        found
    }

    /// Answers a member's waiting JoinGroup, if it has one.
    pub(super) fn finish_join(&mut self, member_id: &str, reply: JoinReply, fx: &mut Effects) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if let Some(token) = member.join.take() {
            member.is_new = false;
            fx.completions.push((token, Completion::Join(reply)));
        }
    }

    /// The current generation, as a member sees it: only the leader is shown the others.
    pub(super) fn join_reply(&self, member_id: &str) -> JoinReply {
        let leads = self.leader.as_deref() == Some(member_id);
        JoinReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if leads {
                self.joined_members()
            } else {
                Vec::new()
            },
        }
    }

    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let joined = self.members.values().map(|member| JoinedMember {
            member_id: member.member_id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        });
        joined.collect()
    }

    /// A newcomer must speak the group's protocol type and share a protocol with all its members.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let common = common_protocols(&self.members);
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|offered| common.contains(&offered.name))
    }
}

/// Answers whatever the member waits for with `error`.
pub(super) fn release(member: &mut Member, error: ErrorCode, fx: &mut Effects) {
    if let Some(token) = member.join.take() {
        fx.completions.push((
            token,
            Completion::Join(JoinReply::error(&member.member_id, error)),
        ));
    }
    if let Some(token) = member.sync.take() {
        fx.completions
            .push((token, Completion::Sync(SyncReply::error(error))));
    }
}
