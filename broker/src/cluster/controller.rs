//! Commands to the cluster: image + command → records and reply. Pure.
//!
//! A command is data and carries everything that is not a function of the image: ids, and where placement starts, are stamped by
//! whoever proposes it. So the same command decided again on the same image gives the same records, on any node. Called by
//! `cluster/mod.rs` under the proposal lock; nothing here reads a clock or draws a number.

mod configs;
mod partitions;

use std::collections::BTreeSet;

use flumen_log::config::ConfigKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{BrokerId, ProducerId, TopicId};

use super::image::ClusterImage;
use super::placement::{Candidate, place};
use super::record::{
    BrokerRecord, ConfigRecord, FeatureRecord, MetadataRecord, PartitionRecord, ProducerIdsRecord,
    RemoveTopicRecord, ResourceKind, TopicRecord,
};
use crate::error::brief;

pub(crate) use configs::{AlterConfigs, Change, Operation, ResourceChange};
pub(crate) use partitions::{CreatePartitions, MorePartitions};

/// Producer ids are handed to brokers in blocks of this size (Kafka: `ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
pub(crate) const PRODUCER_ID_BLOCK: i64 = 1000;
/// The log of the cluster's metadata: its directory is taken, so no topic may have this name.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";
/// Most partitions one request may create.
const MAX_NEW_PARTITIONS: usize = 10_000;
/// Longest topic name: with `-` and a partition number it must still be a file name.
const MAX_TOPIC_NAME: usize = 249;

/// What a command came to: the records that make it true, and what to tell the one who asked once they are durable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision<R> {
    pub(crate) records: Vec<MetadataRecord>,
    pub(crate) reply: R,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    /// Kafka's code.
    pub code: ErrorCode,
    /// A sentence for the one who asked.
    pub message: String,
}

impl Refused {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Refused {
        Refused {
            code,
            message: brief(message),
        }
    }
}

/// Something that may be asked of the cluster.
pub(crate) trait Command {
    /// What the one who asks is told.
    type Reply;

    /// Reads the image, changes nothing.
    fn decide(&self, image: &ClusterImage) -> Result<Decision<Self::Reply>, Refused>;
}

/// Creates topics, each for itself: one that is refused does not stop the others.
#[derive(Debug, Clone)]
pub(crate) struct CreateTopics {
    pub(crate) topics: Vec<NewTopic>,
    /// Moves first partitions over the brokers; any number.
    pub(crate) placement_start: usize,
}

/// One topic to be.
#[derive(Debug, Clone)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    /// Stamped by the proposer; used only if the topic is created.
    pub(crate) id: TopicId,
    pub(crate) layout: Layout,
    /// Topic configuration, by Kafka's dotted names.
    pub(crate) configs: Vec<(String, Option<String>)>,
}

/// Partitions and replicas of a new topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// So many; the cluster chooses where.
    Counted { partitions: i32, replicas: i32 },
    /// Exactly these: (partition, replicas).
    Assigned(Vec<(i32, Vec<BrokerId>)>),
}

/// A topic that now exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CreatedTopic {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) partitions: usize,
    pub(crate) replicas: usize,
}

impl Command for CreateTopics {
    type Reply = Vec<Result<CreatedTopic, Refused>>;

    fn decide(&self, image: &ClusterImage) -> Result<Decision<Self::Reply>, Refused> {
        // Topics of one command see each other: two of one name are one topic and one refusal.
        let mut image = image.clone();
        let mut records = Vec::new();
        let mut reply = Vec::with_capacity(self.topics.len());
        let mut new_partitions = 0;
        for (i, topic) in self.topics.iter().enumerate() {
            // Once there are too many, no more are laid out only to be refused.
            let created = match new_partitions > MAX_NEW_PARTITIONS {
                true => Err(too_many_partitions()),
                false => decide_topic(&image, topic, self.placement_start + i).and_then(|made| {
                    new_partitions += made.reply.partitions;
                    match new_partitions > MAX_NEW_PARTITIONS {
                        true => Err(too_many_partitions()),
                        false => Ok(made),
                    }
                }),
            };
            reply.push(created.map(|made| {
                made.records.iter().for_each(|record| image.apply(record));
                records.extend(made.records);
                made.reply
            }));
        }
        Ok(Decision { records, reply })
    }
}

fn too_many_partitions() -> Refused {
    let message = format!("more than {MAX_NEW_PARTITIONS} new partitions in one request");
    Refused::new(ErrorCode::PolicyViolation, message)
}

fn decide_topic(
    image: &ClusterImage,
    topic: &NewTopic,
    placement_start: usize,
) -> Result<Decision<CreatedTopic>, Refused> {
    check_topic_name(&topic.name)?;
    check_collision(image, &topic.name)?;
    let replicas = lay_out(image, &topic.layout, placement_start)?;
    let mut records = vec![MetadataRecord::Topic(TopicRecord {
        name: topic.name.clone(),
        id: topic.id,
    })];
    records.extend(decide_configs(topic)?);
    let reply = CreatedTopic {
        name: topic.name.clone(),
        id: topic.id,
        partitions: replicas.len(),
        replicas: replicas.first().map_or(0, Vec::len),
    };
    records.extend(replicas.into_iter().zip(0..).map(|(replicas, partition)| {
        MetadataRecord::Partition(PartitionRecord {
            topic_id: topic.id,
            partition,
            leader: replicas[0],
            isr: replicas.clone(),
            replicas,
            leader_epoch: 0,
            partition_epoch: 0,
        })
    }));
    Ok(Decision { records, reply })
}

/// Whether no topic can have this name for its length alone.
pub(crate) fn is_too_long(name: &str) -> bool {
    name.len() > MAX_TOPIC_NAME
}

/// Kafka's `Topic.validate`: 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.` nor `..`.
pub(crate) fn check_topic_name(name: &str) -> Result<(), Refused> {
    let why = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        "'.' or '..' is not allowed".to_owned()
    } else if is_too_long(name) {
        format!("the length of '{name}' is longer than the max allowed length {MAX_TOPIC_NAME}")
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )
    } else {
        return Ok(());
    };
    Err(Refused::new(
        ErrorCode::InvalidTopicException,
        format!("topic name is invalid: {why}"),
    ))
}

/// Metric names turn `.` into `_`, so topics that differ only there would share their metrics.
fn check_collision(image: &ClusterImage, name: &str) -> Result<(), Refused> {
    if image.topic(name).is_some() {
        return Err(Refused::new(
            ErrorCode::TopicAlreadyExists,
            format!("topic '{name}' already exists"),
        ));
    }
    if name == METADATA_TOPIC {
        let message = format!("'{name}' is the cluster's own log");
        return Err(Refused::new(ErrorCode::InvalidTopicException, message));
    }
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let folded = name.replace('.', "_");
    match image
        .topics()
        .find(|topic| topic.name.replace('.', "_") == folded)
    {
        Some(other) => Err(Refused::new(
            ErrorCode::InvalidTopicException,
            format!(
                "topic '{name}' collides with existing topic: {}",
                other.name
            ),
        )),
        None => Ok(()),
    }
}

fn lay_out(
    image: &ClusterImage,
    layout: &Layout,
    start: usize,
) -> Result<Vec<Vec<BrokerId>>, Refused> {
    let candidates: Vec<Candidate> = image
        .brokers()
        .map(|b| Candidate {
            id: b.id,
            rack: b.rack.clone(),
        })
        .collect();
    match layout {
        Layout::Counted {
            partitions,
            replicas,
        } => {
            let partitions = usize::try_from(*partitions)
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(|| {
                    Refused::new(
                        ErrorCode::InvalidPartitions,
                        "number of partitions must be larger than 0",
                    )
                })?;
            let count = usize::try_from(*replicas)
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(|| {
                    Refused::new(
                        ErrorCode::InvalidReplicationFactor,
                        "replication factor must be larger than 0",
                    )
                })?;
            if partitions > MAX_NEW_PARTITIONS {
                return Err(too_many_partitions());
            }
            place(&candidates, partitions, count, start).ok_or_else(|| {
                let message = format!(
                    "a replication factor of {count} cannot be had: only {} broker(s) are registered",
                    candidates.len()
                );
                Refused::new(ErrorCode::InvalidReplicationFactor, message)
            })
        }
        Layout::Assigned(assigned) => check_assignment(image, assigned),
    }
}

fn check_assignment(
    image: &ClusterImage,
    assigned: &[(i32, Vec<BrokerId>)],
) -> Result<Vec<Vec<BrokerId>>, Refused> {
    let mut sorted: Vec<_> = assigned.iter().collect();
    sorted.sort_by_key(|(partition, _)| *partition);
    for (expected, (partition, replicas)) in sorted.iter().enumerate() {
        if usize::try_from(*partition) != Ok(expected) {
            let message = "partitions should be a consecutive 0-based integer sequence";
            return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        check_replicas(image, expected, replicas, sorted[0].1.len())?;
    }
    Ok(sorted
        .into_iter()
        .map(|(_, replicas)| replicas.clone())
        .collect())
}

/// Replicas that somebody chose for a partition: so many, different, and all registered.
fn check_replicas(
    image: &ClusterImage,
    partition: usize,
    replicas: &[BrokerId],
    factor: usize,
) -> Result<(), Refused> {
    let distinct: BTreeSet<_> = replicas.iter().collect();
    let why = if replicas.is_empty() || distinct.len() != replicas.len() {
        "the replica list is empty or names a broker twice".to_owned()
    } else if replicas.len() != factor {
        "another number of replicas than partition 0".to_owned()
    } else if let Some(unknown) = replicas.iter().find(|id| image.broker(**id).is_none()) {
        format!("broker {unknown} is not registered")
    } else {
        return Ok(());
    };
    let message = format!("partition {partition}: {why}");
    Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message))
}

fn decide_configs(topic: &NewTopic) -> Result<Vec<MetadataRecord>, Refused> {
    let mut records = Vec::with_capacity(topic.configs.len());
    for (key, value) in &topic.configs {
        let Some(value) = value else {
            let message = format!("null value not supported for topic configs: {key}");
            return Err(Refused::new(ErrorCode::InvalidConfig, message));
        };
        let known = ConfigKey::find(key).ok_or_else(|| {
            Refused::new(
                ErrorCode::InvalidConfig,
                format!("unknown topic config name: {key}"),
            )
        })?;
        known
            .validate(value)
            .map_err(|why| Refused::new(ErrorCode::InvalidConfig, why.to_string()))?;
        records.push(MetadataRecord::Config(ConfigRecord {
            kind: ResourceKind::Topic,
            resource: topic.name.clone(),
            key: key.clone(),
            value: Some(value.clone()),
        }));
    }
    Ok(records)
}

/// Removes topics, each for itself.
#[derive(Debug, Clone)]
pub(crate) struct DeleteTopics {
    pub(crate) topics: Vec<TopicId>,
}

impl Command for DeleteTopics {
    type Reply = Vec<Result<(), Refused>>;

    fn decide(&self, image: &ClusterImage) -> Result<Decision<Self::Reply>, Refused> {
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        let reply = self.topics.iter().map(|id| {
            if image.topic_by_id(*id).is_none() || !seen.insert(*id) {
                return Err(Refused::new(
                    ErrorCode::UnknownTopicId,
                    "this server does not host this topic id",
                ));
            }
            records.push(MetadataRecord::RemoveTopic(RemoveTopicRecord { id: *id }));
            Ok(())
        });
        let reply = reply.collect();
        Ok(Decision { records, reply })
    }
}

/// Gives a broker its next block of producer ids; the reply is the first of them.
#[derive(Debug, Clone)]
pub(crate) struct AllocateProducerIds {
    pub(crate) broker: BrokerId,
}

impl Command for AllocateProducerIds {
    type Reply = ProducerId;

    fn decide(&self, image: &ClusterImage) -> Result<Decision<ProducerId>, Refused> {
        let first = image.next_producer_id();
        let next_producer_id = first.checked_add(PRODUCER_ID_BLOCK).ok_or_else(|| {
            Refused::new(
                ErrorCode::UnknownServerError,
                "all producer ids have been used",
            )
        })?;
        let record = ProducerIdsRecord {
            broker: self.broker,
            next_producer_id,
        };
        Ok(Decision {
            records: vec![MetadataRecord::ProducerIds(record)],
            reply: first,
        })
    }
}

/// A broker says where it is. Repeated without a change it writes nothing.
#[derive(Debug, Clone)]
pub(crate) struct RegisterBroker(pub(crate) BrokerRecord);

impl Command for RegisterBroker {
    type Reply = ();

    fn decide(&self, image: &ClusterImage) -> Result<Decision<()>, Refused> {
        let known = image.broker(self.0.id) == Some(&self.0);
        let records = if known {
            vec![]
        } else {
            vec![MetadataRecord::Broker(self.0.clone())]
        };
        Ok(Decision { records, reply: () })
    }
}

/// Sets a feature that is not at this level yet.
#[derive(Debug, Clone)]
pub(crate) struct SetFeatures(pub(crate) Vec<(String, i16)>);

impl Command for SetFeatures {
    type Reply = ();

    fn decide(&self, image: &ClusterImage) -> Result<Decision<()>, Refused> {
        let changed = self
            .0
            .iter()
            .filter(|(name, level)| image.feature(name) != *level);
        let records = changed
            .map(|(name, level)| {
                MetadataRecord::Feature(FeatureRecord {
                    name: name.clone(),
                    level: *level,
                })
            })
            .collect();
        Ok(Decision { records, reply: () })
    }
}

#[cfg(test)]
mod tests;
