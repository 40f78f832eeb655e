//! CreatePartitions and ElectLeaders: what changes about the partitions of a topic that exists.

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::create_partitions_request::CreatePartitionsTopic;
use flumen_protocol::message::create_partitions_response::CreatePartitionsTopicResult;
use flumen_protocol::message::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use flumen_protocol::message::{
    CreatePartitionsRequest, CreatePartitionsResponse, ElectLeadersRequest, ElectLeadersResponse,
};

use crate::cluster::controller::{CreatePartitions, MorePartitions, Refused};
use crate::dispatch::Context;
use crate::node::Node;

/// Kinds of election, KIP-460: the preferred replica, or anybody who lives.
const ELECTIONS: std::ops::RangeInclusive<i8> = 0..=1;

/// Answers CreatePartitions, one result per topic.
pub(crate) async fn create_partitions(
    node: &Arc<Node>,
    _context: &Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut named: BTreeMap<String, Vec<CreatePartitionsTopic>> = BTreeMap::new();
    for topic in request.topics {
        named.entry(topic.name.clone()).or_default().push(topic);
    }
    let mut results: BTreeMap<String, Result<(), Refused>> = BTreeMap::new();
    let mut topics = Vec::new();
    for (name, mut asked) in named {
        let one = asked.pop().filter(|_| asked.is_empty());
        match one {
            Some(topic) => topics.push(MorePartitions {
                topic: name,
                count: topic.count,
                assigned: topic
                    .assignments
                    .map(|all| all.into_iter().map(|one| one.broker_ids).collect()),
            }),
            None => {
                let twice = Refused::new(ErrorCode::InvalidRequest, "duplicate topic name");
                results.insert(name, Err(twice));
            }
        }
    }
    let names: Vec<String> = topics.iter().map(|more| more.topic.clone()).collect();
    let command = CreatePartitions { topics };
    let replies = if request.validate_only {
        node.cluster.dry_run(&command)
    } else {
        node.cluster.propose(command).await
    };
    let replies = replies.unwrap_or_else(|refused| vec![Err(refused); names.len()]);
    results.extend(names.into_iter().zip(replies));
    let results = results.into_iter().map(|(name, result)| {
        let (code, error_message) = match result {
            Ok(()) => (ErrorCode::None, None),
            Err(refused) => (refused.code, Some(refused.message)),
        };
        CreatePartitionsTopicResult {
            name,
            error_code: code.code(),
            error_message,
            ..Default::default()
        }
    });
    CreatePartitionsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

/// Answers ElectLeaders: with one replica each, every partition has the leader it should have.
pub(crate) fn elect_leaders(
    node: &Node,
    context: &Context,
    request: &ElectLeadersRequest,
) -> ElectLeadersResponse {
    if context.version >= 1 && !ELECTIONS.contains(&request.election_type) {
        return ElectLeadersResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..Default::default()
        };
    }
    let image = node.cluster.image();
    // Whoever asks for all is told of those that changed.
    let asked = request.topic_partitions.as_deref().unwrap_or_default();
    let results = asked.iter().map(|topic| {
        let known = image.topic(&topic.topic);
        let result = |partition: &i32| {
            let exists = known.is_some_and(|known| {
                usize::try_from(*partition).is_ok_and(|i| i < known.partitions.len())
            });
            let code = if exists {
                ErrorCode::ElectionNotNeeded
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            PartitionResult {
                partition_id: *partition,
                error_code: code.code(),
                error_message: Some(code.message().to_owned()),
                ..Default::default()
            }
        };
        ReplicaElectionResult {
            topic: topic.topic.clone(),
            partition_result: topic.partitions.iter().map(result).collect(),
            ..Default::default()
        }
    });
    ElectLeadersResponse {
        replica_election_results: results.collect(),
        ..Default::default()
    }
}
