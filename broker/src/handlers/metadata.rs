//! Metadata: brokers, topics, leaders; creates a topic that does not exist where that is allowed.

use std::collections::BTreeSet;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::metadata_request::MetadataRequestTopic;
use flumen_protocol::message::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use flumen_protocol::message::{MetadataRequest, MetadataResponse};

use crate::cluster::controller::check_topic_name;
use crate::cluster::image::{ClusterImage, TopicImage};
use crate::dispatch::Context;
use crate::node::Node;

/// Everything that may be done with a topic where no authoriser restricts it: read, write, create, delete, alter, describe, describe
/// and alter configs, as bits by Kafka's `AclOperation` codes.
pub(crate) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The same for the cluster: create, alter, describe, cluster action, describe and alter configs, idempotent write.
pub(crate) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Answers Metadata.
pub(crate) async fn metadata(
    node: &Arc<Node>,
    context: &Context,
    request: MetadataRequest,
) -> MetadataResponse {
    create_missing(node, context, &request).await;
    let image = node.cluster.image();
    let listed = requested(context, &request);
    let mut topics: Vec<MetadataResponseTopic> = match listed {
        None => image
            .topics()
            .map(|topic| describe(&image, topic))
            .collect(),
        // A topic named twice is described once: an answer must not outgrow the cluster because its request repeats itself.
        Some(topics) => {
            let mut seen = BTreeSet::new();
            topics
                .iter()
                .filter(|topic| seen.insert((&topic.name, topic.topic_id)))
                .map(|topic| look_up(&image, context, topic))
                .collect()
        }
    };
    if request.include_topic_authorized_operations {
        topics
            .iter_mut()
            .for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    let mut response = MetadataResponse {
        brokers: brokers(node, context),
        cluster_id: Some(node.cluster_id.clone()),
        controller_id: node.config.node_id,
        topics,
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

/// The brokers that have a listener like the one the request came in by.
fn brokers(node: &Node, context: &Context) -> Vec<MetadataResponseBroker> {
    let endpoint = node.endpoint(context);
    vec![MetadataResponseBroker {
        node_id: node.config.node_id,
        host: endpoint.host,
        port: i32::from(endpoint.port),
        rack: Some(node.config.broker_rack.clone()).filter(|rack| !rack.is_empty()),
        ..Default::default()
    }]
}

/// The topics asked for; `None` means all. Version 0 has no null and says "all" with an empty list.
fn requested<'a>(
    context: &Context,
    request: &'a MetadataRequest,
) -> Option<&'a [MetadataRequestTopic]> {
    match &request.topics {
        Some(topics) if context.version == 0 && topics.is_empty() => None,
        Some(topics) => Some(topics),
        None => None,
    }
}

async fn create_missing(node: &Arc<Node>, context: &Context, request: &MetadataRequest) {
    if !request.allow_auto_topic_creation || !node.config.auto_create_topics_enable {
        return;
    }
    let image = node.cluster.image();
    let missing: BTreeSet<&str> = requested(context, request)
        .unwrap_or_default()
        .iter()
        .filter_map(asked_name)
        .filter(|name| check_topic_name(name).is_ok() && image.topic(name).is_none())
        .collect();
    if missing.is_empty() {
        return;
    }
    let names: Vec<String> = missing.into_iter().map(str::to_owned).collect();
    // A topic that could not be created is reported as unknown, and the reason is in the log.
    node.cluster.auto_create(&names).await;
}

/// The name that counts: where an id is given, it alone does. Java's AdminClient leaves an empty name beside it.
fn asked_name(asked: &MetadataRequestTopic) -> Option<&str> {
    asked.name.as_deref().filter(|_| asked.topic_id.is_nil())
}

fn look_up(
    image: &ClusterImage,
    context: &Context,
    asked: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let name = asked_name(asked);
    let found = match name {
        Some(name) => image.topic(name),
        None => image.topic_by_id(asked.topic_id),
    };
    if let Some(topic) = found {
        return describe(image, topic);
    }
    let error = match name {
        Some(name) if check_topic_name(name).is_err() => ErrorCode::InvalidTopicException,
        Some(_) => ErrorCode::UnknownTopicOrPartition,
        None if context.version >= 12 => ErrorCode::UnknownTopicId,
        None => ErrorCode::InvalidRequest,
    };
    MetadataResponseTopic {
        error_code: error.code(),
        // Below version 12 the name cannot be null.
        name: match name {
            None if context.version < 12 => Some(String::new()),
            name => name.map(str::to_owned),
        },
        topic_id: asked.topic_id,
        ..Default::default()
    }
}

fn describe(image: &ClusterImage, topic: &TopicImage) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        let leader = image.broker(partition.leader).is_some();
        let error = if leader {
            ErrorCode::None
        } else {
            ErrorCode::LeaderNotAvailable
        };
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index: partition.partition,
            leader_id: if leader { partition.leader } else { -1 },
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.clone(),
            isr_nodes: partition.isr.clone(),
            offline_replicas: partition
                .replicas
                .iter()
                .copied()
                .filter(|id| image.broker(*id).is_none())
                .collect(),
            ..Default::default()
        }
    });
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
