//! Consumer groups: the machine of one partition of `__consumer_offsets`.
//!
//! [`GroupShard`] owns the groups that hash to its partition. Each group has two halves:
//! - its [`Image`]: metadata of the last stable (or empty) generation and all offsets. Only [`GroupShard::apply`] and
//!   [`GroupShard::apply_marker`] change it, live and on replay, so `live image == replay(log)` at all times;
//! - its [`Membership`]: the running classic protocol, an event machine whose durable outcomes are records like any other.
//!
//! Every call returns an [`Outcome`]. The runtime appends its records, applies them, and gives out replies and completions when
//! the log is committed that far; it never answers from state that could still be lost.

pub(crate) mod classic;
mod join;
mod member;
mod offsets;
mod query;
pub(crate) mod record;
mod removal;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{ProducerId, TopicPartition};

use classic::{ClassicConfig, Completion, Effects, Membership, Phase};
use offsets::Offsets;
use record::{GroupMetadata, GroupRecord, OffsetRecord};

use super::timers::Timers;
use super::{Time, Token};
pub(crate) use join::Join;
pub(crate) use member::Protocol;
pub(crate) use query::{DescribedGroup, FetchedOffset, ListedGroup};
pub(crate) use sync::{Identity, Sync};

/// Most tombstones of one tick: they are one batch.
const EXPIRED_MAX: usize = 1_000;

/// What the machine needs of the broker's configuration.
#[derive(Clone, Debug)]
pub(crate) struct GroupConfig {
    pub(crate) classic: ClassicConfig,
    pub(crate) offset_metadata_max_bytes: usize,
    pub(crate) offsets_retention_ms: i64,
    pub(crate) offsets_check_interval_ms: u64,
}

impl Default for GroupConfig {
    fn default() -> GroupConfig {
        GroupConfig {
            classic: ClassicConfig::default(),
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 10_080 * 60_000,
            offsets_check_interval_ms: 600_000,
        }
    }
}

/// What a call wants done: records to append and apply, replies that go out once they are committed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) records: Vec<GroupRecord>,
    pub(crate) completions: Vec<(Token, Completion)>,
}

/// OffsetCommit and TxnOffsetCommit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commit {
    pub(crate) who: Identity,
    pub(crate) offsets: Vec<(TopicPartition, OffsetRecord)>,
    pub(crate) transactional: bool,
    /// OffsetCommit v9+ says GROUP_ID_NOT_FOUND where older versions say ILLEGAL_GENERATION.
    pub(crate) names_missing_group: bool,
}

/// The replicated half of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) metadata: Option<GroupMetadata>,
    pub(crate) offsets: Offsets,
}

#[derive(Clone, Debug)]
struct Group {
    image: Image,
    membership: Membership,
}

/// The groups of one partition of `__consumer_offsets`.
#[derive(Clone, Debug)]
pub(crate) struct GroupShard {
    config: GroupConfig,
    groups: BTreeMap<String, Group>,
    /// The next deadline of each group that has one.
    timers: Timers<String>,
    /// Groups in which a producer has staged offsets.
    open_transactions: BTreeMap<ProducerId, BTreeSet<String>>,
    offsets_check_at: u64,
}

impl GroupShard {
    /// Rebuilds the shard: `replay` applies every record and marker of the partition, in order; then every session begins anew.
    pub(crate) fn load(
        config: GroupConfig,
        now: Time,
        replay: impl FnOnce(&mut GroupShard),
    ) -> GroupShard {
        let offsets_check_at = now.monotonic_ms + config.offsets_check_interval_ms;
        let mut shard = GroupShard {
            config,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            open_transactions: BTreeMap::new(),
            offsets_check_at,
        };
        replay(&mut shard);
        for (group_id, group) in &mut shard.groups {
            if let Some(metadata) = &group.image.metadata {
                group.membership = Membership::restore(metadata, now);
            }
            if let Some(deadline) = group.membership.next_deadline() {
                shard.timers.set(group_id.clone(), deadline);
            }
        }
        shard
    }

    /// A record lies in the log at `position`; `producer` if it is part of that producer's transaction. Live and on replay.
    pub(crate) fn apply(
        &mut self,
        record: &GroupRecord,
        position: i64,
        producer: Option<ProducerId>,
    ) {
        let group_id = record.group();
        let group = self
            .groups
            .entry(group_id.to_owned())
            .or_insert_with(|| Group {
                image: Image::default(),
                membership: Membership::new(Time {
                    monotonic_ms: 0,
                    wall_ms: -1,
                }),
            });
        match record {
            GroupRecord::Metadata { value, .. } => group.image.metadata.clone_from(value),
            GroupRecord::Offset {
                partition, value, ..
            } => {
                group
                    .image
                    .offsets
                    .apply(partition, value.as_ref(), position, producer);
                if let Some(producer) =
                    producer.filter(|producer| group.image.offsets.is_pending(*producer))
                {
                    self.open_transactions
                        .entry(producer)
                        .or_default()
                        .insert(group_id.to_owned());
                }
            }
        }
        self.forget_if_vacant(group_id);
    }

    /// The end of `producer`'s transaction lies in the log. Live and on replay.
    pub(crate) fn apply_marker(&mut self, producer: ProducerId, committed: bool) {
        for group_id in self.open_transactions.remove(&producer).unwrap_or_default() {
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.image.offsets.apply_marker(producer, committed);
            }
            self.forget_if_vacant(&group_id);
        }
    }

    /// A member, or somebody who wants to be one, joins. The reply comes as a completion of its token, at once or later.
    pub(crate) fn join(&mut self, group_id: &str, join: Join, now: Time) -> Outcome {
        if !join.member_id.is_empty() && !self.groups.contains_key(group_id) {
            let reply = classic::JoinReply::error(&join.member_id, ErrorCode::UnknownMemberId);
            return Outcome {
                completions: vec![(join.token, Completion::Join(reply))],
                ..Outcome::default()
            };
        }
        let mut fx = Effects::default();
        let config = self.config.classic.clone();
        self.group_or_new(group_id, now)
            .membership
            .on_join(join, &config, now, &mut fx);
        self.finish(group_id, fx)
    }

    /// A member asks for its assignment. The reply comes as a completion of its token, at once or later.
    pub(crate) fn sync(&mut self, group_id: &str, sync: Sync, now: Time) -> Outcome {
        let mut fx = Effects::default();
        match self.groups.get_mut(group_id) {
            Some(group) => group.membership.on_sync(sync, now, &mut fx),
            None => {
                let reply = classic::SyncReply::error(ErrorCode::UnknownMemberId);
                fx.completions.push((sync.token, Completion::Sync(reply)));
            }
        }
        self.finish(group_id, fx)
    }

    /// A member says that it lives.
    pub(crate) fn heartbeat(
        &mut self,
        group_id: &str,
        who: &Identity,
        now: Time,
    ) -> Result<(), ErrorCode> {
        let group = self
            .groups
            .get_mut(group_id)
            .ok_or(ErrorCode::UnknownMemberId)?;
        let said = group.membership.on_heartbeat(who, now);
        self.reschedule(group_id);
        said
    }

    /// Members leave; one result each, in order. Each is a member id (perhaps empty) and an instance id.
    pub(crate) fn leave(
        &mut self,
        group_id: &str,
        leaving: &[(String, Option<String>)],
        now: Time,
    ) -> (Vec<Result<(), ErrorCode>>, Outcome) {
        let mut fx = Effects::default();
        let Some(group) = self.groups.get_mut(group_id) else {
            return (
                leaving
                    .iter()
                    .map(|_| Err(ErrorCode::UnknownMemberId))
                    .collect(),
                Outcome::default(),
            );
        };
        let results = leaving
            .iter()
            .map(|(member_id, instance_id)| {
                group
                    .membership
                    .on_leave(member_id, instance_id.as_deref(), now, &mut fx)
            })
            .collect();
        (results, self.finish(group_id, fx))
    }

    /// Commits offsets: one code per offset, in order; the records of those that are fine.
    ///
    /// # Errors
    /// A code for the whole request: the member is unknown, fenced, of another generation, or must rejoin first.
    pub(crate) fn commit(
        &mut self,
        group_id: &str,
        commit: Commit,
        now: Time,
    ) -> Result<(Vec<ErrorCode>, Vec<GroupRecord>), ErrorCode> {
        match self.groups.get_mut(group_id) {
            Some(group) => group
                .membership
                .on_commit(&commit.who, commit.transactional, now)?,
            None if commit.who.generation < 0 => {}
            None if commit.names_missing_group => return Err(ErrorCode::GroupIdNotFound),
            None => return Err(ErrorCode::IllegalGeneration),
        }
        self.reschedule(group_id);
        let (mut codes, mut records) = (Vec::new(), Vec::new());
        for (partition, mut offset) in commit.offsets {
            if offset.metadata.len() > self.config.offset_metadata_max_bytes {
                codes.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            codes.push(ErrorCode::None);
            offset.commit_timestamp_ms = now.wall_ms;
            records.push(GroupRecord::Offset {
                group: group_id.to_owned(),
                partition,
                value: Some(offset),
            });
        }
        Ok((codes, records))
    }

    /// Deletes a group that nobody is in, with its offsets.
    ///
    /// # Errors
    /// `NON_EMPTY_GROUP`, `GROUP_ID_NOT_FOUND`.
    pub(crate) fn delete(&self, group_id: &str) -> Result<Vec<GroupRecord>, ErrorCode> {
        let group = self
            .groups
            .get(group_id)
            .ok_or(ErrorCode::GroupIdNotFound)?;
        if !group.membership.is_vacant() || group.image.offsets.has_pending() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let mut records = tombstones(group_id, group.image.offsets.removable(|_, _| true));
        if group.image.metadata.is_some() {
            records.push(GroupRecord::Metadata {
                group: group_id.to_owned(),
                value: None,
            });
        }
        Ok(records)
    }

    /// Topics are gone: so are the offsets in them.
    pub(crate) fn topics_deleted(&self, is_gone: impl Fn(&str) -> bool) -> Vec<GroupRecord> {
        let of_group = |(group_id, group): (&String, &Group)| {
            tombstones(group_id, group.image.offsets.of_topics(&is_gone))
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// When [`GroupShard::on_tick`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.groups.is_empty() {
            return None;
        }
        Some(
            self.timers
                .next()
                .map_or(self.offsets_check_at, |deadline| {
                    deadline.min(self.offsets_check_at)
                }),
        )
    }

    /// Ends sessions and phases whose time has come, and expires old offsets now and then.
    pub(crate) fn on_tick(&mut self, now: Time) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(group_id) = self.timers.pop_due(now.monotonic_ms) {
            let mut fx = Effects::default();
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.membership.on_tick(now, &mut fx);
            }
            let of_group = self.finish(&group_id, fx);
            outcome.records.extend(of_group.records);
            outcome.completions.extend(of_group.completions);
        }
        if self.offsets_check_at <= now.monotonic_ms {
            let groups = self.groups.iter();
            let expired = groups.flat_map(|(group_id, group)| self.expired(group_id, group, now));
            let expired: Vec<GroupRecord> = expired.take(EXPIRED_MAX).collect();
            // Full: there may be more, so look again at the next tick.
            if expired.len() < EXPIRED_MAX {
                self.offsets_check_at = now.monotonic_ms + self.config.offsets_check_interval_ms;
            }
            outcome.records.extend(expired);
        }
        outcome
    }

    /// What of a group is too old: offsets, and then the group itself (KIP-211).
    fn expired(&self, group_id: &str, group: &Group, now: Time) -> Vec<GroupRecord> {
        let (membership, offsets) = (&group.membership, &group.image.offsets);
        let retention_ms = self.config.offsets_retention_ms;
        let due = match membership.protocol_type() {
            // Nobody ever joined: each offset counts from its own commit.
            None => offsets.expired(now.wall_ms, retention_ms, |offset| {
                offset.commit_timestamp_ms
            }),
            Some(_) if membership.phase() == Phase::Empty => {
                let since = membership.state_timestamp_ms();
                offsets.expired(now.wall_ms, retention_ms, |offset| {
                    if since < 0 {
                        offset.commit_timestamp_ms
                    } else {
                        since
                    }
                })
            }
            Some(_) => Vec::new(),
        };
        let nothing_left = due.len() == offsets.iter().count() && !offsets.has_pending();
        let mut records = tombstones(group_id, due);
        if nothing_left && membership.is_vacant() && group.image.metadata.is_some() {
            records.push(GroupRecord::Metadata {
                group: group_id.to_owned(),
                value: None,
            });
        }
        records
    }

    /// The replicated halves of all groups that have one.
    #[cfg(test)]
    pub(crate) fn images(&self) -> BTreeMap<&str, &Image> {
        let images = self
            .groups
            .iter()
            .map(|(group_id, group)| (group_id.as_str(), &group.image));
        images
            .filter(|(_, image)| image.metadata.is_some() || !image.offsets.is_empty())
            .collect()
    }

    fn group_or_new(&mut self, group_id: &str, now: Time) -> &mut Group {
        let fresh = || Group {
            image: Image::default(),
            membership: Membership::new(now),
        };
        self.groups.entry(group_id.to_owned()).or_insert_with(fresh)
    }

    /// Turns the effects on one group into an outcome, and looks when it wants to be called again.
    fn finish(&mut self, group_id: &str, fx: Effects) -> Outcome {
        let mut outcome = Outcome {
            records: Vec::new(),
            completions: fx.completions,
        };
        if let Some(group) = self.groups.get(group_id).filter(|_| fx.persist) {
            let value = Some(group.membership.metadata());
            outcome.records.push(GroupRecord::Metadata {
                group: group_id.to_owned(),
                value,
            });
        } else {
            self.forget_if_vacant(group_id);
        }
        self.reschedule(group_id);
        outcome
    }

    fn reschedule(&mut self, group_id: &str) {
        match self
            .groups
            .get(group_id)
            .and_then(|group| group.membership.next_deadline())
        {
            Some(deadline) => self.timers.set(group_id.to_owned(), deadline),
            None => self.timers.cancel(&group_id.to_owned()),
        }
    }

    /// A group nobody is in and nothing is known of is no group.
    fn forget_if_vacant(&mut self, group_id: &str) {
        let vacant = |group: &Group| {
            group.membership.is_vacant()
                && group.image.metadata.is_none()
                && group.image.offsets.is_empty()
        };
        if self.groups.get(group_id).is_some_and(vacant) {
            self.groups.remove(group_id);
            self.timers.cancel(&group_id.to_owned());
        }
    }
}

fn tombstones(group_id: &str, partitions: Vec<TopicPartition>) -> Vec<GroupRecord> {
    let tombstone = |partition| GroupRecord::Offset {
        group: group_id.to_owned(),
        partition,
        value: None,
    };
    partitions.into_iter().map(tombstone).collect()
}
