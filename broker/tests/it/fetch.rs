//! Fetch: the long poll, limits, epochs; offsets by place and by time.

use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use flumen_protocol::message::list_offsets_response::ListOffsetsPartitionResponse;
use flumen_protocol::message::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use flumen_protocol::message::{
    FetchRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
};

use crate::support::{Wire, World, batch, fetch_request, values};

/// Long enough that only an append can end the wait.
const LONG_MS: i32 = 60_000;

#[tokio::test]
async fn a_parked_fetch_is_woken_by_an_append() {
    let world = World::start(&[]).await;
    let mut reader = world.client_with_topic("t", 1).await;
    let mut writer = world.client().await;
    reader.send(11, &fetch_request("t", 0, 0, LONG_MS)).await;
    writer.produce("t", 0, batch(&["news"])).await;
    let (_, mut response) = reader.receive::<FetchRequest>(11).await;
    assert_eq!(
        values(response.responses.remove(0).partitions.remove(0)),
        ["news"]
    );
}

#[tokio::test]
async fn a_fetch_waits_for_min_bytes() {
    let world = World::start(&[]).await;
    let mut reader = world.client_with_topic("t", 1).await;
    let mut writer = world.client().await;
    let one = batch(&["0123456789"]);
    let min_bytes = i32::try_from(one.len() * 3).unwrap();
    let request = FetchRequest {
        min_bytes,
        ..fetch_request("t", 0, 0, LONG_MS)
    };
    reader.send(11, &request).await;
    for _ in 0..3 {
        writer.produce("t", 0, one.clone()).await;
    }
    let (_, mut response) = reader.receive::<FetchRequest>(11).await;
    assert_eq!(
        values(response.responses.remove(0).partitions.remove(0)).len(),
        3
    );
}

#[tokio::test]
async fn a_fetch_without_bytes_ends_at_its_deadline() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let response = client.call(11, &fetch_request("t", 0, 0, 50)).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!((data.error_code, data.high_watermark), (0, 0));
}

#[tokio::test]
async fn deleting_a_topic_wakes_those_who_wait_for_it() {
    let world = World::start(&[]).await;
    let mut reader = world.client_with_topic("t", 1).await;
    let mut admin = world.client().await;
    reader.send(11, &fetch_request("t", 0, 0, LONG_MS)).await;
    admin.delete_topic("t").await.unwrap();
    let (_, response) = reader.receive::<FetchRequest>(11).await;
    assert_eq!(
        response.responses[0].partitions[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
}

#[tokio::test]
async fn the_first_batch_comes_whatever_its_size_and_the_rest_within_the_limits() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 2).await;
    let large = batch(&["x".repeat(5000).as_str()]);
    for partition in [0, 0, 1] {
        client.produce("t", partition, large.clone()).await;
    }
    let mut request = FetchRequest {
        max_bytes: 100,
        ..fetch_request("t", 0, 0, 0)
    };
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    let response = client.call(11, &request).await;
    let sizes: Vec<usize> = response.responses[0]
        .partitions
        .iter()
        .map(|p| p.records.as_ref().map_or(0, |r| r.len()))
        .collect();
    assert_eq!(sizes, [large.len(), 0]);
}

#[tokio::test]
async fn an_offset_outside_the_log_is_out_of_range() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["a"])).await;
    for (offset, expected) in [
        (-1, ErrorCode::OffsetOutOfRange),
        (2, ErrorCode::OffsetOutOfRange),
        (1, ErrorCode::None),
    ] {
        let data = client.fetch("t", 0, offset).await;
        assert_eq!(ErrorCode::from_code(data.error_code), expected, "{offset}");
    }
}

#[tokio::test]
async fn leader_epochs_are_checked() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut request = fetch_request("t", 0, 0, 0);
    request.topics[0].partitions[0].current_leader_epoch = 5;
    let response = client.call(11, &request).await;
    assert_eq!(
        response.responses[0].partitions[0].error_code,
        ErrorCode::UnknownLeaderEpoch.code()
    );
}

#[tokio::test]
async fn sessions_that_do_not_exist_are_refused_and_none_is_made() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let with = |session_id, session_epoch| FetchRequest {
        session_id,
        session_epoch,
        ..fetch_request("t", 0, 0, 0)
    };
    for (request, expected) in [
        (with(0, 0), ErrorCode::None),
        (with(0, -1), ErrorCode::None),
        (with(9, 1), ErrorCode::FetchSessionIdNotFound),
        (with(0, 1), ErrorCode::InvalidFetchSessionEpoch),
    ] {
        let response = client.call(11, &request).await;
        assert_eq!(ErrorCode::from_code(response.error_code), expected);
        assert_eq!(response.session_id, 0);
    }
}

#[tokio::test]
async fn topics_are_fetched_by_id_from_version_13() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["a"])).await;
    let metadata = client
        .call(
            12,
            &MetadataRequest {
                topics: None,
                ..Default::default()
            },
        )
        .await;
    let mut request = fetch_request("", 0, 0, 0);
    request.topics[0].topic_id = metadata.topics[0].topic_id;
    let mut response = client.call(16, &request).await;
    assert_eq!(
        values(response.responses.remove(0).partitions.remove(0)),
        ["a"]
    );
    request.topics[0].topic_id.0[3] ^= 1;
    let response = client.call(16, &request).await;
    assert_eq!(
        response.responses[0].partitions[0].error_code,
        ErrorCode::UnknownTopicId.code()
    );
}

#[tokio::test]
async fn a_forged_follower_reads_nothing() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["a"])).await;
    let request = FetchRequest {
        replica_id: 1,
        ..fetch_request("t", 0, 0, 0)
    };
    let response = client.call(11, &request).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::TopicAuthorizationFailed.code());
    assert!(
        data.records
            .as_ref()
            .is_none_or(|records| records.is_empty())
    );
}

async fn offset_at(client: &mut Wire, timestamp: i64) -> (i64, i64) {
    let found = place_at(client, timestamp).await;
    (found.offset, found.timestamp)
}

async fn place_at(client: &mut Wire, timestamp: i64) -> ListOffsetsPartitionResponse {
    let partition = ListOffsetsPartition {
        partition_index: 0,
        timestamp,
        ..Default::default()
    };
    let topic = ListOffsetsTopic {
        name: "t".to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let mut response = client.call(7, &request).await;
    let found = response.topics.remove(0).partitions.remove(0);
    assert_eq!(found.error_code, 0);
    found
}

#[tokio::test]
async fn either_end_of_an_empty_partition_is_of_the_epoch_of_what_will_come() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    for end in [-1, -2] {
        let place = place_at(&mut client, end).await;
        assert_eq!((place.offset, place.leader_epoch), (0, 0));
    }
}

#[tokio::test]
async fn offsets_are_found_by_place_and_by_time() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    for timestamps in [[1000, 3000, 2000], [4000, 4000, 5000]] {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        timestamps
            .iter()
            .for_each(|timestamp| builder.push(*timestamp, None, Some(b"v"), &[]));
        client.produce("t", 0, builder.build()).await;
    }
    for (timestamp, expected) in [
        (-2, (0, -1)),
        (-1, (6, -1)),
        (-3, (5, 5000)),
        (0, (0, 1000)),
        (1001, (1, 3000)),
        (3001, (3, 4000)),
        (5001, (-1, -1)),
    ] {
        assert_eq!(
            offset_at(&mut client, timestamp).await,
            expected,
            "{timestamp}"
        );
    }
}

#[tokio::test]
async fn the_end_of_an_epoch_is_told() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    for (leader_epoch, expected) in [(0, (0, 2)), (1, (-1, -1))] {
        let partition = OffsetForLeaderPartition {
            leader_epoch,
            current_leader_epoch: -1,
            ..Default::default()
        };
        let topic = OffsetForLeaderTopic {
            topic: "t".to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetForLeaderEpochRequest {
            replica_id: -2,
            topics: vec![topic],
            ..Default::default()
        };
        let response = client.call(4, &request).await;
        let end = &response.topics[0].partitions[0];
        assert_eq!((end.leader_epoch, end.end_offset), expected);
    }
}
