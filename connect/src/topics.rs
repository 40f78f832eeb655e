//! The worker's three internal topics: made if missing, read from the beginning to the end.
//!
//! Owns their shapes. `worker.rs` reads configurations, `source_task.rs` positions. It writes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_client::{
    Admin, Client, ClientError, Consumer, ConsumerConfig, Isolation, NewTopic, OffsetReset,
    OffsetSpec, Poll, TopicPartition,
};
use flumen_protocol::compression::DecompressionLimit;

/// Names, partitions and replicas of the internal topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopics {
    /// Configurations and target states; one partition. Kafka: `config.storage.topic`.
    pub config: String,
    /// Source positions. Kafka: `offset.storage.topic`.
    pub offsets: String,
    /// Partitions of that when it is made. Kafka: 25.
    pub offsets_partitions: i32,
    /// States of connectors and tasks. Kafka: `status.storage.topic`.
    pub status: String,
    /// Partitions of that when it is made. Kafka: 5.
    pub status_partitions: i32,
    /// Replicas of all three; -1: the cluster's default.
    pub replication_factor: i16,
}

impl Default for InternalTopics {
    fn default() -> Self {
        InternalTopics {
            config: "connect-configs".to_owned(),
            offsets: "connect-offsets".to_owned(),
            offsets_partitions: 25,
            status: "connect-status".to_owned(),
            status_partitions: 5,
            replication_factor: -1,
        }
    }
}

/// Makes what is missing, compacted.
pub(crate) async fn ensure(client: &Client, topics: &InternalTopics) -> Result<(), ClientError> {
    let wanted = [
        (&topics.config, 1),
        (&topics.offsets, topics.offsets_partitions),
        (&topics.status, topics.status_partitions),
    ];
    let wanted = wanted.map(|(name, partitions)| {
        let topic = NewTopic::new(name.as_str(), partitions).config("cleanup.policy", "compact");
        NewTopic {
            replication_factor: topics.replication_factor,
            ..topic
        }
    });
    Admin::new(client).ensure_topics(&wanted).await
}

/// Reads a topic, read_committed, from the beginning up to where it ended when this was called (its high watermark: transactions that are open now are
/// waited for), and shows each record's key and value, in order within a partition.
pub(crate) async fn read_to_end(
    client: &Client,
    topic: &str,
    mut visit: impl FnMut(&[u8], Option<&[u8]>),
) -> Result<(), ClientError> {
    let admin = Admin::new(client);
    let described = admin.describe_topic(topic).await?;
    let partitions: Vec<TopicPartition> = described
        .partitions
        .iter()
        .map(|p| TopicPartition::new(topic, p.partition))
        .collect();
    let starts = admin
        .list_offsets(&partitions, OffsetSpec::Earliest)
        .await?;
    let ends = admin
        .list_offsets(&partitions, OffsetSpec::Latest(Isolation::ReadUncommitted))
        .await?;
    let mut left: BTreeMap<TopicPartition, i64> = ends
        .iter()
        .map(|(at, end)| (at.clone(), end.offset))
        .collect();
    left.retain(|at, end| starts.get(at).is_none_or(|start| start.offset < *end));
    if left.is_empty() {
        return Ok(());
    }
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        fetch_max_wait: Duration::from_millis(100),
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(client, config).await?;
    consumer.assign(left.keys().cloned().collect()).await?;
    for partition in left.keys() {
        consumer.seek_to_beginning(partition)?;
    }
    while !left.is_empty() {
        match consumer.poll_batches(Duration::from_millis(500)).await? {
            Poll::Records(fetched) => {
                for piece in fetched {
                    for record in piece.records(DecompressionLimit::DEFAULT) {
                        let record = record?;
                        visit(
                            record.key.as_deref().unwrap_or_default(),
                            record.value.as_deref(),
                        );
                    }
                    if left
                        .get(&piece.partition)
                        .is_some_and(|end| piece.next_offset >= *end)
                    {
                        let _ = left.remove(&piece.partition);
                    }
                }
            }
            // Compaction moved the beginning while it was read.
            Poll::PositionLost { partition, .. } => consumer.seek_to_beginning(&partition)?,
            _ => {}
        }
    }
    consumer.close().await;
    Ok(())
}
