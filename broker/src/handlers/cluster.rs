//! DescribeCluster and DescribeTopicPartitions: what tools show about brokers and partitions.

use std::collections::BTreeSet;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::describe_cluster_response::DescribeClusterBroker;
use flumen_protocol::message::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use flumen_protocol::message::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
};

use super::metadata::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use crate::cluster::controller::check_topic_name;
use crate::cluster::image::{ClusterImage, TopicImage};
use crate::dispatch::Context;
use crate::node::Node;

/// `endpoint_type` of brokers; 2 would be controllers, which have no listener of their own here.
const BROKERS: i8 = 1;

/// Answers DescribeCluster.
pub(crate) fn describe_cluster(
    node: &Node,
    context: &Context,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    if context.version >= 1 && request.endpoint_type != BROKERS {
        let code = if request.endpoint_type == 2 {
            ErrorCode::MismatchedEndpointType
        } else {
            ErrorCode::UnsupportedEndpointType
        };
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some("this listener belongs to a broker".to_owned()),
            ..Default::default()
        };
    }
    let endpoint = node.endpoint(context);
    let mut response = DescribeClusterResponse {
        cluster_id: node.cluster_id.clone(),
        controller_id: node.config.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: node.config.node_id,
            host: endpoint.host,
            port: i32::from(endpoint.port),
            rack: Some(node.config.broker_rack.clone()).filter(|rack| !rack.is_empty()),
            ..Default::default()
        }],
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

/// Answers DescribeTopicPartitions: topics by name, from the cursor on, at most so many partitions; the cursor of the answer says
/// where to go on.
pub(crate) fn describe_topic_partitions(
    node: &Node,
    _context: &Context,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = node.cluster.image();
    let mut names: BTreeSet<String> = request
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    if names.is_empty() {
        names = image.topics().map(|topic| topic.name.clone()).collect();
    }
    let (first, mut from) = match &request.cursor {
        Some(cursor) => (
            cursor.topic_name.as_str(),
            usize::try_from(cursor.partition_index).unwrap_or(0),
        ),
        None => ("", 0),
    };
    let partitions_max =
        usize::try_from(node.config.max_request_partition_size_limit).unwrap_or(usize::MAX);
    let limit = usize::try_from(request.response_partition_limit)
        .unwrap_or(0)
        .clamp(1, partitions_max);
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut room = limit;
    for name in names.range(first.to_owned()..) {
        let start = if name == first {
            std::mem::take(&mut from)
        } else {
            0
        };
        if room == 0 {
            let cursor = Cursor {
                topic_name: name.clone(),
                partition_index: 0,
                ..Default::default()
            };
            response.next_cursor = Some(cursor);
            break;
        }
        let Some(topic) = image.topic(name) else {
            // It takes a place too, or a request of nothing but these would have no bound.
            room -= 1;
            response.topics.push(unknown(name));
            continue;
        };
        let described = describe(&image, topic, start, room);
        let next = start + described.partitions.len();
        room -= described.partitions.len();
        response.topics.push(described);
        if next < topic.partitions.len() {
            let partition_index = i32::try_from(next).unwrap_or(i32::MAX);
            response.next_cursor = Some(Cursor {
                topic_name: name.clone(),
                partition_index,
                ..Default::default()
            });
            break;
        }
    }
    response
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match check_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name.to_owned()),
        ..Default::default()
    }
}

fn describe(
    image: &ClusterImage,
    topic: &TopicImage,
    start: usize,
    room: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = topic
        .partitions
        .iter()
        .skip(start)
        .take(room)
        .map(|partition| {
            let leader = image.broker(partition.leader).is_some();
            let error = if leader {
                ErrorCode::None
            } else {
                ErrorCode::LeaderNotAvailable
            };
            DescribeTopicPartitionsResponsePartition {
                error_code: error.code(),
                partition_index: partition.partition,
                leader_id: if leader { partition.leader } else { -1 },
                leader_epoch: partition.leader_epoch,
                replica_nodes: partition.replicas.clone(),
                isr_nodes: partition.isr.clone(),
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                ..Default::default()
            }
        });
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    }
}
