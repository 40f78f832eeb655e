//! What becomes of records when answers are lost, leaders move, and nobody answers.

use std::time::Duration;

use flumen_client::{
    Acks, ClientError, Compression, Producer, ProducerConfig, ProducerRecord, RecordBlock,
};
use flumen_protocol::api::ApiKey;
use flumen_protocol::error_code::ErrorCode;

use crate::fake::{Fake, Fault, TOPIC};

async fn producer(fake: &Fake, config: ProducerConfig) -> Producer {
    Producer::new(&fake.client().await, config).await.unwrap()
}

fn record(value: impl Into<String>) -> ProducerRecord {
    ProducerRecord::new(TOPIC, value.into()).partition(0)
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Sends numbers one by one in batches of a few, flushing seldom.
async fn send_numbers(producer: &Producer, range: std::ops::Range<u32>) {
    for number in range {
        producer.send(record(number.to_string())).await.unwrap();
        if number % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(6)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_does_not_write_twice() {
    let fake = Fake::new(1);
    let producer = producer(&fake, ProducerConfig::default()).await;
    fake.fault(ApiKey::Produce, &[Fault::AnswerLost, Fault::AnswerLost]);
    let delivery = producer.send(record("once")).await.unwrap();
    assert_eq!(
        delivery.await.unwrap().offset,
        -1,
        "the broker only says that it has it"
    );
    assert_eq!(fake.values(0), ["once"]);
    assert_eq!(fake.count(ApiKey::Produce), 3);
}

#[tokio::test(start_paused = true)]
async fn whatever_breaks_on_the_way_all_records_arrive_once_and_in_order() {
    let fake = Fake::new(1);
    let config = ProducerConfig {
        batch_bytes: 200,
        ..ProducerConfig::default()
    };
    let producer = producer(&fake, config).await;
    let lots = [
        Fault::RequestLost,
        Fault::Refuse(ErrorCode::NotEnoughReplicas),
        Fault::AnswerLost,
        Fault::Refuse(ErrorCode::NotEnoughReplicasAfterAppend),
        Fault::Silence,
        Fault::AnswerLost,
        Fault::Refuse(ErrorCode::NotLeaderOrFollower),
    ];
    for lot in lots {
        fake.fault(ApiKey::Produce, &[lot, lot]);
    }
    send_numbers(&producer, 0..200).await;
    producer.flush().await.unwrap();
    assert_eq!(fake.values(0), numbers(0..200));
}

#[tokio::test(start_paused = true)]
async fn the_leader_named_in_a_refusal_is_asked_at_once() {
    let fake = Fake::new(1);
    let producer = producer(&fake, ProducerConfig::default()).await;
    producer.send(record("0")).await.unwrap().await.unwrap();
    let asked = fake.count(ApiKey::Metadata);
    fake.with(|cluster| (cluster.leader, cluster.leader_epoch) = (2, 1));
    fake.fault(ApiKey::Produce, &[Fault::LeaderIs(2)]);
    producer.send(record("1")).await.unwrap().await.unwrap();
    assert_eq!(fake.values(0), ["0", "1"]);
    assert!(fake.with(|cluster| cluster.connections[&2]) >= 1);
    assert!(
        fake.count(ApiKey::Metadata) <= asked + 1,
        "no need to ask around"
    );
}

#[tokio::test(start_paused = true)]
async fn a_moved_leader_is_found_through_metadata() {
    let fake = Fake::new(1);
    let producer = producer(&fake, ProducerConfig::default()).await;
    producer.send(record("0")).await.unwrap().await.unwrap();
    fake.with(|cluster| (cluster.leader, cluster.leader_epoch) = (2, 1));
    producer.send(record("1")).await.unwrap().await.unwrap();
    assert_eq!(fake.values(0), ["0", "1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_fails_alone_and_the_next_ones_go_on() {
    let fake = Fake::new(1);
    let producer = producer(&fake, ProducerConfig::default()).await;
    producer.send(record("0")).await.unwrap().await.unwrap();
    fake.fault(
        ApiKey::Produce,
        &[Fault::Refuse(ErrorCode::MessageTooLarge)],
    );
    let refused = producer.send(record("1")).await.unwrap().await;
    let error = refused.unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_)));
    assert!(
        error.to_string().starts_with("partition orders-0: "),
        "{error}"
    );
    producer.send(record("2")).await.unwrap().await.unwrap();
    assert_eq!(fake.values(0), ["0", "2"]);
    assert!(
        producer.flush().await.is_err(),
        "a failure is reported by the next flush"
    );
    producer.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn when_nobody_answers_the_record_fails_by_its_deadline() {
    let fake = Fake::new(1);
    let config = ProducerConfig {
        delivery_timeout: Duration::from_secs(20),
        ..ProducerConfig::default()
    };
    let producer = producer(&fake, config).await;
    fake.fault(ApiKey::Produce, &[Fault::Silence]);
    let sent = tokio::time::Instant::now();
    let lost = producer.send(record("lost")).await.unwrap().await;
    assert!(matches!(lost, Err(ClientError::Timeout(_))), "{lost:?}");
    assert!(sent.elapsed() <= Duration::from_secs(21));
    producer.send(record("next")).await.unwrap().await.unwrap();
    assert_eq!(fake.values(0), ["next"]);
}

/// CVE-2026-35554: a buffer reused while a request was on its way sent data to the wrong topic.
#[tokio::test(start_paused = true)]
async fn a_request_given_up_while_half_written_still_holds_its_own_bytes() {
    let fake = Fake::new(2);
    let config = ProducerConfig {
        delivery_timeout: Duration::from_secs(5),
        linger: Duration::ZERO,
        ..ProducerConfig::default()
    };
    let producer = producer(&fake, config).await;
    for partition in [0, 1] {
        let first = ProducerRecord::new(TOPIC, "first").partition(partition);
        producer.send(first).await.unwrap().await.unwrap();
    }
    fake.with(|cluster| cluster.stalled = true);
    let large = "a".repeat(60_000);
    let given_up = producer.send(record(large.clone())).await.unwrap().await;
    assert!(matches!(given_up, Err(ClientError::Timeout(_))));
    let other = ProducerRecord::new(TOPIC, "b".repeat(60_000)).partition(1);
    let other = producer.send(other).await.unwrap();
    fake.with(|cluster| cluster.stalled = false);
    other.await.unwrap();
    assert_eq!(fake.values(0), ["first".to_owned(), large]);
    assert_eq!(fake.values(1), ["first".to_owned(), "b".repeat(60_000)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_send_wait_and_then_say_so() {
    let fake = Fake::new(1);
    let config = ProducerConfig {
        batch_bytes: 1000,
        buffer_bytes: 2000,
        max_block: Duration::from_secs(3),
        ..ProducerConfig::default()
    };
    let producer = producer(&fake, config).await;
    fake.with(|cluster| cluster.stalled = true);
    let first = producer.send(record("a".repeat(900))).await.unwrap();
    let refused = producer.send(record("b".repeat(1900))).await;
    assert!(
        matches!(refused, Err(ClientError::Timeout(_))),
        "{refused:?}"
    );
    let mut second = std::pin::pin!(producer.send(record("b".repeat(1900))));
    let early = tokio::time::timeout(Duration::from_secs(1), &mut second).await;
    assert!(early.is_err(), "there is no room yet");
    fake.with(|cluster| cluster.stalled = false);
    let second = second.await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn blocks_and_records_keep_their_order_in_every_codec() {
    let fake = Fake::new(1);
    for compression in Compression::ALL {
        let before = fake.values(0).len();
        let config = ProducerConfig {
            compression,
            ..ProducerConfig::default()
        };
        let producer = producer(&fake, config).await;
        producer.send(record("0")).await.unwrap();
        let mut block = RecordBlock::new(compression);
        for number in 1..50 {
            block.push(number, None, Some(number.to_string().as_bytes()), &[]);
        }
        let delivery = producer.send_batch(TOPIC, 0, block).await.unwrap();
        producer.send(record("50")).await.unwrap();
        producer.flush().await.unwrap();
        let base = i64::try_from(before).unwrap() + 1;
        assert_eq!(delivery.await.unwrap().offset, base, "{compression:?}");
        assert_eq!(fake.values(0)[before..], numbers(0..51), "{compression:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgement_nothing_is_awaited() {
    let fake = Fake::new(1);
    let config = ProducerConfig {
        acks: Acks::None,
        idempotent: false,
        ..ProducerConfig::default()
    };
    let producer = producer(&fake, config).await;
    assert_eq!(
        producer
            .send(record("gone"))
            .await
            .unwrap()
            .await
            .unwrap()
            .offset,
        -1
    );
    fake.client().await.partitions_of(TOPIC).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(fake.values(0), ["gone"]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_cannot_succeed_are_refused_at_once() {
    let fake = Fake::new(1);
    let client = fake.client().await;
    let acks = ProducerConfig {
        acks: Acks::Leader,
        ..ProducerConfig::default()
    };
    assert!(matches!(
        Producer::new(&client, acks).await,
        Err(ClientError::Invalid(_))
    ));
    let producer = Producer::new(&client, ProducerConfig::default())
        .await
        .unwrap();
    let elsewhere = producer
        .send(ProducerRecord::new(TOPIC, "x").partition(9))
        .await;
    assert!(matches!(elsewhere, Err(ClientError::NotFound(_))));
    let large = producer.send(record("x".repeat(2 << 20))).await;
    assert!(matches!(large, Err(ClientError::Invalid(_))));
    let empty = producer
        .send_batch(TOPIC, 0, RecordBlock::new(Compression::None))
        .await;
    assert!(matches!(empty, Err(ClientError::Invalid(_))));
    assert!(matches!(
        producer.begin_transaction(),
        Err(ClientError::Invalid(_))
    ));
    producer.clone().close().await.unwrap();
    assert!(matches!(
        producer.send(record("late")).await,
        Err(ClientError::Closed(_))
    ));
}
