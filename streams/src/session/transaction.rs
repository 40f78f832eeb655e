//! The steps of a commit as calls of the client. Each runs beside the session and answers once.

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_client::{
    ClientError, Consumer, ConsumerGroupMetadata, OffsetAndMetadata, Producer, RecordBlock,
};
use flumen_protocol::id::TopicPartition;

use crate::dataflow::Position;
use crate::position::PartitionTimes;
use crate::state::Epoch;

/// The next offset of each partition that was written.
pub(crate) type Written = BTreeMap<(String, i32), i64>;

/// Which step is done.
#[derive(Debug)]
pub(crate) enum Done {
    Flushed(Epoch, Written),
    OffsetsSent(Epoch),
    Committed(Epoch),
    OffsetsCommitted,
}

/// Sends the records of an epoch and waits until all are acknowledged. Opens the transaction that carries them.
pub(crate) async fn flush(
    producer: Producer,
    epoch: Epoch,
    blocks: Vec<(Arc<str>, i32, RecordBlock)>,
    exactly_once: bool,
) -> Result<Done, ClientError> {
    if exactly_once {
        producer.begin_transaction()?;
    }
    let mut deliveries = Vec::with_capacity(blocks.len());
    for (topic, partition, block) in blocks {
        let records = i64::try_from(block.len()).expect("a block has fewer than 2^63 records");
        let delivery = producer.send_batch(&topic, partition, block).await?;
        deliveries.push((topic, partition, records, delivery));
    }
    let mut written = Written::new();
    for (topic, partition, records, delivery) in deliveries {
        let base_offset = delivery.await?.offset;
        written.insert((topic.to_string(), partition), base_offset + records);
    }
    Ok(Done::Flushed(epoch, written))
}

/// Makes the input positions part of the transaction. The group refuses them if this member is no longer in it.
pub(crate) async fn send_offsets(
    producer: Producer,
    epoch: Epoch,
    offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
    group: ConsumerGroupMetadata,
) -> Result<Done, ClientError> {
    producer
        .send_offsets_to_transaction(&offsets, &group)
        .await?;
    Ok(Done::OffsetsSent(epoch))
}

/// Ends the transaction.
pub(crate) async fn commit(producer: Producer, epoch: Epoch) -> Result<Done, ClientError> {
    producer.commit_transaction().await?;
    Ok(Done::Committed(epoch))
}

/// Commits input positions outside of a transaction.
pub(crate) async fn commit_offsets(
    consumer: Arc<Consumer>,
    offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
) -> Result<Done, ClientError> {
    consumer.commit(&offsets).await?;
    Ok(Done::OffsetsCommitted)
}

/// A position as it is committed.
pub(crate) fn offset(
    topic: &str,
    partition: i32,
    position: &Position,
) -> (TopicPartition, OffsetAndMetadata) {
    let times = PartitionTimes {
        partition_time: position.partition_time,
        stream_times: position.stream_times.clone(),
    };
    let offset = OffsetAndMetadata {
        offset: position.next_offset,
        leader_epoch: -1,
        metadata: times.encode(),
    };
    (TopicPartition::new(topic, partition), offset)
}
