//! UpdateFeatures, DescribeQuorum, DescribeClientQuotas: what tools ask about the cluster as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::describe_quorum_response::{
    Listener, Node as QuorumNode, PartitionData, ReplicaState, TopicData,
};
use flumen_protocol::message::update_features_request::FeatureUpdateKey;
use flumen_protocol::message::update_features_response::UpdatableFeatureResult;
use flumen_protocol::message::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse, DescribeQuorumRequest,
    DescribeQuorumResponse, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::api_versions::SUPPORTED_FEATURES;
use crate::cluster::controller::{METADATA_TOPIC, Refused, SetFeatures};
use crate::dispatch::Context;
use crate::node::Node;

/// Kinds of change: only up; down if nothing is lost; down in any case.
const UPGRADE: i8 = 1;
const DOWNGRADES: std::ops::RangeInclusive<i8> = 2..=3;
/// First version that says only whether all went well.
const ONE_RESULT: i16 = 2;

/// Answers UpdateFeatures: all of a request, or nothing of it (KIP-584, KIP-1022).
pub(crate) async fn update_features(
    node: &Arc<Node>,
    context: &Context,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let mut changes: BTreeMap<&str, Result<i16, Refused>> = BTreeMap::new();
    for update in &request.feature_updates {
        let checked = check_update(node, context, update);
        let twice = changes.contains_key(update.feature.as_str());
        let checked = if twice {
            let message = format!("feature {} is named twice", update.feature);
            Err(Refused::new(ErrorCode::InvalidRequest, message))
        } else {
            checked
        };
        changes.insert(&update.feature, checked);
    }
    let refused = changes
        .values()
        .find_map(|change| change.as_ref().err().cloned());
    let outcome = match refused {
        Some(refused) => Err(refused),
        None if request.validate_only => Ok(()),
        None => {
            let levels = changes
                .iter()
                .filter_map(|(name, level)| Some(((*name).to_owned(), *level.as_ref().ok()?)));
            let command = SetFeatures(levels.collect());
            node.cluster.propose(command).await
        }
    };
    let (error_code, error_message) = match outcome {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refused) => (refused.code.code(), Some(refused.message)),
    };
    let mut response = UpdateFeaturesResponse::default();
    if context.version >= ONE_RESULT {
        (response.error_code, response.error_message) = (error_code, error_message);
        return response;
    }
    let result = |name: &&str| UpdatableFeatureResult {
        feature: (*name).to_owned(),
        error_code,
        error_message: error_message.clone(),
        ..Default::default()
    };
    response.results = changes.keys().map(result).collect();
    response
}

/// The level, if the feature may have it.
fn check_update(node: &Node, context: &Context, update: &FeatureUpdateKey) -> Result<i16, Refused> {
    let refuse = |message: String| Err(Refused::new(ErrorCode::InvalidUpdateVersion, message));
    let (name, level) = (&update.feature, update.max_version_level);
    let supported = SUPPORTED_FEATURES.iter().find(|(known, ..)| known == name);
    let Some((_, min, max)) = supported else {
        return refuse(format!("this broker does not know the feature {name}"));
    };
    if !(*min..=*max).contains(&level) {
        return refuse(format!(
            "feature {name} can have the levels {min} to {max}, not {level}"
        ));
    }
    let now = node.cluster.image().feature(name);
    let may_go_down = match context.version {
        0 => update.allow_downgrade,
        _ => DOWNGRADES.contains(&update.upgrade_type),
    };
    if context.version >= 1 && update.upgrade_type != UPGRADE && !may_go_down {
        let message = format!("unknown kind of update {}", update.upgrade_type);
        return Err(Refused::new(ErrorCode::InvalidRequest, message));
    }
    if level < now && !may_go_down {
        return refuse(format!(
            "feature {name} is at {now}: going down to {level} must be asked for as a downgrade"
        ));
    }
    Ok(level)
}

/// Answers DescribeQuorum: the log of cluster metadata has one voter, this broker (KIP-595, KIP-836, KIP-853).
pub(crate) fn describe_quorum(
    node: &Node,
    context: &Context,
    request: &DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let end = node.replicas.metadata_end();
    let topics = request.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|asked| {
                if topic.topic_name != METADATA_TOPIC || asked.partition_index != 0 {
                    return PartitionData {
                        partition_index: asked.partition_index,
                        error_code: ErrorCode::UnknownTopicOrPartition.code(),
                        error_message: Some("only the log of cluster metadata has a quorum".into()),
                        ..Default::default()
                    };
                }
                PartitionData {
                    partition_index: 0,
                    leader_id: node.config.node_id,
                    high_watermark: end,
                    current_voters: vec![ReplicaState {
                        replica_id: node.config.node_id,
                        log_end_offset: end,
                        last_caught_up_timestamp: node.drivers.clock.wall_ms(),
                        ..Default::default()
                    }],
                    ..Default::default()
                }
            })
            .collect(),
        ..Default::default()
    });
    let mut response = DescribeQuorumResponse {
        topics: topics.collect(),
        ..Default::default()
    };
    if context.version >= 2 {
        let endpoint = node.endpoint(context);
        response.nodes = vec![QuorumNode {
            node_id: node.config.node_id,
            listeners: vec![Listener {
                name: "PLAINTEXT".to_owned(),
                host: endpoint.host,
                port: endpoint.port,
                ..Default::default()
            }],
            ..Default::default()
        }];
    }
    response
}

/// Answers DescribeClientQuotas: nobody is limited, for no quota can be set.
pub(crate) fn describe_client_quotas(
    _node: &Node,
    _context: &Context,
    _request: &DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse {
        entries: Some(Vec::new()),
        ..Default::default()
    }
}
