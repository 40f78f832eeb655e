//! Produce: acknowledgements, refusals, idempotence.

use bytes::{Bytes, BytesMut};
use flumen_protocol::builder::BatchOptions;
use flumen_protocol::compression::Compression;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::ProduceRequest;

use crate::held::HeldTasks;
use crate::support::{World, batch, batch_of, eventually, produce_request};

#[tokio::test]
async fn produced_records_come_back_in_order() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    assert_eq!(
        client.produce("t", 0, batch(&["a", "b"])).await.base_offset,
        0
    );
    assert_eq!(client.produce("t", 0, batch(&["c"])).await.base_offset, 2);
    assert_eq!(client.values("t", 0, 0).await, ["a", "b", "c"]);
    assert_eq!(client.values("t", 0, 2).await, ["c"]);
}

#[tokio::test]
async fn every_codec_is_kept_as_it_came() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    for codec in Compression::ALL {
        let options = BatchOptions {
            compression: codec,
            ..BatchOptions::default()
        };
        let sent = batch_of(options, &["one", "two"]);
        let produced = client.produce("t", 0, sent.clone()).await;
        assert_eq!(produced.error_code, 0, "{codec:?}");
        let data = client.fetch("t", 0, produced.base_offset).await;
        let bytes = data.records.unwrap().into_bytes().unwrap();
        // Beyond offset and leader epoch, bytes 0-8 and 12-16, not a bit differs.
        assert_eq!(bytes[16..], sent[16..], "{codec:?}");
    }
}

#[tokio::test]
async fn acks_0_has_no_response_and_the_records_are_there() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client
        .send(9, &produce_request("t", 0, 0, batch(&["quiet"])))
        .await;
    // The next response on the connection is to the next request.
    assert_eq!(
        client.produce("t", 0, batch(&["loud"])).await.base_offset,
        1
    );
    assert_eq!(client.values("t", 0, 0).await, ["quiet", "loud"]);
}

#[tokio::test]
async fn acks_0_that_fails_closes_the_connection() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    client
        .send(9, &produce_request("nowhere", 0, 0, batch(&["x"])))
        .await;
    assert_eq!(client.next_frame().await, None);
}

#[tokio::test]
async fn acks_outside_of_minus_one_to_one_are_refused() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let response = client
        .call(9, &produce_request("t", 0, 2, batch(&["x"])))
        .await;
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        ErrorCode::InvalidRequiredAcks.code()
    );
}

#[tokio::test]
async fn bad_batches_are_refused_with_kafkas_codes_and_leave_nothing() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client
        .create_topic("small", 1, &[("max.message.bytes", "100")])
        .await
        .unwrap();

    let change = |at: usize, byte: u8| {
        let mut bytes = BytesMut::from(&batch(&["x"])[..]);
        bytes[at] ^= byte;
        bytes.freeze()
    };
    let twice = Bytes::from([batch(&["a"]), batch(&["b"])].concat());
    let marker = batch_of(
        BatchOptions {
            control: true,
            ..BatchOptions::default()
        },
        &["x"],
    );
    for (what, topic, records, expected) in [
        (
            "flipped value bit",
            "t",
            change(66, 1),
            ErrorCode::CorruptMessage,
        ),
        ("magic 0", "t", change(16, 2), ErrorCode::InvalidRecord),
        ("two batches", "t", twice, ErrorCode::InvalidRecord),
        ("no batch", "t", Bytes::new(), ErrorCode::InvalidRecord),
        (
            "half a batch",
            "t",
            batch(&["x"]).slice(..50),
            ErrorCode::InvalidRecord,
        ),
        ("a control batch", "t", marker, ErrorCode::InvalidRecord),
        (
            "larger than max.message.bytes",
            "small",
            batch(&["x".repeat(100).as_str()]),
            ErrorCode::MessageTooLarge,
        ),
        (
            "unknown topic",
            "nowhere",
            batch(&["x"]),
            ErrorCode::UnknownTopicOrPartition,
        ),
    ] {
        let produced = client.produce(topic, 0, records).await;
        assert_eq!(
            ErrorCode::from_code(produced.error_code),
            expected,
            "{what}"
        );
        assert_eq!(produced.base_offset, -1, "{what}");
    }
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0);
}

#[tokio::test]
async fn one_bad_partition_does_not_spoil_the_others() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 2).await;
    let mut request: ProduceRequest = produce_request("t", 0, -1, batch(&["x"]));
    let mut other = produce_request("t", 7, -1, batch(&["y"]));
    request.topic_data[0]
        .partition_data
        .append(&mut other.topic_data[0].partition_data);
    let response = client.call(9, &request).await;
    let codes: Vec<i16> = response.responses[0]
        .partition_responses
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
}

#[tokio::test]
async fn a_repeated_idempotent_batch_is_answered_with_its_first_offset() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let idempotent = |base_sequence| BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence,
        ..BatchOptions::default()
    };
    let first = batch_of(idempotent(0), &["a", "b"]);
    assert_eq!(client.produce("t", 0, first.clone()).await.base_offset, 0);
    assert_eq!(
        client
            .produce("t", 0, batch_of(idempotent(2), &["c"]))
            .await
            .base_offset,
        2
    );
    let again = client.produce("t", 0, first).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let gap = client
        .produce("t", 0, batch_of(idempotent(9), &["z"]))
        .await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(client.values("t", 0, 0).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn clients_may_not_write_internal_topics() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("__consumer_offsets", 1).await;
    let produced = client.produce("__consumer_offsets", 0, batch(&["x"])).await;
    assert_eq!(produced.error_code, ErrorCode::InvalidTopicException.code());
}

#[tokio::test]
async fn a_topic_with_async_flush_acknowledges_from_the_page_cache() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    client
        .create_topic("fast", 1, &[("flush.mode", "async")])
        .await
        .unwrap();
    assert_eq!(
        client.produce("fast", 0, batch(&["a"])).await.base_offset,
        0
    );
    assert_eq!(client.values("fast", 0, 0).await, ["a"]);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut sent = Vec::new();
    for i in 0..50 {
        sent.push(
            client
                .send(
                    9,
                    &produce_request("t", 0, -1, batch(&[i.to_string().as_str()])),
                )
                .await,
        );
    }
    for (expected, offset) in sent.into_iter().zip(0..) {
        let (id, response) = client.receive::<ProduceRequest>(9).await;
        assert_eq!(id, expected);
        assert_eq!(
            response.responses[0].partition_responses[0].base_offset,
            offset
        );
    }
    let expected: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    assert_eq!(client.values("t", 0, 0).await, expected);
}

#[tokio::test]
async fn a_batch_that_takes_long_to_open_is_opened_aside_and_keeps_its_place() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let (mut client, mut other) = (world.client().await, world.client().await);
    let configs = [("flush.mode", "async")];
    client.create_topic("t", 1, &configs).await.unwrap();
    held.hold_blocking();
    let options = BatchOptions {
        compression: Compression::Zstd,
        ..BatchOptions::default()
    };
    let large = batch_of(options, &[&"x".repeat(3 << 20)]);
    for records in [large, batch(&["next"])] {
        client.send(9, &produce_request("t", 0, 1, records)).await;
    }
    eventually(async || {
        tokio::task::yield_now().await;
        held.waiting() == 1
    })
    .await;
    // Nothing is written yet: neither that batch, nor what the connection sent after it.
    assert_eq!(other.fetch("t", 0, 0).await.high_watermark, 0);
    held.release();
    for base_offset in [0, 1] {
        let (_, mut response) = client.receive::<ProduceRequest>(9).await;
        let answer = response.responses.remove(0).partition_responses.remove(0);
        assert_eq!((answer.error_code, answer.base_offset), (0, base_offset));
    }
    assert_eq!(other.values("t", 0, 1).await, ["next"]);
}
