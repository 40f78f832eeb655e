//! The crate rdkafka: records in the codecs it is built with, an idempotent and a transactional producer, two members of a group, offsets by time,
//! administration, against the broker named first. `tests/e2e/clients.rs` starts it; it asserts, and says `ok` at its end.

use std::collections::BTreeSet;
use std::env::args;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(30);
/// Without zstd, whose C code takes as long to build as all else; confluent-kafka has it.
const CODECS: [&str; 4] = ["none", "gzip", "snappy", "lz4"];
const TIME: i64 = 1_700_000_000_000;

type Admin = AdminClient<DefaultClientContext>;

fn main() {
    administration();
    records();
    transactions();
    two_members();
    println!("ok");
}

fn config(more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set(
        "bootstrap.servers",
        args().nth(1).expect("the broker's address"),
    );
    for (key, value) in more {
        config.set(*key, *value);
    }
    config
}

fn producer(more: &[(&str, &str)]) -> BaseProducer {
    config(more).create().unwrap()
}

fn consumer(group: &str, more: &[(&str, &str)]) -> BaseConsumer {
    let mut config = config(&[
        ("group.id", group),
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "false"),
    ]);
    for (key, value) in more {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

fn send(producer: &BaseProducer, topic: &str, value: &str, time: i64) {
    producer
        .send(
            BaseRecord::to(topic)
                .key("k")
                .payload(value)
                .timestamp(time),
        )
        .unwrap();
}

fn text(message: &BorrowedMessage) -> String {
    message.payload_view::<str>().unwrap().unwrap().to_owned()
}

/// A poll may come back early, for a rebalance.
fn next(consumer: &BaseConsumer) -> String {
    let begun = Instant::now();
    loop {
        if let Some(message) = consumer.poll(PATIENCE) {
            return text(&message.unwrap());
        }
        assert!(begun.elapsed() < PATIENCE, "no record within 30 s");
    }
}

/// One topic of so many partitions; what the broker says to it.
fn create(admin: &Admin, topic: &str, partitions: i32) -> Result<(), RDKafkaErrorCode> {
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let done = block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    done.into_iter()
        .next()
        .unwrap()
        .map(drop)
        .map_err(|(_, error)| error)
}

fn administration() {
    let admin: Admin = config(&[]).create().unwrap();
    let asked = AdminOptions::new();
    create(&admin, "admin", 2).unwrap();
    assert_eq!(
        create(&admin, "admin", 2),
        Err(RDKafkaErrorCode::TopicAlreadyExists)
    );
    block_on(admin.create_partitions(&[NewPartitions::new("admin", 4)], &asked))
        .unwrap()
        .remove(0)
        .unwrap();
    let of = ResourceSpecifier::Topic("admin");
    let retention = AlterConfig::new(of).set("retention.ms", "7200000");
    block_on(admin.alter_configs(&[retention], &asked))
        .unwrap()
        .remove(0)
        .unwrap();
    let described = block_on(admin.describe_configs([&of], &asked))
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(
        described.get("retention.ms").unwrap().value.as_deref(),
        Some("7200000")
    );

    let metadata = admin
        .inner()
        .fetch_metadata(Some("admin"), PATIENCE)
        .unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 4);
    block_on(admin.delete_topics(&["admin"], &asked))
        .unwrap()
        .remove(0)
        .unwrap();
    let again = block_on(admin.delete_topics(&["admin"], &asked))
        .unwrap()
        .remove(0);
    assert_eq!(
        again.unwrap_err().1,
        RDKafkaErrorCode::UnknownTopicOrPartition
    );
}

fn records() {
    let admin: Admin = config(&[]).create().unwrap();
    create(&admin, "records", 1).unwrap();
    for codec in CODECS {
        let producer = producer(&[
            ("compression.type", codec),
            ("linger.ms", "5"),
            ("enable.idempotence", "true"),
        ]);
        for n in 0..200 {
            send(&producer, "records", &format!("{codec}-{n}"), TIME + n);
        }
        producer.flush(PATIENCE).unwrap();
    }
    let reader = consumer("records", &[("check.crcs", "true")]);
    let mut place = TopicPartitionList::new();
    place
        .add_partition_offset("records", 0, Offset::Beginning)
        .unwrap();
    reader.assign(&place).unwrap();
    for codec in CODECS {
        for n in 0..200 {
            assert_eq!(next(&reader), format!("{codec}-{n}"));
        }
    }
    assert_eq!(
        reader.fetch_watermarks("records", 0, PATIENCE).unwrap(),
        (0, 800)
    );
    let mut at = TopicPartitionList::new();
    at.add_partition_offset("records", 0, Offset::Offset(TIME + 150))
        .unwrap();
    let found = reader.offsets_for_times(at, PATIENCE).unwrap();
    assert_eq!(found.elements()[0].offset(), Offset::Offset(150));
}

/// One that must not be seen, one that must, with the position of a reader; then a producer of the same id that fences the first.
fn transactions() {
    let admin: Admin = config(&[]).create().unwrap();
    create(&admin, "out", 1).unwrap();
    let reader = consumer("mover", &[]);
    let id = [("transactional.id", "mover")];
    let first = producer(&id);
    first.init_transactions(PATIENCE).unwrap();
    for keep in [false, true] {
        first.begin_transaction().unwrap();
        for n in 0..10 {
            send(&first, "out", &format!("{keep}-{n}"), TIME);
        }
        let mut position = TopicPartitionList::new();
        position
            .add_partition_offset("records", 0, Offset::Offset(if keep { 700 } else { 300 }))
            .unwrap();
        first
            .send_offsets_to_transaction(&position, &reader.group_metadata().unwrap(), PATIENCE)
            .unwrap();
        if keep {
            first.commit_transaction(PATIENCE).unwrap();
        } else {
            first.flush(PATIENCE).unwrap();
            first.abort_transaction(PATIENCE).unwrap();
        }
    }
    let mut of = TopicPartitionList::new();
    of.add_partition("records", 0);
    let committed = reader.committed_offsets(of, PATIENCE).unwrap();
    assert_eq!(committed.elements()[0].offset(), Offset::Offset(700));

    let reader = consumer("readers", &[("isolation.level", "read_committed")]);
    reader.subscribe(&["out"]).unwrap();
    for n in 0..10 {
        assert_eq!(next(&reader), format!("true-{n}"));
    }

    let second = producer(&id);
    second.init_transactions(PATIENCE).unwrap();
    first.begin_transaction().unwrap();
    send(&first, "out", "late", TIME);
    match first.commit_transaction(PATIENCE) {
        Err(KafkaError::Transaction(error)) => assert!(error.is_fatal(), "{error}"),
        other => panic!("a fenced producer committed: {other:?}"),
    }
}

/// Everything is read, by two of which one comes later and one leaves earlier.
fn two_members() {
    let admin: Admin = config(&[]).create().unwrap();
    create(&admin, "work", 4).unwrap();
    let writer = producer(&[]);
    for n in 0..400 {
        let value = n.to_string();
        writer
            .send(
                BaseRecord::<(), _>::to("work")
                    .partition(n % 4)
                    .payload(&value),
            )
            .unwrap();
    }
    writer.flush(PATIENCE).unwrap();
    let member = || {
        let member = consumer("team", &[("session.timeout.ms", "10000")]);
        member.subscribe(&["work"]).unwrap();
        member
    };
    let mut seen = BTreeSet::new();
    let mut poll = |members: &[&BaseConsumer]| {
        for member in members {
            if let Some(message) = member.poll(Duration::from_millis(20)) {
                let message = message.unwrap();
                seen.insert(text(&message));
                member.commit_message(&message, CommitMode::Async).unwrap();
            }
        }
        seen.len()
    };
    let owned = |member: &BaseConsumer| member.assignment().unwrap().count();
    let begun = Instant::now();
    let in_time = || assert!(begun.elapsed() < 4 * PATIENCE, "the group does not settle");

    let one = member();
    while owned(&one) < 4 {
        poll(&[&one]);
        in_time();
    }
    let two = member();
    while (owned(&one), owned(&two)) != (2, 2) {
        poll(&[&one, &two]);
        in_time();
    }
    drop(one);
    while owned(&two) < 4 || poll(&[&two]) < 400 {
        poll(&[&two]);
        in_time();
    }
}
