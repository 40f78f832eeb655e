//! What can be changed while it is in use: configuration, the number of a topic's partitions, where they begin.
//!
//! Part of [`Admin`]. Nothing here is repeated by itself once it was sent: whoever asks decides whether to ask again.

use std::collections::BTreeMap;

use flumen_protocol::id::{BrokerId, TopicPartition};
use flumen_protocol::message::create_partitions_request::CreatePartitionsTopic;
use flumen_protocol::message::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use flumen_protocol::message::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use flumen_protocol::message::{
    CreatePartitionsRequest, DeleteRecordsRequest, DescribeLogDirsRequest,
    IncrementalAlterConfigsRequest,
};

use super::{Admin, ConfigResource, check, unanswered};
use crate::client::Node;
use crate::error::ClientError;

/// What becomes of one key of a configuration (Kafka: `AlterConfigOp`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// It has this value from now on.
    Set(String),
    /// Back to the default.
    Unset,
    /// A list has these words too, separated by commas.
    Append(String),
    /// A list has these words no more.
    Subtract(String),
}

/// Where a partition lies on a broker, and how large it is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogDirEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// The broker.
    pub broker: BrokerId,
    /// The directory on that broker.
    pub dir: String,
    /// Bytes of its segments.
    pub size_bytes: i64,
    /// Records that the broker has and may not show yet.
    pub offset_lag: i64,
}

impl Admin {
    /// Changes the configuration of a topic, a broker or all of them: all of `changes` or nothing. With `validate_only` nothing is
    /// changed.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: no such topic. [`ClientError::Invalid`]: an unknown key, one that is fixed while the broker runs, or
    /// a wrong value, named in the message.
    pub async fn alter_configs(
        &self,
        resource: ConfigResource<'_>,
        changes: &[(&str, ConfigChange)],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let alterable = |(name, change): &(&str, ConfigChange)| {
            let (config_operation, value) = match change.clone() {
                ConfigChange::Set(value) => (0, Some(value)),
                ConfigChange::Unset => (1, None),
                ConfigChange::Append(value) => (2, Some(value)),
                ConfigChange::Subtract(value) => (3, Some(value)),
            };
            AlterableConfig {
                name: (*name).to_owned(),
                config_operation,
                value,
                ..AlterableConfig::default()
            }
        };
        let (resource_type, resource_name) = resource.wire();
        let to = match resource {
            ConfigResource::Broker(id) => Node::Broker(id),
            ConfigResource::Topic(_) | ConfigResource::AllBrokers => Node::Controller,
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type,
                resource_name,
                configs: changes.iter().map(alterable).collect(),
                ..AlterConfigsResource::default()
            }],
            validate_only,
            ..IncrementalAlterConfigsRequest::default()
        };
        let answer = self.client.send(to, request).await?;
        let api = "IncrementalAlterConfigs";
        let subject = resource.to_string();
        let result = answer.responses.first();
        let result = result.ok_or_else(|| unanswered(api, &subject))?;
        let message = result.error_message.as_deref();
        check(result.error_code, subject, api, message)
    }

    /// Gives a topic more partitions: `count` in all. What a key hashes to changes with their number.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: no such topic. [`ClientError::Invalid`]: it has as many or more already.
    pub async fn create_partitions(
        &self,
        topic: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: topic.to_owned(),
                count,
                assignments: None,
                ..CreatePartitionsTopic::default()
            }],
            timeout_ms: self.timeout_ms(),
            validate_only,
            ..CreatePartitionsRequest::default()
        };
        let answer = self.client.send(Node::Controller, request).await?;
        let result = answer.results.first();
        let result = result.ok_or_else(|| unanswered("CreatePartitions", topic))?;
        let message = result.error_message.as_deref();
        let subject = format!("topic {topic}");
        check(result.error_code, subject, "CreatePartitions", message)
    }

    /// Deletes what lies below an offset in each partition; -1 stands for everything there is. Returns where the partitions begin
    /// now, which may be above what was asked.
    ///
    /// # Errors
    /// The first partition's: [`ClientError::NotFound`]; [`ClientError::Invalid`] for an offset beyond the end, or a topic whose
    /// records are only replaced by their keys (`cleanup.policy=compact`).
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let mut by_leader: BTreeMap<BrokerId, Vec<DeleteRecordsTopic>> = BTreeMap::new();
        for (at, offset) in before {
            let leader = self.leader_of(at).await?;
            let partition = DeleteRecordsPartition {
                partition_index: at.partition,
                offset: *offset,
                ..DeleteRecordsPartition::default()
            };
            let topics = by_leader.entry(leader).or_default();
            match topics.last_mut().filter(|topic| topic.name == at.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(DeleteRecordsTopic {
                    name: at.topic.clone(),
                    partitions: vec![partition],
                    ..DeleteRecordsTopic::default()
                }),
            }
        }
        let mut starts = BTreeMap::new();
        for (leader, topics) in by_leader {
            let request = DeleteRecordsRequest {
                topics,
                timeout_ms: self.timeout_ms(),
                ..DeleteRecordsRequest::default()
            };
            let answer = self.client.send(Node::Broker(leader), request).await?;
            for topic in answer.topics {
                for partition in topic.partitions {
                    let at = TopicPartition::new(topic.name.clone(), partition.partition_index);
                    let subject = format!("partition {at}");
                    check(partition.error_code, subject, "DeleteRecords", None)?;
                    starts.insert(at, partition.low_watermark);
                }
            }
        }
        Ok(starts)
    }

    /// Where every partition lies and how large it is, on every broker.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`], [`ClientError::Timeout`]: a broker did not answer.
    pub async fn log_dirs(&self) -> Result<Vec<LogDirEntry>, ClientError> {
        let mut entries = Vec::new();
        for broker in self.describe_cluster().await?.brokers {
            let request = DescribeLogDirsRequest {
                topics: None,
                ..DescribeLogDirsRequest::default()
            };
            let answer = self.client.send(Node::Broker(broker.id), request).await?;
            for dir in answer.results {
                let subject = format!("directory {}", dir.log_dir);
                check(dir.error_code, subject, "DescribeLogDirs", None)?;
                for topic in dir.topics {
                    let (name, path) = (&topic.name, &dir.log_dir);
                    entries.extend(topic.partitions.iter().map(|partition| LogDirEntry {
                        partition: TopicPartition::new(name.clone(), partition.partition_index),
                        broker: broker.id,
                        dir: path.clone(),
                        size_bytes: partition.partition_size,
                        offset_lag: partition.offset_lag,
                    }));
                }
            }
        }
        entries.sort();
        Ok(entries)
    }
}
