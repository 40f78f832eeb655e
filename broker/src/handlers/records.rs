//! DeleteRecords and DescribeProducers: what tools do to, and see of, the log of one partition.

use std::collections::BTreeSet;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use flumen_protocol::message::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use flumen_protocol::message::{
    DeleteRecordsRequest, DeleteRecordsResponse, DescribeProducersRequest,
    DescribeProducersResponse,
};

use crate::cluster::image::is_internal;
use crate::dispatch::Context;
use crate::node::Node;

/// "Up to the high watermark."
const HIGH_WATERMARK: i64 = -1;
/// What a partition answers that deleted nothing.
const NO_WATERMARK: i64 = -1;

/// Answers DeleteRecords: the start of the log moves up, durably; its files go with the next retention pass (KIP-107).
pub(crate) async fn delete_records(
    node: &Arc<Node>,
    _context: &Context,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let (index, offset) = (asked.partition_index, asked.offset);
            let deleted = delete_in_partition(node, &topic.name, index, offset).await;
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: deleted.unwrap_or(NO_WATERMARK),
                error_code: deleted.err().unwrap_or(ErrorCode::None).code(),
                ..Default::default()
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    DeleteRecordsResponse {
        topics,
        ..Default::default()
    }
}

/// The new start of the log.
async fn delete_in_partition(
    node: &Arc<Node>,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<i64, ErrorCode> {
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = node.partitions.opened(topic, partition)?;
    let policy = partition.log().config().cleanup_policy;
    if policy.compact && !policy.delete {
        // What such a topic holds is the newest of each key: to delete by age is to lose keys.
        return Err(ErrorCode::PolicyViolation);
    }
    let high_watermark = partition.high_watermark();
    let offset = if offset == HIGH_WATERMARK {
        high_watermark
    } else {
        offset
    };
    if !(0..=high_watermark).contains(&offset) {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    node.replicas.delete_records(&partition, offset).await
}

/// Answers DescribeProducers: who has written to a partition, and whose transaction is open there (KIP-664).
pub(crate) fn describe_producers(
    node: &Node,
    _context: &Context,
    request: &DescribeProducersRequest,
) -> DescribeProducersResponse {
    // A partition named twice is described once: an answer must not outgrow the broker because its request repeats itself.
    let mut seen = BTreeSet::new();
    let topics = request.topics.iter().map(|topic| {
        let indexes = topic.partition_indexes.iter();
        let partitions = indexes
            .filter(|index| seen.insert((&topic.name, **index)))
            .map(|index| producers_of(node, &topic.name, *index));
        TopicResponse {
            name: topic.name.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    DescribeProducersResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn producers_of(node: &Node, topic: &str, partition_index: i32) -> PartitionResponse {
    let partition = match node.partitions.opened(topic, partition_index) {
        Ok(partition) => partition,
        Err(error) => {
            return PartitionResponse {
                partition_index,
                error_code: error.code(),
                error_message: Some(error.message().to_owned()),
                ..Default::default()
            };
        }
    };
    let producers = partition.log().active_producers().into_iter();
    let active_producers = producers.map(|producer| ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.txn_first_offset.unwrap_or(-1),
        ..Default::default()
    });
    PartitionResponse {
        partition_index,
        active_producers: active_producers.collect(),
        ..Default::default()
    }
}
