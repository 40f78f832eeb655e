//! SyncGroup, Heartbeat, LeaveGroup, and who may commit offsets. Part of [`Membership`], called by the shard only.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_planted::{Bug, planted};
use flumen_protocol::error_code::ErrorCode;

use super::classic::{Completion, Effects, Membership, Phase, SyncReply, Timer};
use crate::coordinator::{Time, Token};

/// A SyncGroup request, every version.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) token: Token,
    pub(crate) generation: i32,
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    /// v5+: must be the group's, if given (KIP-559).
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    /// From the leader: member id → assignment.
    pub(crate) assignments: BTreeMap<String, Bytes>,
}

/// Who says it belongs to which generation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    /// -1 for who does not use the group protocol.
    pub(crate) generation: i32,
}

impl Membership {
    /// A member asks for its assignment; the leader brings everyone's.
    pub(crate) fn on_sync(&mut self, mut sync: Sync, now: Time, fx: &mut Effects) {
        if let Err(error) = self.validate_sync(&sync) {
            fx.completions
                .push((sync.token, Completion::Sync(SyncReply::error(error))));
            return;
        }
        self.pending_sync.remove(&sync.member_id);
        self.touch(&sync.member_id, now);
        if self.phase == Phase::Stable {
            fx.completions.push((
                sync.token,
                Completion::Sync(self.sync_reply(&sync.member_id)),
            ));
            return;
        }
        let Some(member) = self.members.get_mut(&sync.member_id) else {
            return;
        };
        super::classic::release(member, ErrorCode::RebalanceInProgress, fx);
        member.sync = Some(sync.token);
        if self.leader.as_ref() == Some(&sync.member_id) {
            self.stabilise(&mut sync.assignments, now, fx);
        }
    }

    fn validate_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        self.validate_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs =
            |asked: &Option<String>, ours: &Option<String>| asked.is_some() && asked != ours;
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::Empty => Err(ErrorCode::UnknownMemberId),
            Phase::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    /// The leader's assignment is here: the generation stands, and everyone who waited gets its part once it is on disk.
    fn stabilise(
        &mut self,
        assignments: &mut BTreeMap<String, Bytes>,
        now: Time,
        fx: &mut Effects,
    ) {
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.member_id).unwrap_or_default();
        }
        self.enter(Phase::Stable, now);
        fx.persist = true;
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            let reply = self.sync_reply(&member_id);
            if let Some(token) = self
                .members
                .get_mut(&member_id)
                .and_then(|member| member.sync.take())
            {
                fx.completions.push((token, Completion::Sync(reply)));
                self.touch(&member_id, now);
            }
        }
    }

    fn sync_reply(&self, member_id: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map_or_else(Bytes::new, |member| member.assignment.clone()),
        }
    }

    /// A member says that it lives, and learns whether it must join again.
    pub(crate) fn on_heartbeat(&mut self, who: &Identity, now: Time) -> Result<(), ErrorCode> {
        self.validate_member(&who.member_id, who.instance_id.as_deref())?;
        if who.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.touch(&who.member_id, now);
        match self.phase {
            Phase::Empty => Err(ErrorCode::UnknownMemberId),
            Phase::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    /// A member leaves, or an administrator takes a static member out (instance id without member id).
    pub(crate) fn on_leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now: Time,
        fx: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let leaving = match instance_id {
            Some(instance) if member_id.is_empty() => self
                .static_members
                .get(instance)
                .cloned()
                .ok_or(ErrorCode::UnknownMemberId)?,
            _ => member_id.to_owned(),
        };
        if self.pending_members.remove(&leaving) {
            self.timers.cancel(&Timer::Session(leaving));
            self.try_complete_join(now, fx);
            return Ok(());
        }
        self.validate_member(&leaving, instance_id)?;
        self.expel(&leaving, now, fx);
        Ok(())
    }

    /// May `who` commit offsets now? The session of a member that may begins again.
    pub(crate) fn on_commit(
        &mut self,
        who: &Identity,
        transactional: bool,
        now: Time,
    ) -> Result<(), ErrorCode> {
        if who.generation < 0 && self.phase == Phase::Empty {
            return Ok(()); // an administrator, or a consumer that assigns its partitions itself
        }
        if who.generation >= 0 || !who.member_id.is_empty() || who.instance_id.is_some() {
            if planted(Bug::StaleGenerationAccepted) {
                return Ok(()); // wrong: its partitions may have another owner
            }
            self.validate_member(&who.member_id, who.instance_id.as_deref())?;
            if who.generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !transactional && self.phase != Phase::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if !transactional && self.phase == Phase::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.touch(&who.member_id, now);
        Ok(())
    }
}
