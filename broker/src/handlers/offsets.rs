//! OffsetCommit and OffsetFetch, by topic name and (v10+) by topic id: decode → ask the group coordinator → encode.

use std::collections::BTreeSet;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{TopicId, TopicPartition};
use flumen_protocol::message::offset_commit_request::OffsetCommitRequestPartition;
use flumen_protocol::message::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use flumen_protocol::message::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::message::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use flumen_protocol::message::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

use crate::cluster::controller::is_too_long;
use crate::cluster::image::ClusterImage;
use crate::coordinator::group::record::OffsetRecord;
use crate::coordinator::group::{Commit, FetchedOffset, Identity};
use crate::dispatch::Context;
use crate::node::Node;

/// First versions that name topics by id.
const TOPIC_IDS: i16 = 10;
/// First OffsetFetch version with a list of groups.
const MANY_GROUPS: i16 = 8;

/// An offset of a commit request: where its answer goes, and what became of it before the coordinator was asked.
pub(super) struct Asked {
    pub(super) topic: usize,
    pub(super) partition: i32,
    pub(super) code: ErrorCode,
}

/// Sorts a commit's partitions into those the coordinator is asked about and those that do not exist.
pub(super) struct Sorter<'a> {
    image: &'a ClusterImage,
    pub(super) asked: Vec<Asked>,
    pub(super) offsets: Vec<(TopicPartition, OffsetRecord)>,
    seen: BTreeSet<(TopicId, i32)>,
}

/// Most bytes that the copies of a group's id in one commit's records may take.
const GROUP_ID_COPIES_BYTES_MAX: usize = 16 << 20;

/// Every offset is a record that names the group: whether a commit of so many would be mostly copies of its id.
pub(super) fn repeats_too_much(group_id: &str, offsets: usize) -> bool {
    group_id.len().saturating_mul(offsets) > GROUP_ID_COPIES_BYTES_MAX
}

impl<'a> Sorter<'a> {
    pub(super) fn new(image: &'a ClusterImage) -> Sorter<'a> {
        Sorter {
            image,
            asked: Vec::new(),
            offsets: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// `topic` is its place in the request; `name` the topic's name, or why it has none. A partition that was there before is
    /// refused: which of its offsets is meant?
    pub(super) fn add(
        &mut self,
        topic: usize,
        name: Result<&str, ErrorCode>,
        partition: i32,
        offset: OffsetRecord,
    ) {
        let known = name.and_then(|name| {
            let topic = self.image.topic(name).filter(|topic| {
                usize::try_from(partition).is_ok_and(|partition| partition < topic.partitions.len())
            });
            let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
            if self.seen.insert((topic.id, partition)) {
                Ok(name)
            } else {
                Err(ErrorCode::InvalidRequest)
            }
        });
        let code = known.err().unwrap_or(ErrorCode::None);
        self.asked.push(Asked {
            topic,
            partition,
            code,
        });
        if let Ok(name) = known {
            self.offsets
                .push((TopicPartition::new(name, partition), offset));
        }
    }

    /// Takes over the coordinator's answer for those it was asked about.
    pub(super) fn answered(mut self, codes: Result<Vec<ErrorCode>, ErrorCode>) -> Vec<Asked> {
        let asked = self
            .asked
            .iter_mut()
            .filter(|asked| asked.code == ErrorCode::None);
        match codes {
            Ok(codes) => asked.zip(codes).for_each(|(asked, code)| asked.code = code),
            Err(error) => asked.for_each(|asked| asked.code = error),
        }
        self.asked
    }
}

/// OffsetCommit.
pub(crate) async fn offset_commit(
    node: &Arc<Node>,
    context: &Context,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let image = node.cluster.image();
    let expire_timestamp_ms = match request.retention_time_ms {
        -1 => None,
        retention_ms => Some(node.drivers.clock.wall_ms().saturating_add(retention_ms)),
    };
    let mut sorter = Sorter::new(&image);
    for (index, topic) in request.topics.iter().enumerate() {
        let name = name_of(&image, context, &topic.name, topic.topic_id);
        for partition in &topic.partitions {
            sorter.add(
                index,
                name,
                partition.partition_index,
                offset_of(partition, expire_timestamp_ms),
            );
        }
    }
    let commit = Commit {
        who: Identity {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id_or_member_epoch,
        },
        offsets: std::mem::take(&mut sorter.offsets),
        transactional: false,
        names_missing_group: context.version >= 9,
    };
    let codes = if !node.config.fits_id(&request.group_id) {
        Err(ErrorCode::InvalidGroupId)
    } else if repeats_too_much(&request.group_id, commit.offsets.len()) {
        Err(ErrorCode::InvalidRequest)
    } else if commit.offsets.is_empty() {
        Ok(Vec::new())
    } else {
        node.coordinators
            .groups
            .commit(&request.group_id, commit, None)
            .await
    };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            ..Default::default()
        });
    let mut topics: Vec<_> = topics.collect();
    for asked in sorter.answered(codes) {
        topics[asked.topic]
            .partitions
            .push(OffsetCommitResponsePartition {
                partition_index: asked.partition,
                error_code: asked.code.code(),
                ..Default::default()
            });
    }
    OffsetCommitResponse {
        topics,
        ..Default::default()
    }
}

fn name_of<'a>(
    image: &'a ClusterImage,
    context: &Context,
    name: &'a str,
    id: TopicId,
) -> Result<&'a str, ErrorCode> {
    match context.version >= TOPIC_IDS {
        true => image
            .topic_by_id(id)
            .map(|topic| topic.name.as_str())
            .ok_or(ErrorCode::UnknownTopicId),
        false => Ok(name),
    }
}

fn offset_of(
    partition: &OffsetCommitRequestPartition,
    expire_timestamp_ms: Option<i64>,
) -> OffsetRecord {
    OffsetRecord {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.clone().unwrap_or_default(),
        expire_timestamp_ms,
        ..OffsetRecord::default()
    }
}

/// OffsetFetch: one group at the top before v8, a list of groups from then on.
pub(crate) async fn offset_fetch(
    node: &Arc<Node>,
    context: &Context,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if context.version >= MANY_GROUPS {
        let mut groups = Vec::with_capacity(request.groups.len());
        // Everything a group has committed is told once, however often it is asked for.
        let mut told = BTreeSet::new();
        let mut is_new = |group: &&OffsetFetchRequestGroup| {
            group.topics.is_some() || told.insert(group.group_id.clone())
        };
        for group in request.groups.iter().filter(|group| is_new(group)) {
            groups.push(fetch_group(node, context, group, request.require_stable).await);
        }
        return OffsetFetchResponse {
            groups,
            ..Default::default()
        };
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..Default::default()
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..Default::default()
    };
    let fetched = fetch_group(node, context, &group, request.require_stable).await;
    if fetched.error_code != ErrorCode::None.code() && context.version >= 2 {
        return OffsetFetchResponse {
            error_code: fetched.error_code,
            ..Default::default()
        };
    }
    let topics = match fetched.error_code {
        0 => fetched.topics,
        error_code => refused_topics(&group, error_code),
    };
    let topics = topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(without_group).collect(),
        ..Default::default()
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn without_group(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
        ..Default::default()
    }
}

/// Version 1 has no place for an error but the partitions.
fn refused_topics(
    group: &OffsetFetchRequestGroup,
    error_code: i16,
) -> Vec<OffsetFetchResponseTopics> {
    let topics = group
        .topics
        .iter()
        .flatten()
        .map(|topic| OffsetFetchResponseTopics {
            name: topic.name.clone(),
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| refused(*index, error_code))
                .collect(),
            ..Default::default()
        });
    topics.collect()
}

fn refused(partition_index: i32, error_code: i16) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(String::new()),
        error_code,
        ..Default::default()
    }
}

async fn fetch_group(
    node: &Arc<Node>,
    context: &Context,
    group: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let image = node.cluster.image();
    let groups = &node.coordinators.groups;
    let topics = match &group.topics {
        None => groups
            .fetch(&group.group_id, None, require_stable)
            .await
            .map(|all| all_topics(&image, context, all)),
        Some(topics) => {
            let mut partitions = Vec::new();
            for topic in topics {
                // No topic has such a name: it is not copied once per partition.
                let name = name_of(&image, context, &topic.name, topic.topic_id)
                    .ok()
                    .filter(|name| !is_too_long(name))
                    .unwrap_or_default();
                partitions.extend(
                    topic
                        .partition_indexes
                        .iter()
                        .map(|index| TopicPartition::new(name, *index)),
                );
            }
            let fetched = groups
                .fetch(&group.group_id, Some(&partitions), require_stable)
                .await;
            fetched.map(|fetched| named_topics(&image, context, topics, fetched))
        }
    };
    let group_id = group.group_id.clone();
    match topics {
        Ok(topics) => OffsetFetchResponseGroup {
            group_id,
            topics,
            ..Default::default()
        },
        Err(error) => OffsetFetchResponseGroup {
            group_id,
            error_code: error.code(),
            ..Default::default()
        },
    }
}

/// Answers in the order of the question; a topic id nobody knows is named as such.
fn named_topics(
    image: &ClusterImage,
    context: &Context,
    asked: &[OffsetFetchRequestTopics],
    fetched: Vec<FetchedOffset>,
) -> Vec<OffsetFetchResponseTopics> {
    let mut fetched = fetched.into_iter();
    let topics = asked.iter().map(|topic| {
        let known = name_of(image, context, &topic.name, topic.topic_id);
        let answers: Vec<_> = fetched
            .by_ref()
            .take(topic.partition_indexes.len())
            .collect();
        let partitions = answers.into_iter().map(|answer| match known {
            Ok(_) => partition_of(answer),
            Err(error) => refused(answer.partition.partition, error.code()),
        });
        OffsetFetchResponseTopics {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    topics.collect()
}

/// Everything the group has, by topic; with ids, only topics that have one.
fn all_topics(
    image: &ClusterImage,
    context: &Context,
    fetched: Vec<FetchedOffset>,
) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for answer in fetched {
        let name = answer.partition.topic.clone();
        if topics.last().is_none_or(|topic| topic.name != name) {
            let topic_id = image.topic(&name).map(|topic| topic.id).unwrap_or_default();
            topics.push(OffsetFetchResponseTopics {
                name,
                topic_id,
                ..Default::default()
            });
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(partition_of(answer));
        }
    }
    topics.retain(|topic| context.version < TOPIC_IDS || !topic.topic_id.is_nil());
    topics
}

fn partition_of(answer: FetchedOffset) -> OffsetFetchResponsePartitions {
    let partition_index = answer.partition.partition;
    match answer.offset {
        Err(error) => refused(partition_index, error.code()),
        Ok(None) => refused(partition_index, ErrorCode::None.code()),
        Ok(Some(offset)) => OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            metadata: Some(offset.metadata),
            ..Default::default()
        },
    }
}
