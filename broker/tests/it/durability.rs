//! Answers wait for the disk: produce, group commits, transactions.

use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::{
    ApiVersionsRequest, EndTxnRequest, InitProducerIdRequest, OffsetCommitRequest, ProduceRequest,
};

use crate::groups::commit_request;
use crate::held::HeldTasks;
use crate::support::{Wire, World, batch, eventually, produce_request};

/// Asks, while no flush ends; answered only after they do.
async fn answer_waits<R: Request>(
    world: &World,
    held: &HeldTasks,
    version: i16,
    request: &R,
) -> R::Response {
    let (mut client, mut other) = (world.client().await, world.client().await);
    held.hold_blocking();
    client.send(version, request).await;
    eventually(async || {
        other.call(3, &ApiVersionsRequest::default()).await;
        held.waiting() > 0
    })
    .await;
    // It is written, and its flush waits: so does the answer, however often others are answered.
    for _ in 0..20 {
        other.call(3, &ApiVersionsRequest::default()).await;
    }
    assert!(!client.has_answer(), "{}", R::NAME);
    held.release();
    client.receive::<R>(version).await.1
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_on_disk() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let mut client: Wire = world.client_with_topic("t", 1).await;
    for acks in [-1, 1] {
        let request = produce_request("t", 0, acks, batch(&["a"]));
        let answer = answer_waits::<ProduceRequest>(&world, &held, 9, &request).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    // The internal topics are made by what is not measured.
    client.call(7, &commit_request("", -1, 1)).await;
    let request = commit_request("", -1, 2);
    let answer = answer_waits::<OffsetCommitRequest>(&world, &held, 7, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);

    let init = InitProducerIdRequest {
        transactional_id: Some("pay".to_owned()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    client.call(4, &init).await;
    let started = answer_waits::<InitProducerIdRequest>(&world, &held, 4, &init).await;
    assert_eq!(started.error_code, 0);
    let end = EndTxnRequest {
        transactional_id: "pay".to_owned(),
        producer_id: started.producer_id,
        producer_epoch: started.producer_epoch,
        committed: false,
        ..Default::default()
    };
    let ended = answer_waits::<EndTxnRequest>(&world, &held, 5, &end).await;
    assert_eq!(ErrorCode::from_code(ended.error_code), ErrorCode::None);
}

#[tokio::test]
async fn a_flush_after_every_record_is_one_before_its_answer() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let options = [("flush.mode", "async"), ("flush.messages", "1")];
    let mut client = world.client().await;
    client.create_topic("t", 1, &options).await.unwrap();
    let request = produce_request("t", 0, -1, batch(&["a"]));
    let answer = answer_waits::<ProduceRequest>(&world, &held, 9, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test]
async fn a_topic_that_does_not_wait_for_the_disk_is_flushed_after_enough_records_or_enough_time() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let mut client = world.client().await;
    let counted = [("flush.mode", "async"), ("flush.messages", "2")];
    client.create_topic("counted", 1, &counted).await.unwrap();
    held.hold_blocking();
    assert_eq!(
        client.produce("counted", 0, batch(&["a"])).await.error_code,
        0
    );
    assert_eq!(held.waiting(), 0, "one is not enough");
    assert_eq!(
        client.produce("counted", 0, batch(&["b"])).await.error_code,
        0
    );
    a_flush_begins(&mut client, &held).await;
    held.release();

    let timed = [("flush.mode", "async"), ("flush.ms", "1")];
    client.create_topic("timed", 1, &timed).await.unwrap();
    held.hold_blocking();
    assert_eq!(
        client.produce("timed", 0, batch(&["a"])).await.error_code,
        0
    );
    a_flush_begins(&mut client, &held).await;
    held.release();
}

async fn a_flush_begins(client: &mut Wire, held: &HeldTasks) {
    eventually(async || {
        client.call(3, &ApiVersionsRequest::default()).await;
        held.waiting() > 0
    })
    .await;
}
