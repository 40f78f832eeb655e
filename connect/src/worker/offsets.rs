//! Looking at a connector's positions, and setting them while it is stopped.
//!
//! Owns Kafka's form of a sink's offsets (`kafka_topic`, `kafka_partition`, `kafka_offset`). A source's positions are written under the transactional id of its first
//! task, so whoever may still run it is fenced before.

use std::collections::BTreeMap;

use flumen_client::{
    Admin, Consumer, ConsumerConfig, OffsetAndMetadata, OffsetSpec, Producer, ProducerConfig,
    ProducerRecord,
};
use serde_json::Value;

use super::requests::Offset;
use super::{Inner, Worker, cluster};
use crate::error::WorkerError;
use crate::offsets::{Positions, encode_key, encode_offset};
use crate::record::{SourcePosition, TopicPartition};
use crate::registry::Connector;
use crate::sink_task::group_id;
use crate::source_task::transactional_id;
use crate::status::State;
use crate::topics::read_to_end;

impl Worker {
    /// The committed positions of a connector.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`], [`WorkerError::Cluster`].
    pub async fn offsets(&self, name: &str) -> Result<Vec<Offset>, WorkerError> {
        let state = self.0.state(name)?;
        let (_, plugin, _) = self.0.settings(&state.config)?;
        match plugin {
            Connector::Source(_) => {
                let positions = self.0.source_positions(name).await?;
                Ok(positions
                    .into_iter()
                    .map(|p| Offset {
                        partition: p.partition,
                        offset: Some(p.offset),
                    })
                    .collect())
            }
            Connector::Sink(_) => {
                let offsets = Admin::new(&self.0.client)
                    .group_offsets(&group_id(name))
                    .await
                    .map_err(cluster)?;
                Ok(offsets
                    .into_iter()
                    .map(|(partition, offset)| sink_offset(&partition, offset))
                    .collect())
            }
        }
    }

    /// Sets positions; those not named stay.
    ///
    /// # Errors
    /// [`WorkerError::BadRequest`]: the connector is not stopped, or the positions make no sense.
    pub async fn alter_offsets(&self, name: &str, offsets: Vec<Offset>) -> Result<(), WorkerError> {
        let _changing = self.0.changing.lock().await;
        if offsets.is_empty() {
            return Err(WorkerError::BadRequest(
                "Partitions / offsets need to be provided for an alter offsets request".to_owned(),
            ));
        }
        self.0.set_offsets(name, offsets).await
    }

    /// Forgets all positions: the connector begins anew.
    ///
    /// # Errors
    /// As [`alter_offsets`](Self::alter_offsets).
    pub async fn reset_offsets(&self, name: &str) -> Result<(), WorkerError> {
        let _changing = self.0.changing.lock().await;
        let known = self.offsets(name).await?;
        let forget = known
            .into_iter()
            .map(|known| Offset {
                offset: None,
                ..known
            })
            .collect();
        self.0.set_offsets(name, forget).await
    }
}

impl Inner {
    async fn source_positions(&self, name: &str) -> Result<Vec<SourcePosition>, WorkerError> {
        let mut positions = Positions::default();
        read_to_end(&self.client, &self.config.topics.offsets, |key, value| {
            positions.apply(name, key, value)
        })
        .await
        .map_err(cluster)?;
        Ok(positions.into_vec())
    }

    async fn set_offsets(&self, name: &str, offsets: Vec<Offset>) -> Result<(), WorkerError> {
        let state = self.state(name)?;
        let running = self.running(name)?;
        {
            let statuses = running.statuses.lock();
            if statuses.connector.state != State::Stopped || !statuses.tasks.is_empty() {
                let words = "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the specified connector by issuing a 'PUT' request to the '/connectors/";
                return Err(WorkerError::BadRequest(format!(
                    "{words}{name}/stop' endpoint"
                )));
            }
        }
        let (_, plugin, settings) = self.settings(&state.config)?;
        match plugin {
            Connector::Source(source) => {
                let set = offsets.iter().filter_map(|o| {
                    Some(SourcePosition {
                        partition: o.partition.clone(),
                        offset: o.offset.clone()?,
                    })
                });
                source
                    .alter_offsets(&settings, &set.collect::<Vec<_>>())
                    .await
                    .map_err(WorkerError::BadRequest)?;
                self.write_source_positions(name, offsets).await
            }
            Connector::Sink(sink) => {
                let offsets = offsets
                    .iter()
                    .map(sink_partition)
                    .collect::<Result<BTreeMap<_, _>, _>>()
                    .map_err(WorkerError::BadRequest)?;
                sink.alter_offsets(&settings, name, &offsets)
                    .await
                    .map_err(WorkerError::BadRequest)?;
                self.commit_group_offsets(name, offsets).await
            }
        }
    }

    async fn write_source_positions(
        &self,
        name: &str,
        offsets: Vec<Offset>,
    ) -> Result<(), WorkerError> {
        let id = transactional_id(&self.config.group_id, name, 0);
        let producer = Producer::new(&self.client, ProducerConfig::transactional(id))
            .await
            .map_err(cluster)?;
        producer.init_transactions().await.map_err(cluster)?;
        producer.begin_transaction().map_err(cluster)?;
        for Offset { partition, offset } in offsets {
            let value = offset.as_ref().map(|offset| encode_offset(offset).into());
            let record = ProducerRecord {
                value,
                ..ProducerRecord::new(self.config.topics.offsets.as_str(), "")
            };
            let sent = producer
                .send(record.key(encode_key(name, &partition)))
                .await;
            drop(sent.map_err(cluster)?);
        }
        producer.commit_transaction().await.map_err(cluster)
    }

    /// The group has no members, so its offsets may be set. Those to be forgotten go to the beginning of the partition.
    async fn commit_group_offsets(
        &self,
        name: &str,
        offsets: BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<(), WorkerError> {
        let forgotten: Vec<TopicPartition> = offsets
            .iter()
            .filter(|(_, offset)| offset.is_none())
            .map(|(partition, _)| partition.clone())
            .collect();
        let starts = Admin::new(&self.client)
            .list_offsets(&forgotten, OffsetSpec::Earliest)
            .await
            .map_err(cluster)?;
        let start =
            |partition: &TopicPartition| starts.get(partition).map_or(0, |found| found.offset);
        let commits = offsets.into_iter().map(|(partition, offset)| {
            let offset = offset.unwrap_or_else(|| start(&partition));
            (
                partition,
                OffsetAndMetadata {
                    offset,
                    leader_epoch: -1,
                    metadata: String::new(),
                },
            )
        });
        let commits: Vec<_> = commits.collect();
        let consumer = Consumer::new(&self.client, ConsumerConfig::group(group_id(name)))
            .await
            .map_err(cluster)?;
        let committed = consumer.commit(&commits).await.map_err(cluster);
        consumer.close().await;
        committed
    }
}

fn sink_offset(partition: &TopicPartition, offset: i64) -> Offset {
    let partition = [
        ("kafka_topic".to_owned(), partition.topic.as_str().into()),
        ("kafka_partition".to_owned(), partition.partition.into()),
    ];
    Offset {
        partition: partition.into(),
        offset: Some([("kafka_offset".to_owned(), offset.into())].into()),
    }
}

/// Reads Kafka's form; numbers may come as text.
fn sink_partition(offset: &Offset) -> Result<(TopicPartition, Option<i64>), String> {
    let number = |value: Option<&Value>, what: &str| {
        let number =
            value.and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok()));
        number.filter(|number| *number >= 0).ok_or_else(|| format!("The partition and offset for a sink connector need {what} as a number that is not negative"))
    };
    let topic = offset.partition.get("kafka_topic").and_then(Value::as_str);
    let topic = topic
        .ok_or("The partition for a sink connector offset must contain the key 'kafka_topic'")?;
    let partition = number(offset.partition.get("kafka_partition"), "'kafka_partition'")?;
    let partition =
        i32::try_from(partition).map_err(|_| "'kafka_partition' is too large".to_owned())?;
    let next = offset
        .offset
        .as_ref()
        .map(|offset| number(offset.get("kafka_offset"), "'kafka_offset'"))
        .transpose()?;
    Ok((TopicPartition::new(topic, partition), next))
}
