//! What one request may ask for: entries, ids, objects described, things named twice. Each refusal says what is too much.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::message::describe_topic_partitions_request::TopicRequest;
use flumen_protocol::message::find_coordinator_response::Coordinator;
use flumen_protocol::message::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::message::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::message::metadata_request::MetadataRequestTopic;
use flumen_protocol::message::offset_fetch_request::OffsetFetchRequestGroup;
use flumen_protocol::message::{
    AddOffsetsToTxnRequest, DeleteGroupsRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeTopicPartitionsRequest, DescribeTransactionsRequest, FetchRequest,
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};

use crate::support::{Wire, World, fetch_request};

fn topics(count: usize) -> MetadataRequest {
    let topic = |i| MetadataRequestTopic {
        name: Some(format!("t{i}")),
        ..Default::default()
    };
    MetadataRequest {
        topics: Some((0..count).map(topic).collect()),
        allow_auto_topic_creation: false,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_request_with_too_many_entries_closes_its_connection() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let response = client.call(9, &topics(10_000)).await;
    assert_eq!(response.topics.len(), 10_000);
    client.send(9, &topics(10_001)).await;
    assert_eq!(client.next_frame().await, None);

    let world = World::start(&[("flumen.request.max.entries", "3")]).await;
    let mut client = world.client().await;
    assert_eq!(client.call(9, &topics(3)).await.topics.len(), 3);
    client.send(9, &topics(4)).await;
    assert_eq!(client.next_frame().await, None);
}

#[tokio::test]
async fn a_client_id_that_is_too_long_closes_its_connection() {
    let world = World::start(&[("flumen.id.max.bytes", "2")]).await;
    let mut client = world.client().await;
    client.call(9, &topics(1)).await;
    let world = World::start(&[("flumen.id.max.bytes", "1")]).await;
    let mut client = world.client().await;
    client.send(9, &topics(1)).await;
    assert_eq!(client.next_frame().await, None);
}

/// What each API says to a group id.
async fn answers(client: &mut Wire, group_id: &str) -> Vec<i16> {
    let group_id = group_id.to_owned();
    let join = JoinGroupRequest {
        group_id: group_id.clone(),
        session_timeout_ms: 1,
        ..Default::default()
    };
    let sync = SyncGroupRequest {
        group_id: group_id.clone(),
        ..Default::default()
    };
    let heartbeat = HeartbeatRequest {
        group_id: group_id.clone(),
        ..Default::default()
    };
    let leave = LeaveGroupRequest {
        group_id: group_id.clone(),
        ..Default::default()
    };
    let add_offsets = AddOffsetsToTxnRequest {
        transactional_id: "x".to_owned(),
        group_id: group_id.clone(),
        ..Default::default()
    };
    let find = FindCoordinatorRequest {
        coordinator_keys: vec![group_id],
        ..Default::default()
    };
    vec![
        client.call(5, &join).await.error_code,
        client.call(3, &sync).await.error_code,
        client.call(3, &heartbeat).await.error_code,
        client.call(2, &leave).await.error_code,
        client.call(3, &add_offsets).await.error_code,
        client.call(4, &find).await.coordinators[0].error_code,
    ]
}

#[tokio::test]
async fn a_group_id_that_is_too_long_is_invalid_everywhere() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let invalid = ErrorCode::InvalidGroupId.code();
    let fine = answers(&mut client, &"g".repeat(256)).await;
    assert!(fine.iter().all(|code| *code != invalid), "{fine:?}");
    let long = answers(&mut client, &"g".repeat(257)).await;
    assert!(long.iter().all(|code| *code == invalid), "{long:?}");
}

#[tokio::test]
async fn a_commit_for_a_group_id_that_is_too_long_is_refused_offset_by_offset() {
    use flumen_protocol::message::offset_commit_request::{
        OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let commit = |group_id: String| OffsetCommitRequest {
        group_id,
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![OffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    for (length, expected) in [(256, ErrorCode::None), (257, ErrorCode::InvalidGroupId)] {
        let response = client.call(8, &commit("g".repeat(length))).await;
        let code = response.topics[0].partitions[0].error_code;
        assert_eq!(code, expected.code(), "{length}");
    }
}

#[tokio::test]
async fn a_member_whose_protocols_fit_no_record_is_refused() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let join = |bytes: usize| JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: vec![0; bytes].into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let refused = client.call(5, &join((1 << 20) - 4)).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
    let told_its_id = client.call(5, &join((1 << 20) - 5)).await;
    assert_eq!(told_its_id.error_code, ErrorCode::MemberIdRequired.code());
}

#[tokio::test]
async fn a_describe_request_names_so_many_objects_and_no_more() {
    let world = World::start(&[("max.request.partition.size.limit", "2")]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let names = |count: usize| (0..count).map(|i| format!("n{i}"));
    let invalid = ErrorCode::InvalidRequest.code();

    let groups = DescribeGroupsRequest {
        groups: names(3).collect(),
        ..Default::default()
    };
    let described = client.call(6, &groups).await.groups;
    assert_eq!(described.len(), 3);
    assert_eq!(described[0].error_code, invalid);
    assert_eq!(
        described[0].error_message.as_deref(),
        Some(
            "3 groups in one request, but at most 2 are described (max.request.partition.size.limit)"
        )
    );

    let transactions = DescribeTransactionsRequest {
        transactional_ids: names(3).collect(),
        ..Default::default()
    };
    let described = client.call(0, &transactions).await.transaction_states;
    assert!(described.iter().all(|state| state.error_code == invalid));

    let configs = |count| DescribeConfigsRequest {
        resources: names(count)
            .map(|resource_name| DescribeConfigsResource {
                resource_type: 2,
                resource_name,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let described = client.call(4, &configs(3)).await.results;
    assert!(described.iter().all(|result| result.error_code == invalid));
    let described = client.call(4, &configs(2)).await.results;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert!(described.iter().all(|result| result.error_code == unknown));
}

#[tokio::test]
async fn topics_that_do_not_exist_fill_an_answer_too() {
    let world = World::start(&[("max.request.partition.size.limit", "2")]).await;
    let mut client = world.client_with_topic("n3", 1).await;
    let mut request = DescribeTopicPartitionsRequest {
        topics: (0..5)
            .map(|i| TopicRequest {
                name: format!("n{i}"),
                ..Default::default()
            })
            .collect(),
        response_partition_limit: 100,
        ..Default::default()
    };
    let mut found = Vec::new();
    loop {
        let response = client.call(0, &request).await;
        assert!(response.topics.len() <= 2, "{response:?}");
        found.extend(response.topics.into_iter().filter_map(|topic| topic.name));
        let Some(next) = response.next_cursor else {
            break;
        };
        request.cursor = Some(
            flumen_protocol::message::describe_topic_partitions_request::Cursor {
                topic_name: next.topic_name,
                partition_index: next.partition_index,
                ..Default::default()
            },
        );
    }
    assert_eq!(found, ["n0", "n1", "n2", "n3", "n4"]);
}

#[tokio::test]
async fn a_name_of_the_greatest_length_is_refused_and_not_repeated_in_full() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let name = "n".repeat(32_767);
    let refused = client.create_topic(&name, 1, &[]).await;
    assert_eq!(refused, Err(ErrorCode::InvalidTopicException));
    let refused = client.create_topic("t", 1, &[(&name, &name)]).await;
    assert_eq!(refused, Err(ErrorCode::InvalidConfig));
    for resource_type in [2, 4, 8] {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: name.clone(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let described = client.call(4, &request).await.results.remove(0);
        assert_ne!(described.error_code, 0);
        let message = described.error_message.unwrap_or_default();
        assert!(message.len() < 1_010, "{} bytes", message.len());
    }
    let groups = DescribeGroupsRequest {
        groups: vec![name],
        ..Default::default()
    };
    let described = client.call(6, &groups).await.groups.remove(0);
    assert_eq!(described.error_code, ErrorCode::GroupIdNotFound.code());
}

#[tokio::test]
async fn what_is_named_twice_is_answered_once_or_refused() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let twice = |name: &str| vec![name.to_owned(); 2];

    let find = FindCoordinatorRequest {
        coordinator_keys: twice("g"),
        ..Default::default()
    };
    let found: Vec<Coordinator> = client.call(4, &find).await.coordinators;
    assert_eq!(found.len(), 1);

    let group = OffsetFetchRequestGroup {
        group_id: "g".to_owned(),
        topics: None,
        ..Default::default()
    };
    let offsets = OffsetFetchRequest {
        groups: vec![group.clone(), group],
        ..Default::default()
    };
    assert_eq!(client.call(8, &offsets).await.groups.len(), 1);

    let partition = ListOffsetsPartition {
        timestamp: -1,
        ..Default::default()
    };
    let list = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".to_owned(),
            partitions: vec![partition.clone(), partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let listed = client.call(5, &list).await.topics.remove(0).partitions;
    let codes: Vec<i16> = listed.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [ErrorCode::InvalidRequest.code()]);

    let groups = DeleteGroupsRequest {
        groups_names: twice("g"),
        ..Default::default()
    };
    assert_eq!(client.call(2, &groups).await.results.len(), 1);

    let mut fetch: FetchRequest = fetch_request("t", 0, 0, 0);
    fetch.topics.push(fetch.topics[0].clone());
    let fetched = client.call(11, &fetch).await;
    assert_eq!(fetched.error_code, ErrorCode::InvalidRequest.code());
}
