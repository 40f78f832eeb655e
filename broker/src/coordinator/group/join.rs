//! JoinGroup: who may join, under which id, and whether that causes a rebalance. Part of [`Membership`], called by the shard only.

use flumen_protocol::error_code::ErrorCode;

use super::classic::{
    ClassicConfig, Completion, Effects, InitialDelay, JoinReply, Membership,
    NEW_MEMBER_JOIN_TIMEOUT_MS, Phase, Timer, release,
};
use super::member::{Member, Protocol};
use crate::coordinator::{Time, Token};

/// A JoinGroup request, every version.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) token: Token,
    /// Empty for who has none yet.
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    /// The id a newcomer gets: `<client id or instance id>-<uuid>`, made by the caller since chance is no part of a machine.
    pub(crate) fresh_member_id: String,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<Protocol>,
    /// v4+: a newcomer without instance id is first told its id and must come again with it (KIP-394).
    pub(crate) require_known_member_id: bool,
    /// v9+: a static leader that came back can be told to skip the assignment (KIP-814).
    pub(crate) can_skip_assignment: bool,
}

impl Membership {
    /// A member, or somebody who wants to become one, asks to be in the next generation.
    pub(crate) fn on_join(
        &mut self,
        join: Join,
        config: &ClassicConfig,
        now: Time,
        fx: &mut Effects,
    ) {
        let bounds = config.session_timeout_min_ms..=config.session_timeout_max_ms;
        if !bounds.contains(&join.session_timeout_ms) {
            return refuse(&join, ErrorCode::InvalidSessionTimeout, fx);
        }
        let newcomer = join.member_id.is_empty();
        let place_is_kept =
            |instance: &String| newcomer && self.static_members.contains_key(instance);
        let full = self.members.len() + self.pending_members.len() >= config.max_size;
        if newcomer && full && !join.instance_id.as_ref().is_some_and(place_is_kept) {
            return refuse(&join, ErrorCode::GroupMaxSizeReached, fx);
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return refuse(&join, ErrorCode::InconsistentGroupProtocol, fx);
        }
        if newcomer {
            self.on_newcomer(join, config, now, fx)
        } else {
            self.on_known(join, config, now, fx)
        }
    }

    fn on_newcomer(&mut self, join: Join, config: &ClassicConfig, now: Time, fx: &mut Effects) {
        let member_id = join.fresh_member_id.clone();
        let current = join
            .instance_id
            .as_ref()
            .and_then(|instance| self.static_members.get(instance))
            .cloned();
        if let Some(old_member_id) = current {
            self.replace_static(&old_member_id, join, now, fx);
        } else if join.instance_id.is_none() && join.require_known_member_id {
            let session_ms = u64::try_from(join.session_timeout_ms).unwrap_or(0);
            self.pending_members.insert(member_id.clone());
            self.timers.set(
                Timer::Session(member_id.clone()),
                now.monotonic_ms + session_ms,
            );
            let reply = JoinReply::error(&member_id, ErrorCode::MemberIdRequired);
            fx.completions.push((join.token, Completion::Join(reply)));
        } else {
            self.add_member(member_id, join, config, (now, fx));
        }
    }

    fn on_known(&mut self, join: Join, config: &ClassicConfig, now: Time, fx: &mut Effects) {
        if join.instance_id.is_none() && self.pending_members.remove(&join.member_id) {
            return self.add_member(join.member_id.clone(), join, config, (now, fx));
        }
        if let Err(error) = self.validate_member(&join.member_id, join.instance_id.as_deref()) {
            return refuse(&join, error, fx);
        }
        let member = &self.members[&join.member_id];
        let unchanged = member.protocols == join.protocols;
        let leads = self.leader.as_ref() == Some(&join.member_id);
        match self.phase {
            Phase::Empty => refuse(&join, ErrorCode::UnknownMemberId, fx),
            // The reply of this generation was lost, or a follower asks again: the generation stands.
            Phase::CompletingRebalance if unchanged => self.repeat_reply(&join, now, fx),
            Phase::Stable if unchanged && !leads => self.repeat_reply(&join, now, fx),
            Phase::PreparingRebalance => {
                self.update_member(&join, now, fx);
                self.try_complete_join(now, fx);
            }
            // Other metadata, or the leader wants to assign anew (it saw topics change).
            Phase::CompletingRebalance | Phase::Stable => {
                self.update_member(&join, now, fx);
                self.prepare_rebalance(now, fx);
            }
        }
    }

    fn repeat_reply(&mut self, join: &Join, now: Time, fx: &mut Effects) {
        self.touch(&join.member_id, now);
        fx.completions.push((
            join.token,
            Completion::Join(self.join_reply(&join.member_id)),
        ));
    }

    fn add_member(
        &mut self,
        member_id: String,
        join: Join,
        config: &ClassicConfig,
        (now, fx): (Time, &mut Effects),
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if let Some(initial) = &mut self.initial {
            initial.new_member_added = true;
        }
        if let Some(instance) = &join.instance_id {
            self.static_members
                .insert(instance.clone(), member_id.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        self.timers.set(
            Timer::Session(member_id.clone()),
            now.monotonic_ms + NEW_MEMBER_JOIN_TIMEOUT_MS,
        );
        self.members.insert(
            member_id.clone(),
            Member {
                member_id,
                instance_id: join.instance_id,
                client_id: join.client_id,
                client_host: join.client_host,
                rebalance_timeout_ms: join.rebalance_timeout_ms,
                session_timeout_ms: join.session_timeout_ms,
                protocols: join.protocols,
                is_new: true,
                join: Some(join.token),
                ..Member::default()
            },
        );
        match self.phase {
            Phase::Empty => {
                self.begin_initial_rebalance(config.initial_rebalance_delay_ms, now, fx)
            }
            Phase::PreparingRebalance => self.try_complete_join(now, fx),
            Phase::CompletingRebalance | Phase::Stable => self.prepare_rebalance(now, fx),
        }
    }

    /// The first member of an empty group: others are probably starting too, so wait for them once.
    fn begin_initial_rebalance(&mut self, delay_ms: u64, now: Time, fx: &mut Effects) {
        self.enter(Phase::PreparingRebalance, now);
        if delay_ms == 0 {
            return self.complete_join(now, fx);
        }
        let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
        self.initial = Some(InitialDelay {
            step_ms: delay_ms,
            remaining_ms,
            new_member_added: false,
        });
        self.timers.set(Timer::Join, now.monotonic_ms + delay_ms);
    }

    /// What a rejoining member brings is taken over; an older JoinGroup of it that still waits is answered, for nobody reads it.
    fn update_member(&mut self, join: &Join, now: Time, fx: &mut Effects) {
        let Some(member) = self.members.get_mut(&join.member_id) else {
            return;
        };
        release(member, ErrorCode::RebalanceInProgress, fx);
        member.protocols.clone_from(&join.protocols);
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        member.join = Some(join.token);
        self.touch(&join.member_id, now);
    }

    /// A static member came back without its member id (it restarted): it takes the place of its former self, who is fenced.
    fn replace_static(&mut self, old_member_id: &str, mut join: Join, now: Time, fx: &mut Effects) {
        let member_id = join.fresh_member_id.clone();
        let former_leader = self.leader.clone().unwrap_or_default();
        let Some(mut member) = self.members.remove(old_member_id) else {
            return;
        };
        release(&mut member, ErrorCode::FencedInstanceId, fx);
        self.timers
            .cancel(&Timer::Session(old_member_id.to_owned()));
        if self.pending_sync.remove(old_member_id) {
            self.pending_sync.insert(member_id.clone());
        }
        if self.leader.as_deref() == Some(old_member_id) {
            self.leader = Some(member_id.clone());
        }
        if let Some(instance) = &member.instance_id {
            self.static_members
                .insert(instance.clone(), member_id.clone());
        }
        member.member_id.clone_from(&member_id);
        member.client_id = std::mem::take(&mut join.client_id);
        member.client_host = std::mem::take(&mut join.client_host);
        self.members.insert(member_id.clone(), member);
        join.member_id.clone_from(&member_id);
        self.update_member(&join, now, fx);
        match self.phase {
            Phase::Stable if self.protocol == self.protocol_of_next_generation() => {
                let reply = self.rejoined_reply(&join, former_leader);
                self.finish_join(&member_id, reply, fx);
                fx.persist = true; // the member id is part of the generation
            }
            // The leader may be assigning to the old member id at this moment.
            Phase::Stable | Phase::CompletingRebalance => self.prepare_rebalance(now, fx),
            Phase::PreparingRebalance | Phase::Empty => self.try_complete_join(now, fx),
        }
    }

    fn protocol_of_next_generation(&self) -> Option<String> {
        let leader = self.leader.as_deref().unwrap_or_default();
        super::member::select_protocol(&self.members, leader)
    }

    /// No rebalance: who came back continues in the generation. A leader must not assign again: from v9 it is told so, before
    /// that it is told that its former self leads.
    fn rejoined_reply(&self, join: &Join, former_leader: String) -> JoinReply {
        let mut reply = self.join_reply(&join.member_id);
        if join.can_skip_assignment {
            reply.skip_assignment = self.leader.as_ref() == Some(&join.member_id);
        } else {
            reply.members.clear();
            reply.leader = former_leader;
        }
        reply
    }
}

fn refuse(join: &Join, error: ErrorCode, fx: &mut Effects) {
    fx.completions.push((
        join.token,
        Completion::Join(JoinReply::error(&join.member_id, error)),
    ));
}
