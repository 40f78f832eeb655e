//! What a consumer sees: filtered transactions, lost positions, seeks, moving leaders.

use std::time::Duration;

use bytes::BytesMut;
use flumen_client::{
    ClientError, Consumer, ConsumerConfig, OffsetReset, Poll, Producer, ProducerConfig,
    ProducerRecord, TopicPartition,
};
use flumen_protocol::api::ApiKey;
use flumen_protocol::batch::{RecordBatch, assign_offsets};
use flumen_protocol::builder::{EndTxnMarker, end_txn_marker};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicId;

use crate::fake::{Fake, Fault, TOPIC};

const SECOND: Duration = Duration::from_secs(1);

fn first() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

/// Writes each value as a batch of its own.
async fn write(fake: &Fake, values: &[&str]) {
    let client = fake.client().await;
    let producer = Producer::new(&client, ProducerConfig::default())
        .await
        .unwrap();
    for value in values {
        let record = ProducerRecord::new(TOPIC, (*value).to_owned()).partition(0);
        producer.send(record).await.unwrap().await.unwrap();
    }
}

async fn consumer(fake: &Fake, config: ConsumerConfig) -> Consumer {
    let consumer = Consumer::new(&fake.client().await, config).await.unwrap();
    consumer.assign(vec![first()]).await.unwrap();
    consumer
}

async fn values(consumer: &Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let records = consumer.poll(SECOND).await.unwrap();
        assert!(!records.is_empty(), "only {values:?}");
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        values.extend(
            records
                .iter()
                .map(|record| text(record.value.as_ref().unwrap())),
        );
    }
    values
}

#[tokio::test(start_paused = true)]
async fn records_come_in_order_and_a_poll_waits_for_more() {
    let fake = Fake::new(1);
    write(&fake, &["a", "b"]).await;
    let consumer = consumer(&fake, ConsumerConfig::default()).await;
    assert_eq!(values(&consumer, 2).await, ["a", "b"]);
    assert_eq!(consumer.poll(SECOND).await, Ok(vec![]));
    let mut poll = std::pin::pin!(consumer.poll(SECOND * 10));
    let early = tokio::time::timeout(SECOND * 3, &mut poll).await;
    assert!(early.is_err(), "there is nothing yet: {early:?}");
    write(&fake, &["c"]).await;
    assert_eq!(poll.await.unwrap()[0].offset, 2);
    assert_eq!(consumer.position(&first()).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn aborted_records_and_markers_are_not_seen_but_passed() {
    let fake = Fake::new(1);
    let client = fake.client().await;
    let config = ProducerConfig::transactional("tx");
    let producer = Producer::new(&client, config).await.unwrap();
    producer.init_transactions().await.unwrap();
    for (value, commit) in [("a", true), ("b", false), ("c", true)] {
        let (producer_id, producer_epoch) = producer.producer_id().unwrap();
        producer.begin_transaction().unwrap();
        let record = ProducerRecord::new(TOPIC, value).partition(0);
        let at = producer.send(record).await.unwrap().await.unwrap().offset;
        match commit {
            true => producer.commit_transaction().await.unwrap(),
            false => producer.abort_transaction().await.unwrap(),
        }
        let marker = EndTxnMarker {
            producer_id,
            producer_epoch,
            commit,
            coordinator_epoch: 0,
            timestamp: 0,
        };
        fake.with(|cluster| {
            let log = &mut cluster.logs[0];
            let mut bytes = BytesMut::from(&end_txn_marker(&marker)[..]);
            assign_offsets(&mut bytes, log.end, 0);
            log.batches
                .push(RecordBatch::parse(bytes.freeze()).unwrap());
            log.end += 1;
            if !commit {
                log.aborted.push((producer_id, at));
            }
        });
    }
    let consumer = consumer(&fake, ConsumerConfig::default()).await;
    assert_eq!(values(&consumer, 2).await, ["a", "c"]);
    assert_eq!(consumer.position(&first()).await, Ok(6));
}

#[tokio::test(start_paused = true)]
async fn a_position_that_retention_took_is_reported_and_nothing_comes_before_a_seek() {
    let fake = Fake::new(1);
    write(&fake, &["a", "b", "c"]).await;
    let consumer = consumer(&fake, ConsumerConfig::default()).await;
    assert_eq!(values(&consumer, 3).await.len(), 3);
    consumer.seek(&first(), 1).unwrap();
    fake.with(|cluster| {
        cluster.logs[0].start = 2;
        cluster.logs[0].batches.drain(..2);
    });
    let lost = consumer.poll_batches(SECOND).await.unwrap();
    let expected = Poll::PositionLost {
        partition: first(),
        position: 1,
        log_start: 2,
        log_end: 3,
    };
    assert_eq!(lost, expected);
    assert_eq!(consumer.poll_batches(SECOND).await, Ok(Poll::Idle));
    consumer.seek(&first(), 2).unwrap();
    assert_eq!(values(&consumer, 1).await, ["c"]);
}

#[tokio::test(start_paused = true)]
async fn the_simple_poll_follows_the_policy_or_fails_without_one() {
    for policy in [OffsetReset::Earliest, OffsetReset::None] {
        let fake = Fake::new(1);
        write(&fake, &["a", "b", "c"]).await;
        fake.with(|cluster| {
            cluster.logs[0].start = 2;
            cluster.logs[0].batches.drain(..2);
        });
        let config = ConsumerConfig {
            auto_offset_reset: policy,
            ..ConsumerConfig::default()
        };
        let consumer = consumer(&fake, config).await;
        consumer.seek(&first(), 0).unwrap();
        match policy {
            OffsetReset::None => {
                let lost = consumer.poll(SECOND).await;
                assert!(matches!(lost, Err(ClientError::NoPosition(_))), "{lost:?}");
            }
            _ => assert_eq!(values(&consumer, 1).await, ["c"]),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_created_again_under_its_name_is_a_lost_position() {
    let fake = Fake::new(1);
    write(&fake, &["a", "b"]).await;
    let consumer = consumer(&fake, ConsumerConfig::default()).await;
    assert_eq!(values(&consumer, 2).await.len(), 2);
    fake.with(|cluster| {
        cluster.topic_id = TopicId([9; 16]);
        cluster.logs[0] = crate::fake::Log::default();
    });
    fake.fault(ApiKey::Fetch, &[Fault::Refuse(ErrorCode::UnknownTopicId)]);
    let lost = loop {
        match consumer.poll_batches(SECOND * 5).await.unwrap() {
            Poll::Idle => {}
            lost => break lost,
        }
    };
    let expected = Poll::PositionLost {
        partition: first(),
        position: 2,
        log_start: 0,
        log_end: 0,
    };
    assert_eq!(lost, expected);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_follows_its_leader_and_survives_lost_connections() {
    let fake = Fake::new(1);
    write(&fake, &["a"]).await;
    let consumer = consumer(&fake, ConsumerConfig::default()).await;
    assert_eq!(values(&consumer, 1).await, ["a"]);
    fake.with(|cluster| (cluster.leader, cluster.leader_epoch) = (2, 1));
    fake.fault(ApiKey::Fetch, &[Fault::RequestLost, Fault::AnswerLost]);
    write(&fake, &["b"]).await;
    assert_eq!(values(&consumer, 1).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_new_leader_does_not_have_is_a_lost_position_not_a_silent_skip() {
    let fake = Fake::new(1);
    write(&fake, &["a", "b", "c"]).await;
    let consumer = consumer(&fake, ConsumerConfig::default()).await;
    assert_eq!(values(&consumer, 3).await.len(), 3);
    fake.with(|cluster| {
        (cluster.leader, cluster.leader_epoch) = (2, 1);
        cluster.logs[0].batches.truncate(1);
        cluster.logs[0].end = 1;
    });
    let lost = loop {
        match consumer.poll_batches(SECOND).await.unwrap() {
            Poll::Idle => {}
            lost => break lost,
        }
    };
    let expected = Poll::PositionLost {
        partition: first(),
        position: 3,
        log_start: 0,
        log_end: 1,
    };
    assert_eq!(lost, expected);
    assert!(fake.count(ApiKey::OffsetForLeaderEpoch) >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_an_error_that_names_the_partition_and_is_fetched_again() {
    let fake = Fake::new(1);
    write(&fake, &["a"]).await;
    let whole = fake.with(|cluster| cluster.logs[0].batches[0].clone());
    let mut bytes = BytesMut::from(&whole.bytes()[..]);
    *bytes.last_mut().unwrap() ^= 1;
    let damaged = RecordBatch::parse(bytes.freeze()).unwrap();
    fake.with(|cluster| cluster.logs[0].batches[0] = damaged);
    let consumer = consumer(&fake, ConsumerConfig::default()).await;
    let error = consumer.poll(SECOND).await.unwrap_err();
    assert!(matches!(error, ClientError::Corrupt(_)));
    assert!(error.to_string().contains("partition orders-0"), "{error}");
    fake.with(|cluster| cluster.logs[0].batches[0] = whole);
    let read = loop {
        match consumer.poll(SECOND).await {
            Ok(records) => break records,
            Err(error) => assert!(matches!(error, ClientError::Corrupt(_))),
        }
    };
    assert_eq!(read[0].value.as_deref(), Some(&b"a"[..]));
}

#[tokio::test(start_paused = true)]
async fn committed_offsets_are_where_a_group_goes_on() {
    let fake = Fake::new(1);
    write(&fake, &["a", "b", "c"]).await;
    fake.with(|cluster| cluster.committed.insert(0, 2));
    let consumer = consumer(&fake, ConsumerConfig::group("g")).await;
    assert_eq!(values(&consumer, 1).await, ["c"]);
    let committed = consumer.committed(&[first()]).await.unwrap();
    assert_eq!(committed[&first()].offset, 2);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_is_dropped_loses_nothing() {
    let fake = Fake::new(1);
    let consumer = consumer(&fake, ConsumerConfig::default()).await;
    for round in 0..20 {
        let waiting = consumer.poll_batches(SECOND * 60);
        let writing = write(&fake, &["x"]);
        tokio::select! {
            biased;
            () = writing => {}
            poll = waiting => panic!("polled {poll:?} in round {round} before the write returned"),
        }
        assert_eq!(values(&consumer, 1).await, ["x"]);
    }
}

#[tokio::test(start_paused = true)]
async fn paused_partitions_wait_and_keep_what_was_fetched() {
    let fake = Fake::new(1);
    write(&fake, &["a"]).await;
    let consumer = consumer(&fake, ConsumerConfig::default()).await;
    consumer.pause(&[first()]).unwrap();
    assert_eq!(consumer.poll(SECOND).await, Ok(vec![]));
    consumer.resume(&[first()]).unwrap();
    assert_eq!(values(&consumer, 1).await, ["a"]);
    let other = TopicPartition::new(TOPIC, 7);
    assert!(matches!(
        consumer.pause(&[other]),
        Err(ClientError::Invalid(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_coordinator_fell_silent_during_a_join_is_asked_again() {
    let fake = Fake::new(1);
    fake.fault(ApiKey::JoinGroup, &[Fault::Silence; 2]);
    let client = fake.client().await;
    let config = ConsumerConfig::group("g");
    // Then it would have been given up for dead itself.
    let patience = client.config().request_timeout + config.session_timeout + SECOND;
    assert!(patience < config.max_poll_interval);
    let consumer = Consumer::new(&client, config).await.unwrap();
    consumer.subscribe(&[TOPIC]).await.unwrap();
    assert_eq!(consumer.poll_batches(patience).await, Ok(Poll::Idle));
    assert_eq!(fake.count(ApiKey::JoinGroup), 2);
}
