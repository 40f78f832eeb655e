//! P-10: our producer's buffers are its own until the answer is there or the connection is gone. Kafka's reused one whose delivery had timed
//! out while it was still being sent (CVE-2026-35554), and records went into other topics.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen::client::{
    Client, ClientConfig, Consumer, ConsumerConfig, OffsetReset, Producer, ProducerConfig,
    ProducerRecord, TopicPartition,
};

use crate::random::seeded;
use crate::server::{Server, signal};

const TOPICS: usize = 6;
const ROUNDS: usize = 6;

/// Which topic it was sent to, which record it is, and so much of it that a stray byte shows.
fn content(topic: usize, number: usize) -> Vec<u8> {
    let tag = format!("{topic}:{number}:");
    tag.as_bytes().iter().copied().cycle().take(2_000).collect()
}

#[test]
fn records_stay_in_their_topic_when_deliveries_time_out() {
    let mut random = seeded("timeouts");
    let server = Server::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let config = ClientConfig {
            request_timeout: Duration::from_millis(300),
            ..ClientConfig::new(&server.address())
        };
        let client = Client::connect(config).await.expect("the broker answers");
        let mut sent = 0;
        let (mut acknowledged, mut given_up) = (0, 0);
        for _ in 0..ROUNDS {
            // Idempotent producers would begin anew after each timeout: the plain one is the harder case.
            let producer = Producer::new(
                &client,
                ProducerConfig {
                    idempotent: false,
                    delivery_timeout: Duration::from_millis(400),
                    linger: Duration::from_millis(1),
                    batch_bytes: 8_000,
                    ..ProducerConfig::default()
                },
            );
            let producer = producer.await.expect("a producer");
            let mut deliveries = Vec::new();
            for burst in 0..3 {
                if burst == 1 {
                    // The broker holds still, with requests half sent and half answered.
                    signal(server.id(), "STOP");
                }
                for _ in 0..200 {
                    let topic = random.below(TOPICS);
                    let record = ProducerRecord::new(format!("t{topic}"), content(topic, sent));
                    sent += 1;
                    if let Ok(delivery) = producer.send(record).await {
                        deliveries.push(delivery);
                    }
                }
                if burst == 1 {
                    // Until at least one delivery has been given up.
                    let first = deliveries.pop().expect("a record was taken");
                    given_up += usize::from(first.await.is_err());
                    signal(server.id(), "CONT");
                }
            }
            for delivery in deliveries {
                match delivery.await {
                    Ok(_) => acknowledged += 1,
                    Err(_) => given_up += 1,
                }
            }
            drop(producer.close().await);
        }
        println!("{sent} sent, {acknowledged} acknowledged, {given_up} given up");
        assert!(
            acknowledged > 0 && given_up > 0,
            "{acknowledged} {given_up}"
        );
        let found = read_all(&client).await;
        assert!(found >= acknowledged, "{found} of {acknowledged} are there");
    });
}

/// Reads all topics from the beginning; every record must be one that was sent to its topic.
async fn read_all(client: &Client) -> usize {
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(client, config).await.expect("a consumer");
    let partitions: Vec<TopicPartition> = (0..TOPICS)
        .map(|topic| TopicPartition::new(format!("t{topic}"), 0))
        .collect();
    let ends = consumer.end_offsets(&partitions).await.expect("their ends");
    let mut missing: i64 = ends.values().sum();
    consumer.assign(partitions).await.expect("assigned");
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    while missing > 0 {
        let records = consumer.poll(Duration::from_secs(1)).await;
        for record in records.expect("readable records") {
            missing -= 1;
            let value = record.value.expect("a value");
            let text = String::from_utf8_lossy(&value).into_owned();
            let mut tag = text.split(':');
            let topic: usize = tag.next().and_then(|n| n.parse().ok()).expect("a tag");
            let number: usize = tag.next().and_then(|n| n.parse().ok()).expect("a tag");
            assert_eq!(*record.topic, *format!("t{topic}"), "record {number}");
            assert!(value == content(topic, number), "record {number} is torn");
            *seen.entry(number).or_default() += 1;
        }
    }
    seen.len()
}
