//! Cluster metadata, the driver: command → decide → append → flush → apply → reply.
//!
//! The log is `__cluster_metadata-0`, one batch per decision, so that a decision is on disk whole or not at all. It is replayed at
//! start through the same `apply`. Proposals are serialised; readers take the published image and never wait. A consensus log takes
//! the place of [`MetadataLog`] later; everything else in this folder is pure.

pub(crate) mod controller;
pub mod image;
mod log;
pub(crate) mod placement;
pub mod record;

use std::ops::Range;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{ProducerId, TopicId};
use parking_lot::RwLock;
use tokio::sync::{Mutex, oneshot};

use crate::cluster::controller::{
    AllocateProducerIds, Command, CreateTopics, Layout, NewTopic, PRODUCER_ID_BLOCK, Refused,
};
use crate::cluster::image::{ClusterImage, is_internal};
use crate::config::BrokerConfig;
use crate::driver::Drivers;
use crate::replicas::Replicas;
pub(crate) use log::{MetadataLog, MetadataLogError};

/// See the head of the file.
#[derive(Debug)]
pub struct Cluster {
    config: Arc<BrokerConfig>,
    drivers: Drivers,
    image: RwLock<Arc<ClusterImage>>,
    log: Mutex<MetadataLog>,
    replicas: Arc<Replicas>,
    producer_ids: Mutex<Range<ProducerId>>,
}

impl Cluster {
    /// Takes the log and the image that its replay gave.
    pub(crate) fn new(
        config: Arc<BrokerConfig>,
        log: MetadataLog,
        image: ClusterImage,
        replicas: Arc<Replicas>,
    ) -> Arc<Cluster> {
        let drivers = replicas.drivers().clone();
        Arc::new(Cluster {
            config,
            drivers,
            image: RwLock::new(Arc::new(image)),
            log: Mutex::new(log),
            replicas,
            producer_ids: Mutex::new(0..0),
        })
    }

    /// The cluster as it is now.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        Arc::clone(&self.image.read())
    }

    /// Decides `command`, makes the decision durable and true, then tells the reply.
    ///
    /// Runs to its end also if the caller goes away. A refusal of the log (`KAFKA_STORAGE_ERROR`) leaves the image as it was.
    pub(crate) async fn propose<C>(self: &Arc<Self>, command: C) -> Result<C::Reply, Refused>
    where
        C: Command + Send + 'static,
        C::Reply: Send + 'static,
    {
        let (done, reply) = oneshot::channel();
        let cluster = Arc::clone(self);
        self.drivers.spawn("proposal", async move {
            // The one who asked may have gone; the decision stands.
            let _ = done.send(cluster.decide_and_apply(command).await);
        });
        reply.await.unwrap_or_else(|_| {
            Err(Refused::new(
                ErrorCode::UnknownServerError,
                "the broker is stopping",
            ))
        })
    }

    async fn decide_and_apply<C>(&self, command: C) -> Result<C::Reply, Refused>
    where
        C: Command + Send,
        C::Reply: Send,
    {
        let mut log = self.log.lock().await;
        let image = self.image();
        let decision = command.decide(&image)?;
        if decision.records.is_empty() {
            return Ok(decision.reply);
        }
        log.append(&self.drivers, &decision.records)
            .await
            .map_err(|error| {
                tracing::error!(%error, "cluster metadata cannot be written");
                Refused::new(
                    ErrorCode::KafkaStorageError,
                    format!("cluster metadata cannot be written: {error}"),
                )
            })?;
        let mut next = ClusterImage::clone(&image);
        decision
            .records
            .iter()
            .for_each(|record| next.apply(record));
        let next = Arc::new(next);
        *self.image.write() = Arc::clone(&next);
        self.replicas.follow(&next, &decision.records).await;
        Ok(decision.reply)
    }

    /// What `command` would come to, without doing it.
    pub(crate) fn dry_run<C: Command>(&self, command: &C) -> Result<C::Reply, Refused> {
        command.decide(&self.image()).map(|decision| decision.reply)
    }

    /// The next producer id, never given before. One block of ids is durable ahead.
    ///
    /// # Errors
    /// `KAFKA_STORAGE_ERROR` if the block cannot be made durable.
    pub(crate) async fn next_producer_id(self: &Arc<Self>) -> Result<ProducerId, ErrorCode> {
        let mut block = self.producer_ids.lock().await;
        if block.is_empty() {
            let command = AllocateProducerIds {
                broker: self.config.node_id,
            };
            let first = self
                .propose(command)
                .await
                .map_err(|refused| refused.code)?;
            *block = first..first + PRODUCER_ID_BLOCK;
        }
        block.next().ok_or(ErrorCode::UnknownServerError)
    }

    /// Creates those of `names` that do not exist, with default settings; internal topics with theirs. What could not be created is
    /// logged and stays unknown.
    pub(crate) async fn auto_create(self: &Arc<Self>, names: &[String]) {
        let topics = names.iter().map(|name| self.default_topic(name)).collect();
        let created = self
            .propose(CreateTopics {
                topics,
                placement_start: 0,
            })
            .await;
        for (name, created) in names.iter().zip(created.unwrap_or_default()) {
            match created {
                Ok(topic) => tracing::info!(
                    topic = name,
                    partitions = topic.partitions,
                    "topic created on first use"
                ),
                Err(refused) if refused.code == ErrorCode::TopicAlreadyExists => {}
                Err(refused) => {
                    tracing::warn!(topic = name, %refused, "topic could not be created on first use")
                }
            }
        }
    }

    /// Makes sure that an internal topic exists.
    ///
    /// # Errors
    /// The code of the refusal, if it cannot be created.
    pub(crate) async fn ensure_internal_topic(
        self: &Arc<Self>,
        name: &str,
    ) -> Result<(), ErrorCode> {
        if self.image().topic(name).is_some() {
            return Ok(());
        }
        let topics = vec![self.default_topic(name)];
        let mut created = self
            .propose(CreateTopics {
                topics,
                placement_start: 0,
            })
            .await
            .map_err(|refused| refused.code)?;
        match created.pop() {
            Some(Ok(_)) => Ok(()),
            Some(Err(refused)) if refused.code == ErrorCode::TopicAlreadyExists => Ok(()),
            Some(Err(refused)) => Err(refused.code),
            None => Err(ErrorCode::UnknownServerError),
        }
    }

    fn default_topic(&self, name: &str) -> NewTopic {
        let config = &self.config;
        let set = |pairs: &[(&str, String)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Some(value.clone())))
                .collect()
        };
        let (partitions, replicas, configs) = match name {
            "__consumer_offsets" => (
                config.offsets_topic_num_partitions,
                config.offsets_topic_replication_factor,
                set(&[
                    ("cleanup.policy", "compact".to_owned()),
                    ("compression.type", "producer".to_owned()),
                    (
                        "segment.bytes",
                        config.offsets_topic_segment_bytes.to_string(),
                    ),
                    // Metadata of a large group is one record.
                    (
                        "max.message.bytes",
                        config.offsets_topic_segment_bytes.to_string(),
                    ),
                ]),
            ),
            "__transaction_state" => (
                config.transaction_state_log_num_partitions,
                config.transaction_state_log_replication_factor,
                set(&[
                    ("cleanup.policy", "compact".to_owned()),
                    ("compression.type", "uncompressed".to_owned()),
                    (
                        "segment.bytes",
                        config.transaction_state_log_segment_bytes.to_string(),
                    ),
                    (
                        "max.message.bytes",
                        config.transaction_state_log_segment_bytes.to_string(),
                    ),
                ]),
            ),
            _ => (
                config.num_partitions,
                config.default_replication_factor,
                Vec::new(),
            ),
        };
        debug_assert!(configs.is_empty() || is_internal(name));
        NewTopic {
            name: name.to_owned(),
            id: TopicId(self.drivers.random_id()),
            layout: Layout::Counted {
                partitions,
                replicas,
            },
            configs,
        }
    }
}
