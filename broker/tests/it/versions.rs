//! Every version of every API that is advertised gets an answer that its version can carry.

use flumen_protocol::api;
use flumen_protocol::codec::Request;
use flumen_protocol::message::create_topics_request::CreatableTopic;
use flumen_protocol::message::delete_topics_request::DeleteTopicState;
use flumen_protocol::message::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::message::fetch_request::FetchTopic;
use flumen_protocol::message::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::message::metadata_request::MetadataRequestTopic;
use flumen_protocol::message::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use flumen_protocol::message::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeTopicPartitionsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest, ProduceRequest,
};

use crate::support::{Wire, World, batch, fetch_request, produce_request};

/// Sends what `make` gives for each version; a response that cannot be encoded would close the connection.
async fn every_version<R: Request>(client: &mut Wire, make: impl Fn(i16) -> R) {
    for version in api::versions(R::API) {
        client.call(version, &make(version)).await;
    }
}

async fn topic_id(client: &mut Wire) -> flumen_protocol::id::TopicId {
    let response = client
        .call(
            12,
            &MetadataRequest {
                topics: None,
                ..Default::default()
            },
        )
        .await;
    response
        .topics
        .iter()
        .find(|topic| topic.name.as_deref() == Some("t"))
        .unwrap()
        .topic_id
}

#[tokio::test]
async fn produce_and_fetch_in_every_version() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let id = topic_id(&mut client).await;
    for partition in [0, 9] {
        every_version::<ProduceRequest>(&mut client, |version| {
            let mut request = produce_request("t", partition, -1, batch(&["a"]));
            if version >= 13 {
                request.topic_data[0].name.clear();
                request.topic_data[0].topic_id = id;
            }
            request
        })
        .await;
        // read_uncommitted and read_committed
        for isolation_level in [0, 1] {
            every_version::<FetchRequest>(&mut client, |version| {
                let mut request = FetchRequest {
                    isolation_level,
                    ..fetch_request("t", partition, 0, 0)
                };
                if version >= 13 {
                    request.topics[0] = FetchTopic {
                        topic: String::new(),
                        topic_id: id,
                        ..request.topics[0].clone()
                    };
                }
                request
            })
            .await;
        }
    }
}

#[tokio::test]
async fn offsets_in_every_version() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["a"])).await;
    for timestamp in [-1, -2, -3, 0] {
        every_version::<ListOffsetsRequest>(&mut client, |_| {
            let asked = [0, 9].map(|partition_index| ListOffsetsPartition {
                partition_index,
                timestamp,
                ..Default::default()
            });
            let topic = ListOffsetsTopic {
                name: "t".to_owned(),
                partitions: asked.to_vec(),
                ..Default::default()
            };
            ListOffsetsRequest {
                replica_id: -1,
                topics: vec![topic],
                ..Default::default()
            }
        })
        .await;
    }
    every_version::<OffsetForLeaderEpochRequest>(&mut client, |_| {
        let asked = [0, 9].map(|partition| OffsetForLeaderPartition {
            partition,
            ..Default::default()
        });
        let topic = OffsetForLeaderTopic {
            topic: "t".to_owned(),
            partitions: asked.to_vec(),
            ..Default::default()
        };
        OffsetForLeaderEpochRequest {
            topics: vec![topic],
            ..Default::default()
        }
    })
    .await;
}

#[tokio::test]
async fn metadata_in_every_version() {
    let world = World::start(&[("broker.rack", "r1")]).await;
    let mut client = world.client_with_topic("t", 2).await;
    let names = ["t", "unknown", "bad/name"].map(|name| MetadataRequestTopic {
        name: Some(name.to_owned()),
        ..Default::default()
    });
    every_version::<MetadataRequest>(&mut client, |version| MetadataRequest {
        topics: Some(names.to_vec()),
        allow_auto_topic_creation: version < 4,
        include_topic_authorized_operations: version >= 8,
        include_cluster_authorized_operations: (8..=10).contains(&version),
        ..Default::default()
    })
    .await;
    every_version::<DescribeClusterRequest>(&mut client, |_| DescribeClusterRequest::default())
        .await;
    every_version::<DescribeTopicPartitionsRequest>(&mut client, |_| {
        DescribeTopicPartitionsRequest {
            response_partition_limit: 10,
            ..Default::default()
        }
    })
    .await;
}

#[tokio::test]
async fn topics_and_configurations_in_every_version() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    every_version::<CreateTopicsRequest>(&mut client, |version| CreateTopicsRequest {
        topics: [format!("v{version}"), "bad/name".to_owned()]
            .map(|name| CreatableTopic {
                name,
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            })
            .to_vec(),
        timeout_ms: 1000,
        ..Default::default()
    })
    .await;
    every_version::<DescribeConfigsRequest>(&mut client, |version| DescribeConfigsRequest {
        resources: [(2, "t"), (2, "unknown"), (4, "1"), (4, ""), (8, "1")]
            .map(|(resource_type, name)| DescribeConfigsResource {
                resource_type,
                resource_name: name.to_owned(),
                configuration_keys: None,
                ..Default::default()
            })
            .to_vec(),
        include_synonyms: true,
        include_documentation: version >= 3,
        ..Default::default()
    })
    .await;
    every_version::<DeleteTopicsRequest>(&mut client, |version| {
        let names = [format!("v{version}"), "unknown".to_owned()];
        let mut request = DeleteTopicsRequest {
            timeout_ms: 1000,
            ..Default::default()
        };
        if version < 6 {
            request.topic_names = names.to_vec();
        } else {
            request.topics = names
                .map(|name| DeleteTopicState {
                    name: Some(name),
                    ..Default::default()
                })
                .to_vec();
        }
        request
    })
    .await;
}
