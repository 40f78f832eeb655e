//! OffsetForLeaderEpoch: where the log of an epoch ends, so that a consumer or follower notices a truncation (KIP-320).

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use flumen_protocol::message::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use flumen_protocol::message::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::dispatch::Context;
use crate::node::Node;

/// Answers OffsetForLeaderEpoch.
pub(crate) fn offset_for_leader_epoch(
    node: &Node,
    _context: &Context,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|asked| end_offset(node, &topic.topic, asked))
                .collect(),
            ..Default::default()
        });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn end_offset(node: &Node, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let undefined = |error: ErrorCode| EpochEndOffset {
        error_code: error.code(),
        partition: asked.partition,
        leader_epoch: -1,
        end_offset: -1,
        ..Default::default()
    };
    let partition = match node.partitions.opened(topic, asked.partition) {
        Ok(partition) => partition,
        Err(error) => return undefined(error),
    };
    if let Err(error) = partition.check_epoch(asked.current_leader_epoch) {
        return undefined(error);
    }
    match partition.end_offset_for_epoch(asked.leader_epoch) {
        Some((leader_epoch, end_offset)) => EpochEndOffset {
            leader_epoch,
            end_offset,
            ..undefined(ErrorCode::None)
        },
        None => undefined(ErrorCode::None),
    }
}
