//! Questions about offsets: by time, first, last, committed, and by leader epoch.
//!
//! Used by the consumer, its fetcher and `Admin`. Each asks the right broker for each partition, follows leaders and coordinators that
//! move, and retries until the deadline of the call. Nothing is remembered here.

use std::collections::BTreeMap;

use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{BrokerId, TopicPartition};
use flumen_protocol::message::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::message::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use flumen_protocol::message::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use flumen_protocol::message::{
    ListOffsetsRequest, OffsetFetchRequest, OffsetFetchResponse, OffsetForLeaderEpochRequest,
};

use super::{OffsetAndMetadata, subject};
use crate::client::{Client, Lane, Node};
use crate::config::Isolation;
use crate::error::{ClientError, Failure, refused};
use crate::metadata::Leader;

/// `ListOffsets` timestamp for the end of the log, as far as the isolation shows it.
pub(crate) const LATEST: i64 = -1;
/// `ListOffsets` timestamp for the first offset.
pub(crate) const EARLIEST: i64 = -2;

/// An offset found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    /// The first offset at or after the time asked for; for first and last, that offset.
    pub offset: i64,
    /// The timestamp of that record, milliseconds since 1970; -1 for first and last.
    pub timestamp: i64,
    /// -1 where unknown.
    pub leader_epoch: i32,
}

/// Who asks, over which connections, and what they may see.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) client: Client,
    pub(crate) lane: Lane,
    pub(crate) isolation: Isolation,
}

type Found<T> = BTreeMap<TopicPartition, T>;

impl Asker {
    /// Offsets by timestamp. A partition without a record at or after its time is left out.
    pub(crate) async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, i64>,
    ) -> Result<Found<OffsetAndTimestamp>, ClientError> {
        let mut found: Found<Option<OffsetAndTimestamp>> = BTreeMap::new();
        let mut retry = self.client.retry();
        loop {
            let missing: BTreeMap<&TopicPartition, i64> = wanted
                .iter()
                .filter(|(partition, _)| !found.contains_key(*partition))
                .map(|(partition, timestamp)| (partition, *timestamp))
                .collect();
            if missing.is_empty() {
                let known = |(partition, offset): (_, Option<_>)| Some((partition, offset?));
                return Ok(found.into_iter().filter_map(known).collect());
            }
            match self.list_some(&missing, &mut found).await {
                Ok(()) => {}
                Err(error) if leads_elsewhere(&error) && retry.again().await => {
                    // A refresh that fails shows in the next attempt.
                    let _ = self.client.refresh_metadata().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn list_some(
        &self,
        missing: &BTreeMap<&TopicPartition, i64>,
        found: &mut Found<Option<OffsetAndTimestamp>>,
    ) -> Result<(), ClientError> {
        for (broker, partitions) in self.by_leader(missing.keys().copied()).await? {
            let connection = self
                .client
                .connection(Node::Broker(broker), self.lane)
                .await?;
            let version = connection.version(ListOffsetsRequest::API, i16::MAX)?;
            let topics = partitions.chunk_by(|left, right| left.0.topic == right.0.topic);
            let request = ListOffsetsRequest {
                replica_id: -1,
                isolation_level: self.isolation.code(),
                timeout_ms: 30_000,
                topics: topics
                    .map(|run| ListOffsetsTopic {
                        name: run[0].0.topic.clone(),
                        partitions: run
                            .iter()
                            .map(|(partition, leader)| ListOffsetsPartition {
                                partition_index: partition.partition,
                                current_leader_epoch: leader.epoch,
                                timestamp: missing[*partition],
                                ..ListOffsetsPartition::default()
                            })
                            .collect(),
                        ..ListOffsetsTopic::default()
                    })
                    .collect(),
                ..ListOffsetsRequest::default()
            };
            let response = connection.request(version, &request).await?;
            for topic in response.topics {
                for answer in topic.partitions {
                    let partition = TopicPartition::new(topic.name.clone(), answer.partition_index);
                    check(
                        answer.error_code,
                        &partition,
                        "ListOffsets",
                        connection.label(),
                    )?;
                    let offset = OffsetAndTimestamp {
                        offset: answer.offset,
                        timestamp: answer.timestamp,
                        leader_epoch: answer.leader_epoch,
                    };
                    found.insert(partition, Some(offset).filter(|offset| offset.offset >= 0));
                }
            }
        }
        Ok(())
    }

    /// Where the log of each partition ends for records of the given leader epoch: (epoch, end offset), both -1 if it
    /// is unknown to the leader. One attempt; KIP-320.
    pub(crate) async fn end_offsets_for_epochs(
        &self,
        wanted: &BTreeMap<TopicPartition, i32>,
    ) -> Result<Found<(i32, i64)>, ClientError> {
        let mut found = BTreeMap::new();
        for (broker, partitions) in self.by_leader(wanted.keys()).await? {
            let connection = self
                .client
                .connection(Node::Broker(broker), self.lane)
                .await?;
            let version = connection.version(OffsetForLeaderEpochRequest::API, i16::MAX)?;
            let topics = partitions.chunk_by(|left, right| left.0.topic == right.0.topic);
            let request = OffsetForLeaderEpochRequest {
                replica_id: -1,
                topics: topics
                    .map(|run| OffsetForLeaderTopic {
                        topic: run[0].0.topic.clone(),
                        partitions: run
                            .iter()
                            .map(|(partition, leader)| OffsetForLeaderPartition {
                                partition: partition.partition,
                                current_leader_epoch: leader.epoch,
                                leader_epoch: wanted[*partition],
                                ..OffsetForLeaderPartition::default()
                            })
                            .collect(),
                        ..OffsetForLeaderTopic::default()
                    })
                    .collect(),
                ..OffsetForLeaderEpochRequest::default()
            };
            let response = connection.request(version, &request).await?;
            for topic in response.topics {
                for answer in topic.partitions {
                    let partition = TopicPartition::new(topic.topic.clone(), answer.partition);
                    let api = "OffsetForLeaderEpoch";
                    check(answer.error_code, &partition, api, connection.label())?;
                    found.insert(partition, (answer.leader_epoch, answer.end_offset));
                }
            }
        }
        Ok(found)
    }

    /// Partitions with their leaders, by broker, in order.
    async fn by_leader<'a>(
        &self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Result<BTreeMap<BrokerId, Vec<(&'a TopicPartition, Leader)>>, ClientError> {
        let mut by_leader: BTreeMap<BrokerId, Vec<(&TopicPartition, Leader)>> = BTreeMap::new();
        for partition in partitions {
            let count = self.client.partitions_of(&partition.topic).await?;
            if !(0..count).contains(&partition.partition) {
                let reason = format!("the topic has {count} partitions");
                return Err(ClientError::NotFound(Failure::new(
                    subject(partition),
                    reason,
                )));
            }
            let Some(leader) = self.client.leader(&partition.topic, partition.partition) else {
                let failure = Failure::new(subject(partition), "no leader is known");
                return Err(ClientError::Unavailable(failure));
            };
            by_leader
                .entry(leader.broker)
                .or_default()
                .push((partition, leader));
        }
        Ok(by_leader)
    }

    /// What a group has committed for these partitions; nothing is left out of the result that was never committed, but simply absent.
    ///
    /// Waits for transactions that are about to commit offsets (KIP-447).
    pub(crate) async fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Found<OffsetAndMetadata>, ClientError> {
        let node = Node::GroupCoordinator(group);
        let mut retry = self.client.retry();
        loop {
            match self.committed_once(group, partitions).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let unstable = Some(ErrorCode::UnstableOffsetCommit.code());
                    if error.code() != unstable {
                        self.client.forget_coordinator(node);
                    }
                    if !error.is_retriable() || !retry.again().await {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn committed_once(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Found<OffsetAndMetadata>, ClientError> {
        let connection = self
            .client
            .connection(Node::GroupCoordinator(group), self.lane)
            .await?;
        let version = connection.version(OffsetFetchRequest::API, OFFSET_FETCH_BY_NAME)?;
        let response = connection
            .request(version, &offset_fetch(version, group, partitions))
            .await?;
        let at_group = |code: i16| match ErrorCode::from_code(code) {
            ErrorCode::None => Ok(()),
            code => Err(refused(code, format!("group {group}"))
                .map(|failure| failure.in_api("OffsetFetch").at_broker(connection.label()))),
        };
        at_group(response.error_code)?;
        for of in &response.groups {
            at_group(of.error_code)?;
        }
        let mut found = BTreeMap::new();
        for (partition, code, offset) in committed_offsets(response) {
            check(code, &partition, "OffsetFetch", connection.label())?;
            if offset.offset >= 0 {
                found.insert(partition, offset);
            }
        }
        Ok(found)
    }
}

/// The last version of OffsetFetch that names topics.
const OFFSET_FETCH_BY_NAME: i16 = 9;

fn offset_fetch(version: i16, group: &str, partitions: &[TopicPartition]) -> OffsetFetchRequest {
    let topics = super::subscription::by_topic(partitions).into_iter();
    if version >= 8 {
        let topics = topics.map(|(name, partition_indexes)| OffsetFetchRequestTopics {
            name,
            partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        let of = OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            topics: Some(topics.collect()),
            ..OffsetFetchRequestGroup::default()
        };
        return OffsetFetchRequest {
            groups: vec![of],
            require_stable: true,
            ..OffsetFetchRequest::default()
        };
    }
    let topics = topics.map(|(name, partition_indexes)| OffsetFetchRequestTopic {
        name,
        partition_indexes,
        ..OffsetFetchRequestTopic::default()
    });
    OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(topics.collect()),
        require_stable: version >= 7,
        ..OffsetFetchRequest::default()
    }
}

/// Partition, error code and offset, from whichever form the version has.
fn committed_offsets(
    response: OffsetFetchResponse,
) -> impl Iterator<Item = (TopicPartition, i16, OffsetAndMetadata)> {
    let grouped = response
        .groups
        .into_iter()
        .flat_map(|group| group.topics)
        .flat_map(|topic| {
            topic.partitions.into_iter().map(move |answer| {
                let offset = OffsetAndMetadata {
                    offset: answer.committed_offset,
                    leader_epoch: answer.committed_leader_epoch,
                    metadata: answer.metadata.unwrap_or_default(),
                };
                let partition = TopicPartition::new(topic.name.clone(), answer.partition_index);
                (partition, answer.error_code, offset)
            })
        });
    let plain = response.topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |answer| {
            let offset = OffsetAndMetadata {
                offset: answer.committed_offset,
                leader_epoch: answer.committed_leader_epoch,
                metadata: answer.metadata.unwrap_or_default(),
            };
            let partition = TopicPartition::new(topic.name.clone(), answer.partition_index);
            (partition, answer.error_code, offset)
        })
    });
    grouped.chain(plain)
}

fn check(
    code: i16,
    of: &TopicPartition,
    api: &'static str,
    broker: &str,
) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => {
            Err(refused(code, subject(of)).map(|failure| failure.in_api(api).at_broker(broker)))
        }
    }
}

/// Another broker may answer better: one that is reachable, or leads now.
pub(crate) fn leads_elsewhere(error: &ClientError) -> bool {
    error.is_retriable()
        || error
            .code()
            .is_some_and(|code| ErrorCode::from_code(code).is_retriable())
}
