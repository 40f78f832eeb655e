//! Groups, as handlers call them: each call finds its shard, steps it, and waits for what must be on disk before the reply.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use flumen_planted::{Bug, planted};
use flumen_protocol::builder::EndTxnMarker;
use flumen_protocol::codec::{DecodeError, EncodeError};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{ProducerId, TopicPartition};

use super::shard::{Commit, InTransaction, Shard, Step};
use super::table::ShardTable;
use super::{Machine, World};
use crate::coordinator::group::classic::{ClassicConfig, Completion, JoinReply, SyncReply};
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::{
    self, DescribedGroup, FetchedOffset, GroupConfig, GroupShard, ListedGroup,
};
use crate::coordinator::{OFFSETS_TOPIC, Time, Token};

impl Machine for GroupShard {
    type Record = GroupRecord;
    type Completion = Completion;
    type Config = GroupConfig;
    const TOPIC: &'static str = OFFSETS_TOPIC;

    fn load(config: &GroupConfig, now: Time, replay: impl FnOnce(&mut GroupShard)) -> GroupShard {
        GroupShard::load(config.clone(), now, replay)
    }
    fn encode(record: &GroupRecord) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        record.encode()
    }
    fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<GroupRecord>, DecodeError> {
        GroupRecord::decode(key, value)
    }
    fn apply(&mut self, record: &GroupRecord, position: i64, producer: Option<ProducerId>) {
        GroupShard::apply(self, record, position, producer);
    }
    fn apply_marker(&mut self, producer: ProducerId, committed: bool) {
        GroupShard::apply_marker(self, producer, committed);
    }
    fn next_deadline(&self, _now: Time) -> Option<u64> {
        GroupShard::next_deadline(self)
    }
}

/// Most records in one batch of tombstones.
const TOMBSTONES_MAX: usize = 1_000;

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Groups {
    world: Arc<World>,
    table: Arc<ShardTable<GroupShard>>,
}

impl Groups {
    pub(super) fn new(world: &Arc<World>) -> Arc<Groups> {
        let config = &world.parts.config;
        let millis = |ms: i32| u64::try_from(ms).unwrap_or(0);
        let config = GroupConfig {
            classic: ClassicConfig {
                session_timeout_min_ms: config.group_min_session_timeout_ms,
                session_timeout_max_ms: config.group_max_session_timeout_ms,
                initial_rebalance_delay_ms: millis(config.group_initial_rebalance_delay_ms),
                max_size: usize::try_from(config.group_max_size).unwrap_or(usize::MAX),
            },
            offset_metadata_max_bytes: usize::try_from(config.offset_metadata_max_bytes)
                .unwrap_or(0),
            offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
            offsets_check_interval_ms: u64::try_from(config.offsets_retention_check_interval_ms)
                .unwrap_or(u64::MAX),
        };
        Arc::new(Groups {
            world: Arc::clone(world),
            table: ShardTable::new(world, config),
        })
    }

    pub(super) async fn load(&self) {
        self.table.open().await;
    }

    /// Ticks the shards that are due and clears those that were loaded; the next deadline of all.
    pub(super) fn tick(&self, now: Time) -> Option<u64> {
        let due = |shard: &Arc<Shard<GroupShard>>| {
            if shard.take_loaded() {
                self.drop_offsets_of_missing_topics(shard);
            }
            if shard
                .next_deadline(now)
                .is_some_and(|deadline| deadline <= now.monotonic_ms)
            {
                self.run(shard, |machine, now| (machine.on_tick(now), ()))
                    .ok();
            }
            shard.next_deadline(now)
        };
        self.table.all().iter().filter_map(due).min()
    }

    /// Makes sure that the topic exists, so that a coordinator can be named.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE`.
    pub(crate) async fn ensure(&self, group_id: &str) -> Result<(), ErrorCode> {
        self.table.find(group_id).await.map(drop)
    }

    /// The partition of the internal topic that holds a group's offsets.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE`.
    pub(crate) async fn partition_of(&self, group_id: &str) -> Result<TopicPartition, ErrorCode> {
        let shard = self.table.find(group_id).await?;
        Ok(TopicPartition::new(OFFSETS_TOPIC, shard.index))
    }

    /// JoinGroup: answered when the rebalance comes to it.
    pub(crate) async fn join(
        &self,
        group_id: &str,
        join: impl FnOnce(Token) -> group::Join,
    ) -> Result<JoinReply, ErrorCode> {
        let shard = self.table.find(group_id).await?;
        let awaited = shard.expect_reply();
        let join = join(awaited.token);
        self.run(&shard, |machine, now| {
            (machine.join(group_id, join, now), ())
        })?;
        match awaited.reply().await? {
            Completion::Join(reply) => Ok(reply),
            Completion::Sync(_) => Err(ErrorCode::UnknownServerError),
        }
    }

    /// SyncGroup: answered when the leader's assignment is on disk.
    pub(crate) async fn sync(
        &self,
        group_id: &str,
        sync: impl FnOnce(Token) -> group::Sync,
    ) -> Result<SyncReply, ErrorCode> {
        let shard = self.table.find(group_id).await?;
        let awaited = shard.expect_reply();
        let sync = sync(awaited.token);
        self.run(&shard, |machine, now| {
            (machine.sync(group_id, sync, now), ())
        })?;
        match awaited.reply().await? {
            Completion::Sync(reply) => Ok(reply),
            Completion::Join(_) => Err(ErrorCode::UnknownServerError),
        }
    }

    /// Heartbeat.
    pub(crate) async fn heartbeat(
        &self,
        group_id: &str,
        who: &group::Identity,
    ) -> Result<(), ErrorCode> {
        let shard = self.table.find(group_id).await?;
        let (said, commit) = shard
            .step(|machine, now| Step::new(Vec::new(), machine.heartbeat(group_id, who, now)))?;
        commit.done().await?;
        said
    }

    /// LeaveGroup: one result per member.
    pub(crate) async fn leave(
        &self,
        group_id: &str,
        leaving: &[(String, Option<String>)],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        let shard = self.table.find(group_id).await?;
        let (results, commit) = self.run(&shard, |machine, now| {
            let (results, outcome) = machine.leave(group_id, leaving, now);
            (outcome, results)
        })?;
        commit.done().await?;
        Ok(results)
    }

    /// OffsetCommit and TxnOffsetCommit: one code per offset.
    pub(crate) async fn commit(
        &self,
        group_id: &str,
        commit: group::Commit,
        transaction: Option<InTransaction>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let shard = self.table.find(group_id).await?;
        let (codes, committed) = shard.step(|machine, now| {
            let (reply, records) = match machine.commit(group_id, commit, now) {
                Ok((codes, records)) => (Ok(codes), records),
                Err(error) => (Err(error), Vec::new()),
            };
            Step {
                records,
                transaction,
                reply,
            }
        })?;
        if !planted(Bug::GroupReplyEarly) {
            committed.done().await?; // wrong without: a crash can still take the records back
        }
        codes
    }

    /// The partition that holds a group's offsets, to begin a transaction in it.
    ///
    /// # Errors
    /// As [`Shard::partition`].
    pub(crate) async fn offsets_partition(
        &self,
        group_id: &str,
    ) -> Result<Arc<crate::partition::Partition>, ErrorCode> {
        self.table.find(group_id).await?.partition()
    }

    /// Writes a transaction's marker into a partition of `__consumer_offsets`; the offsets it held back become visible, or go.
    pub(super) fn write_marker(
        &self,
        index: i32,
        marker: &EndTxnMarker,
        version: i16,
    ) -> Result<Commit, ErrorCode> {
        let shard = self
            .table
            .at(index)
            .ok_or(ErrorCode::CoordinatorLoadInProgress)?;
        shard.write_marker(marker, version)
    }

    /// OffsetFetch.
    pub(crate) async fn fetch(
        &self,
        group_id: &str,
        partitions: Option<&[TopicPartition]>,
        require_stable: bool,
    ) -> Result<Vec<FetchedOffset>, ErrorCode> {
        let shard = self.table.find(group_id).await?;
        let (fetched, commit) =
            shard.read(|machine| machine.fetch(group_id, partitions, require_stable))?;
        commit.done().await?;
        Ok(fetched)
    }

    /// DescribeGroups.
    pub(crate) async fn describe(
        &self,
        group_id: &str,
    ) -> Result<Option<DescribedGroup>, ErrorCode> {
        let Some(shard) = self.table.existing(group_id) else {
            return Ok(None);
        };
        let (described, commit) = shard.read(|machine| machine.describe(group_id))?;
        commit.done().await?;
        Ok(described)
    }

    /// ListGroups, of all shards.
    pub(crate) async fn list(&self) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut listed = Vec::new();
        for shard in self.table.all().iter() {
            let (of_shard, commit) = shard.read(GroupShard::list)?;
            commit.done().await?;
            listed.extend(of_shard);
        }
        Ok(listed)
    }

    /// DeleteGroups, one group.
    pub(crate) async fn delete(&self, group_id: &str) -> Result<(), ErrorCode> {
        let Some(shard) = self.table.existing(group_id) else {
            return Err(ErrorCode::GroupIdNotFound);
        };
        let (deleted, commit) = shard.step(|machine, _| match machine.delete(group_id) {
            Ok(records) => Step::new(records, Ok(())),
            Err(error) => Step::new(Vec::new(), Err(error)),
        })?;
        commit.done().await?;
        deleted
    }

    /// OffsetDelete: one code per partition.
    pub(crate) async fn delete_offsets(
        &self,
        group_id: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let Some(shard) = self.table.existing(group_id) else {
            return Err(ErrorCode::GroupIdNotFound);
        };
        let (codes, commit) =
            shard.step(
                |machine, _| match machine.delete_offsets(group_id, partitions) {
                    Ok((codes, records)) => Step::new(records, Ok(codes)),
                    Err(error) => Step::new(Vec::new(), Err(error)),
                },
            )?;
        commit.done().await?;
        codes
    }

    /// Topics are deleted: so are the offsets committed in them. A shard that cannot do it now does it when it is loaded again.
    pub(super) async fn topics_deleted(&self, topics: &[String]) {
        let topics: BTreeSet<&str> = topics.iter().map(String::as_str).collect();
        for shard in self.table.all().iter() {
            if let Some(commit) = self.drop_offsets(shard, |topic| topics.contains(topic)) {
                commit.done().await.ok();
            }
        }
    }

    /// Deletes the offsets of topics that are gone; what to wait for, if there were any.
    fn drop_offsets(
        &self,
        shard: &Arc<Shard<GroupShard>>,
        is_gone: impl Fn(&str) -> bool,
    ) -> Option<Commit> {
        let mut dropped = None;
        loop {
            let written = shard.step(|machine, _| {
                let mut records = machine.topics_deleted(&is_gone);
                records.truncate(TOMBSTONES_MAX);
                let count = records.len();
                Step::new(records, count)
            });
            match written {
                Ok((0, _)) | Err(_) => return dropped,
                Ok((_, commit)) => dropped = Some(commit),
            }
        }
    }

    /// A crash may have come between a topic's deletion and that of its offsets; were they to stay, the next topic of that name
    /// would be read from there.
    fn drop_offsets_of_missing_topics(&self, shard: &Arc<Shard<GroupShard>>) {
        let image = self.world.parts.cluster.image();
        self.drop_offsets(shard, |topic| image.topic(topic).is_none());
    }

    /// One step of a machine, with the replies it owes to others.
    fn run<R>(
        &self,
        shard: &Arc<Shard<GroupShard>>,
        call: impl FnOnce(&mut GroupShard, Time) -> (group::Outcome, R),
    ) -> Result<(R, Commit), ErrorCode> {
        let ((completions, reply), commit) = shard.step(|machine, now| {
            let (outcome, reply) = call(machine, now);
            Step::new(outcome.records, (outcome.completions, reply))
        })?;
        shard.release(completions, commit.clone());
        Ok((reply, commit))
    }
}
