//! Committed offsets: every version, what is refused, what goes with its topic.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicId;
use flumen_protocol::message::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::message::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::message::{MetadataRequest, OffsetFetchRequest};

use crate::support::{Wire, World, eventually};

use super::*;

#[tokio::test]
async fn every_version_of_offset_commit_and_fetch() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 2).await;
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let topics = client.call(12, &all).await.topics;
    let topic = topics
        .iter()
        .find(|topic| topic.name.as_deref() == Some("t"));
    let topic_id = topic.unwrap().topic_id;
    for version in 2..=10 {
        let mut request = commit_request("", -1, i64::from(version));
        request.topics[0].topic_id = topic_id;
        let committed = client.call(version, &request).await;
        assert_eq!(
            committed.topics[0].partitions[0].error_code, 0,
            "v{version}"
        );
    }
    for version in 1..=7 {
        fetch_one_group(&mut client, version).await;
    }
    for version in 8..=10 {
        fetch_many_groups(&mut client, version, topic_id).await;
    }
}

async fn fetch_one_group(client: &mut Wire, version: i16) {
    let request = OffsetFetchRequest {
        group_id: GROUP.to_owned(),
        topics: Some(vec![fetch_topic(&[0, 1, 9])]),
        ..Default::default()
    };
    let response = client.call(version, &request).await;
    let partitions = &response.topics[0].partitions;
    let offsets: Vec<_> = partitions
        .iter()
        .map(|p| (p.committed_offset, p.error_code))
        .collect();
    assert_eq!(offsets, [(10, 0), (-1, 0), (-1, 0)], "v{version}");
    assert_eq!(partitions[0].metadata.as_deref(), Some("note"));
}

async fn fetch_many_groups(client: &mut Wire, version: i16, topic_id: TopicId) {
    let topic = OffsetFetchRequestTopics {
        name: "t".to_owned(),
        topic_id,
        partition_indexes: vec![0],
        ..Default::default()
    };
    let group = |group_id: &str, topics| OffsetFetchRequestGroup {
        group_id: group_id.to_owned(),
        topics,
        ..Default::default()
    };
    let groups = vec![
        group(GROUP, Some(vec![topic])),
        group(GROUP, None),
        group("nobody", None),
    ];
    let request = OffsetFetchRequest {
        groups,
        ..Default::default()
    };
    let response = client.call(version, &request).await;
    let offsets = |index: usize| -> Vec<i64> {
        let topics = &response.groups[index].topics;
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|partition| partition.committed_offset)
            .collect()
    };
    assert_eq!(
        (offsets(0), offsets(1), offsets(2)),
        (vec![10], vec![10], vec![]),
        "v{version}"
    );
}

#[tokio::test]
async fn a_commit_that_is_mostly_repetition_is_refused() {
    let world = World::start(&[("flumen.id.max.bytes", "32000")]).await;
    let mut client = world.client_with_topic("t", 600).await;
    let mut request = commit_request("", -1, 1);
    let twice = request.topics[0].clone();
    request.topics.push(twice);
    let response = client.call(9, &request).await;
    let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes: Vec<_> = codes.map(|p| ErrorCode::from_code(p.error_code)).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::InvalidRequest]);

    // 600 records that each name the group would be more than 16 MiB of its name.
    let mut request = commit_request("", -1, 1);
    request.group_id = "g".repeat(32_000);
    let first = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = (0..600)
        .map(|partition_index| OffsetCommitRequestPartition {
            partition_index,
            ..first.clone()
        })
        .collect();
    let response = client.call(9, &request).await;
    assert!(
        response.topics[0]
            .partitions
            .iter()
            .all(|p| ErrorCode::from_code(p.error_code) == ErrorCode::InvalidRequest)
    );
}

#[tokio::test]
async fn what_does_not_exist_is_named_at_its_partition() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut request = commit_request("", -1, 1);
    request.topics[0]
        .partitions
        .push(OffsetCommitRequestPartition {
            partition_index: 7,
            ..Default::default()
        });
    request.topics.push(OffsetCommitRequestTopic {
        name: "gone".to_owned(),
        ..request.topics[0].clone()
    });
    let response = client.call(9, &request).await;
    let codes: Vec<_> = response
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| p.error_code)
        .collect();
    assert_eq!(codes, [0, 3, 3, 3]);
    let mut request = commit_request("", -1, 1);
    request.topics[0].topic_id.0 = [9; 16];
    let response = client.call(10, &request).await;
    assert_eq!(
        ErrorCode::from_code(response.topics[0].partitions[0].error_code),
        ErrorCode::UnknownTopicId
    );
    for (version, expected) in [
        (8, ErrorCode::IllegalGeneration),
        (9, ErrorCode::GroupIdNotFound),
    ] {
        let mut request = commit_request("member", 3, 1);
        request.group_id = "nobody".to_owned();
        let response = client.call(version, &request).await;
        assert_eq!(
            ErrorCode::from_code(response.topics[0].partitions[0].error_code),
            expected
        );
    }
    let mut request = commit_request("", -1, 1);
    request.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_097));
    let response = client.call(9, &request).await;
    assert_eq!(
        ErrorCode::from_code(response.topics[0].partitions[0].error_code),
        ErrorCode::OffsetMetadataTooLarge
    );
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_are_deleted_with_it() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.call(7, &commit_request("", -1, 42)).await;
    client.delete_topic("t").await.unwrap();
    client.create_topic("t", 1, &[]).await.unwrap();
    assert_eq!(committed(&mut client, true).await, Ok(-1));
}

/// The broker is killed when the topic's deletion is on disk and that of its offsets is not: they go at the next start, or the next
/// topic of that name would be read from the middle.
#[tokio::test]
async fn offsets_that_a_crash_left_of_a_deleted_topic_are_deleted_at_the_next_start() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.call(7, &commit_request("", -1, 42)).await;
    world.stop().await;
    // "g".hashCode() is 103.
    let log = world
        .dir
        .path()
        .join("__consumer_offsets-3/00000000000000000000.log");
    let before = std::fs::read(&log).unwrap();
    world.run().await;
    world.client().await.delete_topic("t").await.unwrap();
    world.stop().await;
    assert!(std::fs::metadata(&log).unwrap().len() > before.len() as u64);
    std::fs::write(&log, &before).unwrap();
    std::fs::remove_file(world.dir.path().join(".kafka_cleanshutdown")).unwrap();
    std::fs::remove_file(world.dir.path().join("recovery-point-offset-checkpoint")).unwrap();

    world.run().await;
    let mut client = world.client().await;
    eventually(async || committed(&mut client, true).await == Ok(-1)).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    world.restart().await;
    assert_eq!(committed(&mut world.client().await, true).await, Ok(-1));
}
