//! Metadata, topics, configurations, cluster.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicId;
use flumen_protocol::message::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use flumen_protocol::message::delete_topics_request::DeleteTopicState;
use flumen_protocol::message::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::message::describe_topic_partitions_request::{Cursor, TopicRequest};
use flumen_protocol::message::metadata_request::MetadataRequestTopic;
use flumen_protocol::message::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeTopicPartitionsRequest, MetadataRequest,
};

use crate::support::{Wire, World, batch};

fn ask(names: &[&str], create: bool) -> MetadataRequest {
    let topics = names.iter().map(|name| MetadataRequestTopic {
        name: Some((*name).to_owned()),
        ..Default::default()
    });
    MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: create,
        ..Default::default()
    }
}

#[tokio::test]
async fn metadata_names_this_broker_as_it_was_reached() {
    let world = World::start(&[]).await;
    let response = world.client().await.call(9, &ask(&[], false)).await;
    let broker = &response.brokers[0];
    assert_eq!(
        (broker.host.as_str(), broker.port),
        ("127.0.0.1", i32::from(world.addr().port()))
    );
    assert_eq!(response.controller_id, broker.node_id);
    assert_eq!(response.cluster_id.unwrap().len(), 22);
}

#[tokio::test]
async fn advertised_listeners_are_honoured() {
    let world = World::start(&[("advertised.listeners", "PLAINTEXT://broker.example:1234")]).await;
    let response = world.client().await.call(9, &ask(&[], false)).await;
    assert_eq!(
        (response.brokers[0].host.as_str(), response.brokers[0].port),
        ("broker.example", 1234)
    );
}

#[tokio::test]
async fn an_unknown_topic_is_created_on_first_use_if_both_sides_allow_it() {
    let world = World::start(&[("num.partitions", "3")]).await;
    let mut client = world.client().await;
    let response = client.call(9, &ask(&["t"], false)).await;
    assert_eq!(
        response.topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    let response = client.call(9, &ask(&["t"], true)).await;
    assert_eq!(
        (
            response.topics[0].error_code,
            response.topics[0].partitions.len()
        ),
        (0, 3)
    );
    let response = client.call(9, &ask(&["no/name"], true)).await;
    assert_eq!(
        response.topics[0].error_code,
        ErrorCode::InvalidTopicException.code()
    );

    let strict = World::start(&[("auto.create.topics.enable", "false")]).await;
    let response = strict.client().await.call(9, &ask(&["t"], true)).await;
    assert_eq!(
        response.topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
}

#[tokio::test]
async fn all_topics_are_an_empty_list_in_version_0_and_null_after() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    assert_eq!(client.call(0, &ask(&[], true)).await.topics.len(), 1);
    assert_eq!(client.call(1, &ask(&[], true)).await.topics.len(), 0);
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(client.call(1, &all).await.topics.len(), 1);
}

#[tokio::test]
async fn what_is_asked_for_many_times_is_described_once() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 3).await;
    let response = client.call(12, &ask(&["t"; 1_000], false)).await;
    assert_eq!(response.topics.len(), 1);
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "t".to_owned(),
        configuration_keys: None,
        ..Default::default()
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource; 1_000],
        ..Default::default()
    };
    assert_eq!(client.call(4, &request).await.results.len(), 1);
    let request = DescribeGroupsRequest {
        groups: vec!["g".to_owned(); 1_000],
        ..Default::default()
    };
    assert_eq!(client.call(5, &request).await.groups.len(), 1);
}

#[tokio::test]
async fn a_recreated_topic_has_another_id_and_no_old_records() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["old"])).await;
    let before = client.call(12, &ask(&["t"], false)).await.topics[0].topic_id;
    client.delete_topic("t").await.unwrap();
    assert_eq!(
        client.delete_topic("t").await,
        Err(ErrorCode::UnknownTopicOrPartition)
    );
    client.create_topic("t", 1, &[]).await.unwrap();
    let after = client.call(12, &ask(&["t"], false)).await.topics[0].topic_id;
    assert_ne!(before, after);
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0);

    let by_id = |topic_id| DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: None,
            topic_id,
            ..Default::default()
        }],
        timeout_ms: 1000,
        ..Default::default()
    };
    let response = client.call(6, &by_id(before)).await;
    assert_eq!(
        response.responses[0].error_code,
        ErrorCode::UnknownTopicId.code()
    );
    let response = client.call(6, &by_id(after)).await;
    assert_eq!(
        (
            response.responses[0].error_code,
            response.responses[0].name.as_deref()
        ),
        (0, Some("t"))
    );
}

#[tokio::test]
async fn a_topic_that_is_named_twice_for_deletion_stays() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let topic_id = client.call(12, &ask(&["t"], false)).await.topics[0].topic_id;
    let name = |name: &str| DeleteTopicState {
        name: Some(name.to_owned()),
        ..Default::default()
    };
    let id = |topic_id| DeleteTopicState {
        name: None,
        topic_id,
        ..Default::default()
    };
    let invalid = ErrorCode::InvalidRequest.code();
    for topics in [
        vec![name("t"), name("t")],
        vec![name("t"), id(topic_id)],
        vec![id(TopicId::NIL)],
    ] {
        let request = DeleteTopicsRequest {
            topics,
            timeout_ms: 1000,
            ..Default::default()
        };
        let responses = client.call(6, &request).await.responses;
        assert!(responses.iter().all(|one| one.error_code == invalid));
    }
    let response = client.call(12, &ask(&["t"], false)).await;
    assert_eq!(response.topics[0].topic_id, topic_id);
    client.delete_topic("t").await.unwrap();
}

#[tokio::test]
async fn validate_only_creates_nothing() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let topic = CreatableTopic {
        name: "t".to_owned(),
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    let mut request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 1000,
        validate_only: true,
        ..Default::default()
    };
    let response = client.call(7, &request).await;
    let told = &response.topics[0];
    assert_eq!((told.error_code, told.num_partitions), (0, 2));
    assert_eq!(told.error_message, None);
    request.topics[0].replication_factor = 3;
    let response = client.call(7, &request).await;
    assert_eq!(
        response.topics[0].error_code,
        ErrorCode::InvalidReplicationFactor.code()
    );
    assert_eq!(
        client
            .call(
                1,
                &MetadataRequest {
                    topics: None,
                    ..Default::default()
                }
            )
            .await
            .topics
            .len(),
        0
    );
}

#[tokio::test]
async fn a_created_topic_comes_with_its_configuration() {
    let world = World::start(&[("log.retention.ms", "1234")]).await;
    let mut client = world.client().await;
    let config = CreatableTopicConfig {
        name: "cleanup.policy".to_owned(),
        value: Some("compact".to_owned()),
        ..Default::default()
    };
    let topic = CreatableTopic {
        name: "t".to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        configs: vec![config],
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 1000,
        ..Default::default()
    };
    let response = client.call(7, &request).await;
    let configs = response.topics[0].configs.as_ref().unwrap();
    let value = |name: &str| {
        let config = configs.iter().find(|config| config.name == name).unwrap();
        (config.value.clone().unwrap(), config.config_source)
    };
    assert_eq!(value("cleanup.policy"), ("compact".to_owned(), 1));
    assert_eq!(value("retention.ms"), ("1234".to_owned(), 4));
    assert_eq!(value("segment.bytes"), ("1073741824".to_owned(), 5));
    assert!(!response.topics[0].topic_id.is_nil());
}

async fn describe(
    client: &mut Wire,
    kind: i8,
    name: &str,
    keys: Option<Vec<String>>,
) -> (ErrorCode, Vec<(String, String, i8)>) {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.to_owned(),
        configuration_keys: keys,
        ..Default::default()
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
        ..Default::default()
    };
    let response = client.call(4, &request).await;
    let result = &response.results[0];
    let configs = result.configs.iter().map(|c| {
        (
            c.name.clone(),
            c.value.clone().unwrap_or_default(),
            c.config_source,
        )
    });
    (ErrorCode::from_code(result.error_code), configs.collect())
}

#[tokio::test]
async fn configurations_tell_where_they_come_from() {
    let world = World::start(&[("num.partitions", "4")]).await;
    let mut client = world.client().await;
    client
        .create_topic("t", 1, &[("retention.ms", "77")])
        .await
        .unwrap();
    let keys = Some(vec![
        "retention.ms".to_owned(),
        "min.insync.replicas".to_owned(),
    ]);
    let (error, mut configs) = describe(&mut client, 2, "t", keys).await;
    configs.sort();
    assert_eq!(error, ErrorCode::None);
    assert_eq!(
        configs,
        [
            ("min.insync.replicas".to_owned(), "1".to_owned(), 5),
            ("retention.ms".to_owned(), "77".to_owned(), 1)
        ]
    );
    let (_, all) = describe(&mut client, 2, "t", None).await;
    assert!(all.iter().any(|(name, ..)| name == "cleanup.policy"));
    let (error, configs) =
        describe(&mut client, 4, "1", Some(vec!["num.partitions".to_owned()])).await;
    assert_eq!(
        (error, configs),
        (
            ErrorCode::None,
            vec![("num.partitions".to_owned(), "4".to_owned(), 4)]
        )
    );
    assert_eq!(
        describe(&mut client, 2, "nowhere", None).await.0,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        describe(&mut client, 2, "no/where", None).await.0,
        ErrorCode::InvalidTopicException
    );
    assert_eq!(
        describe(&mut client, 4, "9", None).await.0,
        ErrorCode::InvalidRequest
    );
}

#[tokio::test]
async fn the_cluster_describes_itself() {
    let world = World::start(&[]).await;
    let response = world
        .client()
        .await
        .call(
            1,
            &DescribeClusterRequest {
                endpoint_type: 1,
                ..Default::default()
            },
        )
        .await;
    assert_eq!((response.error_code, response.brokers.len()), (0, 1));
    let response = world
        .client()
        .await
        .call(
            1,
            &DescribeClusterRequest {
                endpoint_type: 2,
                ..Default::default()
            },
        )
        .await;
    assert_eq!(
        response.error_code,
        ErrorCode::MismatchedEndpointType.code()
    );
}

#[tokio::test]
async fn partitions_are_described_page_by_page() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("a", 3).await;
    client.create_topic("b", 2, &[]).await.unwrap();
    let topics = ["a", "b", "c"]
        .map(|name| TopicRequest {
            name: name.to_owned(),
            ..Default::default()
        })
        .to_vec();
    let mut cursor: Option<Cursor> = None;
    let mut seen = Vec::new();
    loop {
        let request = DescribeTopicPartitionsRequest {
            topics: topics.clone(),
            response_partition_limit: 2,
            cursor: cursor.take(),
            ..Default::default()
        };
        let response = client.call(0, &request).await;
        for topic in response.topics {
            let name = topic.name.unwrap();
            seen.extend(
                topic
                    .partitions
                    .iter()
                    .map(|p| (name.clone(), p.partition_index)),
            );
            if topic.error_code != 0 {
                seen.push((name, -i32::from(topic.error_code)));
            }
        }
        match response.next_cursor {
            Some(next) => {
                cursor = Some(Cursor {
                    topic_name: next.topic_name,
                    partition_index: next.partition_index,
                    ..Default::default()
                });
            }
            None => break,
        }
    }
    let expected = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", -3)];
    assert_eq!(
        seen,
        expected.map(|(name, partition)| (name.to_owned(), partition))
    );
}
