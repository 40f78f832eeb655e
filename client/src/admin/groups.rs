//! Groups and offsets: who is in a group, what it has committed, where partitions begin and end; and what is taken away or set while
//! nobody is in it.
//!
//! Part of [`Admin`].

use std::collections::BTreeMap;

use flumen_protocol::api::ApiKey;
use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicPartition;
use flumen_protocol::message::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::message::list_offsets_response::ListOffsetsPartitionResponse;
use flumen_protocol::message::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::message::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use flumen_protocol::message::offset_fetch_request::OffsetFetchRequestGroup;
use flumen_protocol::message::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, ListGroupsRequest,
    ListOffsetsRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse,
};

use super::{Admin, check, unanswered};
use crate::client::{Node, SHARED};
use crate::config::Isolation;
use crate::error::ClientError;

/// A line of [`Admin::list_groups`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupListing {
    /// The group's id.
    pub group: String,
    /// `consumer`, `connect`, …; empty for a group that only stores offsets.
    pub protocol_type: String,
    /// `Stable`, `Empty`, …; empty from brokers before Kafka 2.6.
    pub state: String,
}

/// A group and its members (Kafka: `ConsumerGroupDescription`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group's id.
    pub group: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Dead`.
    pub state: String,
    /// `consumer`, `connect`, …
    pub protocol_type: String,
    /// The assignor the members agreed on.
    pub protocol: String,
    /// In the broker's order.
    pub members: Vec<GroupMember>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Given by the coordinator.
    pub member_id: String,
    /// Given by the member, if it is static.
    pub group_instance_id: Option<String>,
    /// What the member calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// The assignor's bytes (Kafka: `ConsumerProtocolAssignment` for consumers).
    pub assignment: bytes::Bytes,
}

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that can be read.
    Earliest,
    /// One past the last that can be read with this isolation.
    Latest(Isolation),
    /// The first whose timestamp, in ms, is not smaller.
    Timestamp(i64),
}

/// An offset found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// -1: no record has such a timestamp.
    pub offset: i64,
    /// Of that record, in ms; -1 for the first and the last.
    pub timestamp: i64,
}

impl Admin {
    /// Every group of the cluster, by id.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`], [`ClientError::Timeout`]: a broker did not answer.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        let mut groups = Vec::new();
        // Each broker knows only the groups it coordinates.
        for broker in self.describe_cluster().await?.brokers {
            let to = Node::Broker(broker.id);
            let answer = self.client.send(to, ListGroupsRequest::default()).await?;
            check(answer.error_code, "groups".to_owned(), "ListGroups", None)?;
            groups.extend(answer.groups.into_iter().map(|group| GroupListing {
                group: group.group_id,
                protocol_type: group.protocol_type,
                state: group.group_state,
            }));
        }
        groups.sort();
        Ok(groups)
    }

    /// One group.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: there is no such group (brokers before Kafka 4.0 answer with a `Dead` one).
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let answer = self
            .with_coordinator(
                group,
                |_| DescribeGroupsRequest {
                    groups: vec![group.to_owned()],
                    ..DescribeGroupsRequest::default()
                },
                |answer| answer.groups.first().map_or(0, |found| found.error_code),
            )
            .await?;
        let found = answer.groups.into_iter().next();
        let found = found.ok_or_else(|| unanswered("DescribeGroups", group))?;
        let message = found.error_message.as_deref();
        check(
            found.error_code,
            format!("group {group}"),
            "DescribeGroups",
            message,
        )?;
        let member =
            |member: flumen_protocol::message::describe_groups_response::DescribedGroupMember| {
                GroupMember {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    client_id: member.client_id,
                    host: member.client_host,
                    assignment: member.member_assignment,
                }
            };
        Ok(GroupDescription {
            group: found.group_id,
            state: found.group_state,
            protocol_type: found.protocol_type,
            protocol: found.protocol_data,
            members: found.members.into_iter().map(member).collect(),
        })
    }

    /// Everything a group has committed: offset by partition.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`]: the coordinator cannot be reached.
    pub async fn group_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let request = |version: i16| match version {
            8.. => OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id: group.to_owned(),
                    topics: None,
                    ..OffsetFetchRequestGroup::default()
                }],
                ..OffsetFetchRequest::default()
            },
            _ => OffsetFetchRequest {
                group_id: group.to_owned(),
                topics: None,
                ..OffsetFetchRequest::default()
            },
        };
        let code = |answer: &OffsetFetchResponse| {
            answer
                .groups
                .first()
                .map_or(answer.error_code, |found| found.error_code)
        };
        let answer = self.with_coordinator(group, request, code).await?;
        check(code(&answer), format!("group {group}"), "OffsetFetch", None)?;
        let mut offsets = BTreeMap::new();
        let mut found = |topic: &str, partition: i32, offset: i64| {
            if offset >= 0 {
                let at = TopicPartition {
                    topic: topic.to_owned(),
                    partition,
                };
                offsets.insert(at, offset);
            }
        };
        for topic in answer.groups.iter().flat_map(|group| &group.topics) {
            for partition in &topic.partitions {
                found(
                    &topic.name,
                    partition.partition_index,
                    partition.committed_offset,
                );
            }
        }
        for topic in &answer.topics {
            for partition in &topic.partitions {
                found(
                    &topic.name,
                    partition.partition_index,
                    partition.committed_offset,
                );
            }
        }
        Ok(offsets)
    }

    /// Sets what a group has committed, while nobody is in it: its next members begin there.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] with code 25 `UNKNOWN_MEMBER_ID`: somebody is in the group. The first partition's otherwise.
    pub async fn set_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<(), ClientError> {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (at, offset) in offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: at.partition,
                committed_offset: *offset,
                committed_leader_epoch: -1,
                ..OffsetCommitRequestPartition::default()
            };
            match topics.last_mut().filter(|topic| topic.name == at.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(OffsetCommitRequestTopic {
                    name: at.topic.clone(),
                    partitions: vec![partition],
                    ..OffsetCommitRequestTopic::default()
                }),
            }
        }
        let request = OffsetCommitRequest {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: -1,
            topics,
            ..OffsetCommitRequest::default()
        };
        let first_code = |answer: &OffsetCommitResponse| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let mut codes = partitions.map(|partition| partition.error_code);
            codes.find(|code| *code != 0).unwrap_or(0)
        };
        let answer = self
            .with_coordinator(group, |_| request.clone(), first_code)
            .await?;
        let subject = format!("group {group}");
        check(first_code(&answer), subject, "OffsetCommit", None)
    }

    /// Deletes a group that nobody is in, with its offsets.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]; [`ClientError::Invalid`] with code 68 `NON_EMPTY_GROUP`.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest {
            groups_names: vec![group.to_owned()],
            ..DeleteGroupsRequest::default()
        };
        let code = |answer: &DeleteGroupsResponse| {
            let result = answer.results.first();
            result.map_or(0, |result| result.error_code)
        };
        let answer = self
            .with_coordinator(group, |_| request.clone(), code)
            .await?;
        check(
            code(&answer),
            format!("group {group}"),
            "DeleteGroups",
            None,
        )
    }

    /// Deletes what a group has committed in partitions that none of its members reads.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: no such group. The first partition's: [`ClientError::Invalid`] with code 86
    /// `GROUP_SUBSCRIBED_TO_TOPIC`.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for at in partitions {
            topics
                .entry(&at.topic)
                .or_default()
                .push(OffsetDeleteRequestPartition {
                    partition_index: at.partition,
                });
        }
        let request = OffsetDeleteRequest {
            group_id: group.to_owned(),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| OffsetDeleteRequestTopic {
                    name: name.to_owned(),
                    partitions,
                })
                .collect(),
        };
        let first_code = |answer: &OffsetDeleteResponse| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let codes = partitions.map(|partition| partition.error_code);
            let mut codes = std::iter::once(answer.error_code).chain(codes);
            codes.find(|code| *code != 0).unwrap_or(0)
        };
        let answer = self
            .with_coordinator(group, |_| request.clone(), first_code)
            .await?;
        let subject = format!("group {group}");
        check(first_code(&answer), subject, "OffsetDelete", None)
    }

    /// Looks up one offset in each partition.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: a topic or partition that is not there. [`ClientError::Unavailable`]: a leader cannot be reached.
    pub async fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, ClientError> {
        let mut retry = self.client.retry();
        let mut found = BTreeMap::new();
        loop {
            let missing: Vec<&TopicPartition> = partitions
                .iter()
                .filter(|at| !found.contains_key(*at))
                .collect();
            if missing.is_empty() {
                return Ok(found);
            }
            match self.list_offsets_once(&missing, spec, &mut found).await {
                Ok(()) => {}
                Err(error) if error.is_retriable() && retry.again().await => {
                    // The leader may have moved; a failed refresh shows in the next attempt.
                    let _ = self.client.refresh_metadata().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn list_offsets_once(
        &self,
        partitions: &[&TopicPartition],
        spec: OffsetSpec,
        found: &mut BTreeMap<TopicPartition, ListedOffset>,
    ) -> Result<(), ClientError> {
        let mut by_leader: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for at in partitions {
            let leader = self.leader_of(at).await?;
            by_leader
                .entry(leader)
                .or_default()
                .entry(&at.topic)
                .or_default()
                .push(at.partition);
        }
        for (broker, topics) in by_leader {
            let answer = self
                .client
                .send(Node::Broker(broker), request(topics, spec))
                .await?;
            for topic in answer.topics {
                for partition in topic.partitions {
                    let at = TopicPartition {
                        topic: topic.name.clone(),
                        partition: partition.partition_index,
                    };
                    let offset = listed(&at, &partition)?;
                    found.insert(at, offset);
                }
            }
        }
        Ok(())
    }

    /// Asks a group's coordinator, and its successor when it has moved.
    async fn with_coordinator<R: Request>(
        &self,
        group: &str,
        request: impl Fn(i16) -> R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        let to = Node::GroupCoordinator(group);
        let mut retry = self.client.retry();
        loop {
            let answer = async {
                let connection = self.client.connection(to, SHARED).await?;
                // From version 10 on these name topics by their ids.
                let newest = if matches!(R::API, ApiKey::OffsetFetch | ApiKey::OffsetCommit) {
                    9
                } else {
                    i16::MAX
                };
                let version = connection.version(R::API, newest)?;
                connection.request(version, &request(version)).await
            }
            .await;
            let again = match &answer {
                Ok(answer) => ErrorCode::from_code(code(answer)).is_retriable(),
                Err(error) => error.is_retriable(),
            };
            if !again || !retry.again().await {
                return answer;
            }
            self.client.forget_coordinator(to);
        }
    }
}

fn request(topics: BTreeMap<&str, Vec<i32>>, spec: OffsetSpec) -> ListOffsetsRequest {
    let (timestamp, isolation) = match spec {
        OffsetSpec::Earliest => (-2, Isolation::ReadUncommitted),
        OffsetSpec::Latest(isolation) => (-1, isolation),
        OffsetSpec::Timestamp(timestamp) => (timestamp, Isolation::ReadUncommitted),
    };
    let partition = |index| ListOffsetsPartition {
        partition_index: index,
        current_leader_epoch: -1,
        timestamp,
        ..ListOffsetsPartition::default()
    };
    let topic = |(name, partitions): (&str, Vec<i32>)| ListOffsetsTopic {
        name: name.to_owned(),
        partitions: partitions.into_iter().map(partition).collect(),
        ..ListOffsetsTopic::default()
    };
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(isolation == Isolation::ReadCommitted),
        topics: topics.into_iter().map(topic).collect(),
        ..ListOffsetsRequest::default()
    }
}

fn listed(
    at: &TopicPartition,
    found: &ListOffsetsPartitionResponse,
) -> Result<ListedOffset, ClientError> {
    check(
        found.error_code,
        format!("partition {}-{}", at.topic, at.partition),
        "ListOffsets",
        None,
    )?;
    Ok(ListedOffset {
        offset: found.offset,
        timestamp: found.timestamp,
    })
}
