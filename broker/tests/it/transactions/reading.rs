//! What readers are told while a transaction is open and after it was aborted.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::ListOffsetsRequest;
use flumen_protocol::message::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

use super::Producer;
use crate::support::{Wire, World, batch, fetch_request};

async fn offset_at(client: &mut Wire, isolation_level: i8, timestamp: i64) -> i64 {
    let partition = ListOffsetsPartition {
        timestamp,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let topic = ListOffsetsTopic {
        name: "t".to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = client.call(7, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    answer.topics[0].partitions[0].offset
}

#[tokio::test]
async fn rule_22_no_offset_is_told_that_read_committed_could_not_fetch() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["before"])).await;
    let mut producer = Producer::init(&mut client, 2).await;
    assert_eq!(producer.send(&mut client, "open").await, ErrorCode::None);
    // By place: read_committed ends where the transaction begins.
    assert_eq!(offset_at(&mut client, 0, -1).await, 2);
    assert_eq!(offset_at(&mut client, 1, -1).await, 1);
    // By time: all records are of one moment; the first one is stable, and after it there is none that is.
    assert_eq!(offset_at(&mut client, 1, 1_700_000_000_000).await, 0);
    assert_eq!(offset_at(&mut client, 1, 1_700_000_000_001).await, -1);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
}

#[tokio::test]
async fn rule_19_aborted_transactions_are_listed_in_the_order_in_which_they_began() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    // The records are old and the markers are not: with Kafka's default the first marker would begin a segment, where a fetch ends.
    let one_segment = [("segment.ms", "1000000000000")];
    client.create_topic("t", 1, &one_segment).await.unwrap();
    let mut producer = Producer::init(&mut client, 2).await;
    let mut first_offsets = Vec::new();
    for _ in 0..5 {
        first_offsets.push(offset_at(&mut client, 0, -1).await);
        assert_eq!(producer.send(&mut client, "x").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
        super::stable(&mut client).await;
    }
    let mut request = fetch_request("t", 0, 0, 0);
    request.isolation_level = 1;
    let mut answer = client.call(11, &request).await;
    let data = answer.responses.remove(0).partitions.remove(0);
    let listed = data
        .aborted_transactions
        .expect("read_committed gets a list");
    let listed: Vec<i64> = listed.iter().map(|txn| txn.first_offset).collect();
    assert_eq!(listed, first_offsets);
}
