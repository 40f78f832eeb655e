//! OffsetDelete: committed offsets of topics that a group no longer reads (KIP-496).

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicPartition;
use flumen_protocol::message::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use flumen_protocol::message::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::dispatch::Context;
use crate::node::Node;

/// Answers OffsetDelete.
pub(crate) async fn offset_delete(
    node: &Arc<Node>,
    _context: &Context,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let asked = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|one| TopicPartition::new(topic.name.clone(), one.partition_index))
    });
    let exists = |partition: &TopicPartition| {
        let opened = node
            .partitions
            .opened(&partition.topic, partition.partition);
        opened.err() != Some(ErrorCode::UnknownTopicOrPartition)
    };
    let known: Vec<TopicPartition> = asked.filter(exists).collect();
    let groups = &node.coordinators.groups;
    let codes = match groups.delete_offsets(&request.group_id, &known).await {
        Ok(codes) => codes,
        Err(error) => {
            return OffsetDeleteResponse {
                error_code: error.code(),
                ..Default::default()
            };
        }
    };
    let codes: BTreeMap<TopicPartition, ErrorCode> = known.into_iter().zip(codes).collect();
    let code_of = |topic: &str, index: i32| {
        let code = codes.get(&TopicPartition::new(topic.to_owned(), index));
        code.copied().unwrap_or(ErrorCode::UnknownTopicOrPartition)
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|one| OffsetDeleteResponsePartition {
            partition_index: one.partition_index,
            error_code: code_of(&topic.name, one.partition_index).code(),
        });
        OffsetDeleteResponseTopic {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    OffsetDeleteResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}
