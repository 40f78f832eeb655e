//! What administrators change and look at: records, configurations, partitions, producers, transactions, directories, features.

use flumen_protocol::builder::BatchOptions;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::alter_configs_request as replace;
use flumen_protocol::message::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use flumen_protocol::message::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use flumen_protocol::message::delete_records_response::DeleteRecordsPartitionResult;
use flumen_protocol::message::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::message::describe_producers_request::TopicRequest;
use flumen_protocol::message::describe_quorum_request as quorum;
use flumen_protocol::message::elect_leaders_request::TopicPartitions;
use flumen_protocol::message::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use flumen_protocol::message::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use flumen_protocol::message::update_features_request::FeatureUpdateKey;
use flumen_protocol::message::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, DeleteRecordsRequest,
    DescribeClientQuotasRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeQuorumRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ListConfigResourcesRequest,
    ListTransactionsRequest, OffsetDeleteRequest, UpdateFeaturesRequest,
};

use crate::groups::{commit_request, committed, join_request};
use crate::support::{Wire, World, batch, batch_of, produce_request};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

async fn delete_before(client: &mut Wire, topic: &str, offset: i64) -> (i64, ErrorCode) {
    let mut results = Vec::new();
    for version in 0..=2 {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.to_owned(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: 0,
                    offset,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            timeout_ms: 1_000,
            ..Default::default()
        };
        let mut response = client.call(version, &request).await;
        let result: DeleteRecordsPartitionResult = response.topics.remove(0).partitions.remove(0);
        let code = ErrorCode::from_code(result.error_code);
        results.push((result.low_watermark, code));
    }
    assert!(results.iter().all(|result| *result == results[0]));
    results[0]
}

#[tokio::test]
async fn deleted_records_stay_deleted_and_offsets_go_on() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    for value in ["a", "b", "c"] {
        client.produce("t", 0, batch(&[value])).await;
    }
    assert_eq!(
        delete_before(&mut client, "t", 2).await,
        (2, ErrorCode::None)
    );
    // Not back.
    assert_eq!(
        delete_before(&mut client, "t", 1).await,
        (2, ErrorCode::None)
    );
    assert_eq!(client.values("t", 0, 2).await, ["c"]);
    let below = client.fetch("t", 0, 1).await;
    assert_eq!(below.error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(below.log_start_offset, 2);
    world.restart().await;
    let mut client = world.client().await;
    assert_eq!(
        client.fetch("t", 0, 0).await.error_code,
        ErrorCode::OffsetOutOfRange.code()
    );
    assert_eq!(
        delete_before(&mut client, "t", -1).await,
        (3, ErrorCode::None)
    );
    let produced = client.produce("t", 0, batch(&["d"])).await;
    assert_eq!((produced.base_offset, produced.log_start_offset), (3, 3));
}

#[tokio::test]
async fn deletion_of_records_is_refused_where_it_would_lose_what_is_not_old() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let compacted = [("cleanup.policy", "compact")];
    client.create_topic("keys", 1, &compacted).await.unwrap();
    commit_to_make_internal_topic(&mut client).await;
    for (topic, offset, code) in [
        ("t", 1, ErrorCode::OffsetOutOfRange),
        ("t", -2, ErrorCode::OffsetOutOfRange),
        ("keys", 0, ErrorCode::PolicyViolation),
        ("none", 0, ErrorCode::UnknownTopicOrPartition),
        ("__consumer_offsets", 0, ErrorCode::InvalidTopicException),
    ] {
        let refused = delete_before(&mut client, topic, offset).await;
        assert_eq!(refused, (-1, code), "{topic} {offset}");
    }
}

async fn commit_to_make_internal_topic(client: &mut Wire) {
    let response = client.call(8, &commit_request("", -1, 1)).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

fn change(topic: &str, changes: &[(&str, i8, Option<&str>)]) -> IncrementalAlterConfigsRequest {
    let configs = changes
        .iter()
        .map(|(name, operation, value)| AlterableConfig {
            name: (*name).to_owned(),
            config_operation: *operation,
            value: value.map(str::to_owned),
            ..Default::default()
        });
    IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.to_owned(),
            configs: configs.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

async fn alter(client: &mut Wire, request: &IncrementalAlterConfigsRequest) -> ErrorCode {
    let response = client.call(1, request).await;
    ErrorCode::from_code(response.responses[0].error_code)
}

async fn value_of(client: &mut Wire, topic: &str, key: &str) -> (String, i8) {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.to_owned(),
            configuration_keys: Some(vec![key.to_owned()]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut response = client.call(4, &request).await;
    let found = response.results.remove(0).configs.remove(0);
    (found.value.unwrap(), found.config_source)
}

#[tokio::test]
async fn a_changed_configuration_holds_at_once_and_after_a_restart() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let small = change("t", &[("max.message.bytes", SET, Some("100"))]);
    assert_eq!(alter(&mut client, &small).await, ErrorCode::None);
    let large = "x".repeat(200);
    let refused = client.produce("t", 0, batch(&[&large])).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge.code());
    world.restart().await;
    let mut client = world.client().await;
    assert_eq!(
        value_of(&mut client, "t", "max.message.bytes").await,
        ("100".to_owned(), 1)
    );
    let refused = client.produce("t", 0, batch(&[&large])).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge.code());
    let default = change("t", &[("max.message.bytes", DELETE, None)]);
    assert_eq!(alter(&mut client, &default).await, ErrorCode::None);
    assert_eq!(value_of(&mut client, "t", "max.message.bytes").await.1, 5);
    assert_eq!(client.produce("t", 0, batch(&[&large])).await.error_code, 0);
}

#[tokio::test]
async fn lists_are_added_to_and_taken_from() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let policy = |operation, value| change("t", &[("cleanup.policy", operation, Some(value))]);
    assert_eq!(
        alter(&mut client, &policy(APPEND, "compact")).await,
        ErrorCode::None
    );
    assert_eq!(
        value_of(&mut client, "t", "cleanup.policy").await.0,
        "delete,compact"
    );
    assert_eq!(
        alter(&mut client, &policy(SUBTRACT, "delete")).await,
        ErrorCode::None
    );
    assert_eq!(
        value_of(&mut client, "t", "cleanup.policy").await.0,
        "compact"
    );
    let wrong = change("t", &[("retention.ms", APPEND, Some("1"))]);
    assert_eq!(alter(&mut client, &wrong).await, ErrorCode::InvalidConfig);
}

#[tokio::test]
async fn a_wrong_change_is_refused_whole_and_named() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let fine = ("retention.ms", SET, Some("1000"));
    for (changes, code, named) in [
        (
            vec![fine, ("no.such.key", SET, Some("1"))],
            ErrorCode::InvalidConfig,
            "no.such.key",
        ),
        (
            vec![fine, ("segment.bytes", SET, Some("many"))],
            ErrorCode::InvalidConfig,
            "segment.bytes",
        ),
        (
            vec![fine, ("segment.bytes", SET, None)],
            ErrorCode::InvalidRequest,
            "segment.bytes",
        ),
        (vec![fine, fine], ErrorCode::InvalidRequest, "retention.ms"),
        (
            vec![fine, ("segment.bytes", 9, Some("1"))],
            ErrorCode::InvalidRequest,
            "segment.bytes",
        ),
    ] {
        let response = client.call(1, &change("t", &changes)).await;
        let refused = &response.responses[0];
        assert_eq!(
            ErrorCode::from_code(refused.error_code),
            code,
            "{changes:?}"
        );
        let message = refused.error_message.as_deref().unwrap();
        assert!(message.contains(named), "{message}");
        assert_eq!(value_of(&mut client, "t", "retention.ms").await.1, 5);
    }
    let unknown = alter(&mut client, &change("none", &[fine])).await;
    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition);
    let mut only_look = change("t", &[fine]);
    only_look.validate_only = true;
    assert_eq!(alter(&mut client, &only_look).await, ErrorCode::None);
    assert_eq!(value_of(&mut client, "t", "retention.ms").await.1, 5);
    let mut broker = change("t", &[("num.partitions", SET, Some("3"))]);
    broker.resources[0].resource_type = BROKER;
    broker.resources[0].resource_name = String::new();
    let response = client.call(1, &broker).await;
    let message = response.responses[0].error_message.clone().unwrap();
    assert!(message.contains("num.partitions"), "{message}");
}

#[tokio::test]
async fn the_older_alter_configs_replaces_everything_that_was_set() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let first = change("t", &[("retention.ms", SET, Some("1000"))]);
    assert_eq!(alter(&mut client, &first).await, ErrorCode::None);
    for version in 0..=2 {
        let request = AlterConfigsRequest {
            resources: vec![replace::AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "t".to_owned(),
                configs: vec![replace::AlterableConfig {
                    name: "segment.ms".to_owned(),
                    value: Some((60_000 + i64::from(version)).to_string()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = client.call(version, &request).await;
        assert_eq!(response.responses[0].error_code, 0);
    }
    assert_eq!(value_of(&mut client, "t", "retention.ms").await.1, 5);
    assert_eq!(
        value_of(&mut client, "t", "segment.ms").await,
        ("60002".to_owned(), 1)
    );
}

async fn grow(
    client: &mut Wire,
    topic: &str,
    count: i32,
    assigned: Option<&[i32]>,
) -> (ErrorCode, String) {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: topic.to_owned(),
            count,
            assignments: assigned.map(|brokers| {
                vec![CreatePartitionsAssignment {
                    broker_ids: brokers.to_vec(),
                    ..Default::default()
                }]
            }),
            ..Default::default()
        }],
        timeout_ms: 1_000,
        ..Default::default()
    };
    let mut response = client.call(3, &request).await;
    let result = response.results.remove(0);
    (
        ErrorCode::from_code(result.error_code),
        result.error_message.unwrap_or_default(),
    )
}

#[tokio::test]
async fn new_partitions_take_records_at_once_and_old_ones_keep_theirs() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["old"])).await;
    assert_eq!(grow(&mut client, "t", 3, None).await.0, ErrorCode::None);
    assert_eq!(client.produce("t", 2, batch(&["new"])).await.error_code, 0);
    assert_eq!(client.values("t", 0, 0).await, ["old"]);
    world.restart().await;
    let mut client = world.client().await;
    assert_eq!(client.values("t", 2, 0).await, ["new"]);
    for (topic, count, assigned, code) in [
        ("t", 3, None, ErrorCode::InvalidPartitions),
        ("t", 2, None, ErrorCode::InvalidPartitions),
        ("t", -1, None, ErrorCode::InvalidPartitions),
        ("none", 3, None, ErrorCode::UnknownTopicOrPartition),
        ("t", 5, Some(&[1][..]), ErrorCode::InvalidReplicaAssignment),
        ("t", 4, Some(&[77][..]), ErrorCode::InvalidReplicaAssignment),
    ] {
        let (refused, message) = grow(&mut client, topic, count, assigned).await;
        assert_eq!(refused, code, "{topic} {count}: {message}");
        assert!(!message.is_empty());
    }
}

#[tokio::test]
async fn offsets_are_deleted_where_nobody_is_subscribed() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    commit_to_make_internal_topic(&mut client).await;
    let request = |topic: &str| OffsetDeleteRequest {
        group_id: "g".to_owned(),
        topics: vec![OffsetDeleteRequestTopic {
            name: topic.to_owned(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let unknown = client.call(0, &request("none")).await;
    assert_eq!(
        unknown.topics[0].partitions[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    assert_eq!(committed(&mut client, false).await, Ok(1));
    let deleted = client.call(0, &request("t")).await;
    assert_eq!(deleted.topics[0].partitions[0].error_code, 0);
    assert_eq!(committed(&mut client, false).await, Ok(-1));
    world.restart().await;
    let mut client = world.client().await;
    assert_eq!(committed(&mut client, false).await, Ok(-1));
    let missing = client.call(0, &request("t")).await;
    assert_eq!(missing.error_code, ErrorCode::GroupIdNotFound.code());
    let nameless = OffsetDeleteRequest {
        group_id: String::new(),
        ..request("t")
    };
    let nameless = client.call(0, &nameless).await;
    assert_eq!(nameless.error_code, ErrorCode::InvalidGroupId.code());
    // A member whose subscription cannot be read is no reason to refuse; one of another kind is.
    let mut other = join_request("");
    other.protocol_type = "connect".to_owned();
    let joined = client.call(3, &other).await;
    assert_eq!(joined.error_code, 0);
    let refused = client.call(0, &request("t")).await;
    assert_eq!(refused.error_code, ErrorCode::NonEmptyGroup.code());
}

#[tokio::test]
async fn an_open_transaction_is_found_by_id_by_state_and_by_its_partition() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let init = InitProducerIdRequest {
        transactional_id: Some("payments-1".to_owned()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let producer = client.call(5, &init).await;
    let options = BatchOptions {
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
        base_sequence: 0,
        transactional: true,
        ..BatchOptions::default()
    };
    let mut produce = produce_request("t", 0, -1, batch_of(options, &["a", "b"]));
    produce.transactional_id = Some("payments-1".to_owned());
    let produced = client.call(12, &produce).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);

    let list = |states: &[&str], pattern: Option<&str>, duration| ListTransactionsRequest {
        state_filters: states.iter().map(|state| (*state).to_owned()).collect(),
        transactional_id_pattern: pattern.map(str::to_owned),
        duration_filter: duration,
        ..Default::default()
    };
    for (states, pattern, duration, found) in [
        (&[][..], None, -1, 1),
        (&["Ongoing"], None, -1, 1),
        (&["Empty"], None, -1, 0),
        (&[], Some("pay.*"), -1, 1),
        (&[], Some("pay"), -1, 0),
        (&[], None, 3_600_000, 0),
    ] {
        let response = client.call(2, &list(states, pattern, duration)).await;
        assert_eq!(response.transaction_states.len(), found, "{states:?}");
    }
    let response = client.call(2, &list(&["Nonsense"], None, -1)).await;
    assert_eq!(response.unknown_state_filters, ["Nonsense"]);
    let response = client.call(2, &list(&[], Some("("), -1)).await;
    let bad_pattern = ErrorCode::InvalidRegularExpression.code();
    assert_eq!(response.error_code, bad_pattern);

    let request = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: "t".to_owned(),
            partition_indexes: vec![0, 0, 7],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut response = client.call(0, &request).await;
    let partitions = response.topics.remove(0).partitions;
    assert_eq!(partitions.len(), 2, "one that is named twice is told once");
    let active = &partitions[0].active_producers[0];
    assert_eq!(
        (
            active.producer_id,
            active.last_sequence,
            active.current_txn_start_offset
        ),
        (producer.producer_id, 1, 0)
    );
    assert_eq!(
        partitions[1].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
}

#[tokio::test]
async fn directories_are_described_with_their_partitions_and_their_space() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 2).await;
    client.produce("t", 1, batch(&["a"])).await;
    for version in 1..=5 {
        let all = DescribeLogDirsRequest {
            topics: None,
            ..Default::default()
        };
        let response = client.call(version, &all).await;
        let dir = &response.results[0];
        assert_eq!(dir.log_dir, world.dir.path().display().to_string());
        let topic = dir.topics.iter().find(|topic| topic.name == "t").unwrap();
        let sizes: Vec<bool> = topic
            .partitions
            .iter()
            .map(|partition| partition.partition_size > 0)
            .collect();
        assert_eq!(sizes, [false, true]);
        assert_eq!(dir.total_bytes > dir.usable_bytes, version >= 4);
    }
    let none = DescribeLogDirsRequest {
        topics: Some(vec![]),
        ..Default::default()
    };
    assert_eq!(client.call(4, &none).await.results[0].topics, []);
}

#[tokio::test]
async fn one_node_says_the_truth_about_leaders_quorum_quotas_and_resources() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let elect = |partition| ElectLeadersRequest {
        topic_partitions: Some(vec![TopicPartitions {
            topic: "t".to_owned(),
            partitions: vec![partition],
            ..Default::default()
        }]),
        ..Default::default()
    };
    for (partition, code) in [
        (0, ErrorCode::ElectionNotNeeded),
        (5, ErrorCode::UnknownTopicOrPartition),
    ] {
        let response = client.call(2, &elect(partition)).await;
        let result = &response.replica_election_results[0].partition_result[0];
        assert_eq!(result.error_code, code.code());
    }
    let request = DescribeQuorumRequest {
        topics: vec![quorum::TopicData {
            topic_name: "__cluster_metadata".to_owned(),
            partitions: vec![quorum::PartitionData::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = client.call(2, &request).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.current_voters[0].replica_id, partition.leader_id);
    assert!(partition.high_watermark > 0);
    let quotas = client
        .call(1, &DescribeClientQuotasRequest::default())
        .await;
    assert_eq!((quotas.error_code, quotas.entries), (0, Some(vec![])));
    let response = client.call(1, &ListConfigResourcesRequest::default()).await;
    let listed: Vec<_> = response
        .config_resources
        .iter()
        .map(|resource| (resource.resource_type, resource.resource_name.as_str()))
        .collect();
    let node = partition.leader_id.to_string();
    assert_eq!(listed, [(TOPIC, "t"), (BROKER, node.as_str())]);
}

#[tokio::test]
async fn features_change_within_their_range_and_only_up_unless_asked() {
    let mut world = World::start(&[]).await;
    let mut client = world.client().await;
    let update = |feature: &str, level, upgrade_type| UpdateFeaturesRequest {
        feature_updates: vec![FeatureUpdateKey {
            feature: feature.to_owned(),
            max_version_level: level,
            upgrade_type,
            ..Default::default()
        }],
        ..Default::default()
    };
    for (feature, level, kind, code) in [
        ("no.such", 1, 1, ErrorCode::InvalidUpdateVersion),
        ("transaction.version", 9, 1, ErrorCode::InvalidUpdateVersion),
        ("transaction.version", 1, 1, ErrorCode::InvalidUpdateVersion),
        ("transaction.version", 1, 9, ErrorCode::InvalidRequest),
        ("transaction.version", 1, 2, ErrorCode::None),
    ] {
        let response = client.call(2, &update(feature, level, kind)).await;
        assert_eq!(ErrorCode::from_code(response.error_code), code);
    }
    world.restart().await;
    let mut client = world.client().await;
    let request = ApiVersionsRequest {
        client_software_name: "it".to_owned(),
        client_software_version: "1".to_owned(),
        ..Default::default()
    };
    let told = client.call(4, &request).await.finalized_features;
    let level = told.iter().find(|f| f.name == "transaction.version");
    assert_eq!(level.unwrap().max_version_level, 1);
}
