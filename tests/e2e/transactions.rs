//! Transactions across kills of the broker, judged by the history checker: none is torn, none that was aborted is read, none hangs.
//!
//! Three producers that give up soon, so that outcomes are unknown and their successors have to settle them, and a reader of committed records.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flumen_checker::{
    History, Isolation, Marks, Partition, Producer as Kind, Promises, Read, What, check, smallest,
};
use flumen_client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, NewTopic, OffsetSpec, Poll, Producer,
    ProducerConfig, ProducerRecord, TopicPartition,
};

use crate::random::{self, Random};
use crate::server::{PATIENCE, Server};
use crate::streams::runtime;
use crate::until;

const TOPICS: [&str; 2] = ["left", "right"];
const PARTITIONS: u16 = 2;
const PRODUCERS: u32 = 3;
const KILLS: usize = 12;

/// What all tasks share: the history, and numbers that nobody uses twice.
struct Records {
    history: Mutex<History>,
    numbers: AtomicU64,
    processes: AtomicU64,
    commits: AtomicUsize,
    unknown: AtomicUsize,
    stop: AtomicBool,
    began: Instant,
}

impl Records {
    fn note(&self, process: u32, what: What) {
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).expect("a short test");
        self.history
            .lock()
            .expect("nobody panics")
            .push(at_ms, process, what);
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn process(&self, name: &str) -> u32 {
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        let number = u32::try_from(number).expect("few");
        self.history
            .lock()
            .expect("nobody panics")
            .name(number, name);
        number
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

async fn connect(address: &str, patience: Duration) -> Client {
    let config = ClientConfig {
        api_timeout: patience,
        ..ClientConfig::new(address)
    };
    Client::connect(config).await.expect("the broker answers")
}

/// One transactional id: transactions until it is told to stop, under a new producer whenever an outcome is not known.
async fn transact(address: String, id: u32, records: Arc<Records>, mut random: Random) {
    let client = connect(&address, Duration::from_millis(400)).await;
    while !records.stopped() {
        let mut config = ProducerConfig::transactional(format!("tx-{id}"));
        config.transaction_timeout = Duration::from_secs(600);
        config.delivery_timeout = Duration::from_millis(300);
        let Ok(producer) = Producer::new(&client, config).await else {
            continue;
        };
        let process = records.process(&format!("producer {id}"));
        let transactional_id = id;
        records.note(process, What::ProducerStarting { transactional_id });
        if producer.init_transactions().await.is_err() {
            continue;
        }
        records.note(process, What::ProducerStarted { transactional_id });
        while !records.stopped() && transaction(&producer, process, &records, &mut random).await {}
    }
}

/// One transaction; false if its producer is of no more use.
async fn transaction(
    producer: &Producer,
    process: u32,
    records: &Records,
    random: &mut Random,
) -> bool {
    let txn = records.number();
    if producer.begin_transaction().is_err() {
        return false;
    }
    records.note(process, What::TxnBegun { txn });
    let mut deliveries = Vec::new();
    for _ in 0..1 + random.below(6) {
        let (topic, index) = (
            random.below(TOPICS.len()),
            random.below(usize::from(PARTITIONS)),
        );
        let partition = Partition {
            topic: topic as u16,
            index: index as u16,
        };
        let value = records.number();
        let kind = Kind::Transactional(txn);
        records.note(
            process,
            What::Sent {
                producer: kind,
                partition,
                value,
            },
        );
        let record = ProducerRecord::new(TOPICS[topic], value.to_string()).partition(index as i32);
        match producer.send(record).await {
            Ok(delivery) => deliveries.push((value, delivery)),
            Err(_) => records.note(process, What::Unknown { value }),
        }
    }
    let _ = producer.flush().await; // its deliveries say what failed
    for (value, delivery) in deliveries {
        match delivery.await {
            Ok(metadata) => {
                let offset = metadata.offset;
                records.note(process, What::Acked { value, offset });
            }
            Err(_) => records.note(process, What::Unknown { value }),
        }
    }
    if random.below(4) > 0 {
        records.note(process, What::TxnCommitting { txn });
        if producer.commit_transaction().await.is_ok() {
            records.note(process, What::TxnCommitted { txn });
            records.commits.fetch_add(1, Ordering::Relaxed);
            return true;
        }
    } else if producer.abort_transaction().await.is_ok() {
        records.note(process, What::TxnAborted { txn });
        return true;
    }
    records.note(process, What::TxnUnknown { txn });
    records.unknown.fetch_add(1, Ordering::Relaxed);
    false
}

fn all_partitions() -> Vec<TopicPartition> {
    let of = |topic: &&str| {
        let topic = (*topic).to_owned();
        (0..i32::from(PARTITIONS)).map(move |p| TopicPartition::new(&topic, p))
    };
    TOPICS.iter().flat_map(of).collect()
}

fn number_of(partition: &TopicPartition) -> Partition {
    let topic = TOPICS.iter().position(|topic| *topic == partition.topic);
    Partition {
        topic: topic.expect("one of ours") as u16,
        index: partition.partition as u16,
    }
}

/// What a poll brought of each partition.
fn reads(polled: Poll, isolation: Isolation) -> Vec<Read> {
    let Poll::Records(fetched) = polled else {
        return Vec::new();
    };
    let read = |piece: flumen_client::FetchedRecords| Read {
        partition: number_of(&piece.partition),
        isolation,
        from: piece.from_offset,
        next: piece.next_offset,
        records: piece
            .records(flumen::protocol::compression::DecompressionLimit::DEFAULT)
            .map(|record| {
                let record = record.expect("a whole record");
                let value = String::from_utf8(record.value.expect("a value").to_vec());
                (
                    record.offset,
                    value.expect("text").parse().expect("a number"),
                )
            })
            .collect(),
        marks: Marks {
            high_watermark: piece.high_watermark,
            last_stable_offset: piece.last_stable_offset,
            log_start: -1,
        },
    };
    fetched.into_iter().map(read).collect()
}

/// Reads committed records as they come, until it is told to stop.
async fn watch(address: String, records: Arc<Records>) {
    let client = connect(&address, PATIENCE).await;
    let consumer = Consumer::new(&client, ConsumerConfig::default()).await;
    let consumer = consumer.expect("a consumer");
    consumer.assign(all_partitions()).await.expect("assigned");
    let process = records.process("reader");
    let partitions = all_partitions().iter().map(number_of).collect();
    records.note(
        process,
        What::Assigned {
            group: None,
            generation: 0,
            partitions,
        },
    );
    while !records.stopped() {
        let polled = consumer.poll_batches(Duration::from_millis(100)).await;
        for read in reads(polled.expect("records"), Isolation::ReadCommitted) {
            records.note(process, What::Polled(read));
        }
    }
    consumer.close().await;
}

/// Reads every partition from its beginning to its end.
async fn read_all(client: &Client, records: &Records, isolation: Isolation) {
    let config = ConsumerConfig {
        isolation: match isolation {
            Isolation::ReadCommitted => flumen_client::Isolation::ReadCommitted,
            Isolation::ReadUncommitted => flumen_client::Isolation::ReadUncommitted,
        },
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(client, config).await.expect("a consumer");
    consumer.assign(all_partitions()).await.expect("assigned");
    let ends = consumer.end_offsets(&all_partitions()).await.expect("ends");
    let mut whole: BTreeMap<Partition, Read> = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    let missing = |whole: &BTreeMap<Partition, Read>| {
        let at = |of: &TopicPartition| whole.get(&number_of(of)).map_or(0, |read| read.next);
        ends.iter().any(|(of, end)| at(of) < *end)
    };
    while missing(&whole) {
        assert!(Instant::now() < deadline, "{whole:?}");
        let polled = consumer.poll_batches(Duration::from_millis(100)).await;
        for read in reads(polled.expect("records"), isolation) {
            let Some(known) = whole.get_mut(&read.partition) else {
                whole.insert(read.partition, read);
                continue;
            };
            known.records.extend(read.records);
            (known.next, known.marks) = (read.next, read.marks);
        }
    }
    consumer.close().await;
    let process = records.process("final reader");
    for read in whole.into_values() {
        records.note(process, What::FinalRead(read));
    }
}

/// No transaction is open: everything is stable to its end.
async fn nothing_hangs(client: &Client) {
    let admin = Admin::new(client);
    until("every partition is stable to its end", async || {
        let latest = |isolation| OffsetSpec::Latest(isolation);
        let all = all_partitions();
        let ends = admin.list_offsets(&all, latest(flumen_client::Isolation::ReadUncommitted));
        let ends = ends.await.map_err(|e| e.to_string())?;
        let stable = admin.list_offsets(&all, latest(flumen_client::Isolation::ReadCommitted));
        let stable = stable.await.map_err(|e| e.to_string())?;
        let open = ends.iter().find(|(of, end)| stable[of].offset < end.offset);
        open.map_or(Ok(()), |open| Err(format!("{open:?}")))
    })
    .await;
}

#[test]
fn a_dozen_kills_tear_no_transaction() {
    let mut random = random::seeded("a_dozen_kills_tear_no_transaction");
    let mut server = Server::with(&["log.segment.bytes=65536"]);
    let records = Arc::new(Records {
        history: Mutex::default(),
        numbers: AtomicU64::new(1),
        processes: AtomicU64::new(0),
        commits: AtomicUsize::new(0),
        unknown: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        began: Instant::now(),
    });
    runtime().block_on(async {
        let client = connect(&server.address(), PATIENCE).await;
        let topics = TOPICS.map(|topic| NewTopic::new(topic, i32::from(PARTITIONS)));
        let admin = Admin::new(&client);
        admin.ensure_topics(&topics).await.expect("topics");
        let address = server.address();
        let mut tasks = vec![tokio::spawn(watch(address.clone(), Arc::clone(&records)))];
        for id in 0..PRODUCERS {
            let random = random.fork();
            let shared = Arc::clone(&records);
            tasks.push(tokio::spawn(transact(address.clone(), id, shared, random)));
        }
        for kill in 0..=KILLS {
            let goal = records.commits.load(Ordering::Relaxed) + 1 + random.below(60);
            until("transactions are committed", async || {
                let done = records.commits.load(Ordering::Relaxed);
                (done >= goal)
                    .then_some(())
                    .ok_or(format!("{done} of {goal}"))
            })
            .await;
            if kill < KILLS {
                server.kill();
                // Now and then long enough for deliveries and calls to be given up.
                tokio::time::sleep(Duration::from_millis(random.below(700) as u64)).await;
                server.restart();
            }
        }
        records.stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.expect("it ends");
        }
        // What the last producers left open is settled by their successors.
        for id in 0..PRODUCERS {
            let config = ProducerConfig::transactional(format!("tx-{id}"));
            let producer = Producer::new(&client, config).await.expect("a producer");
            producer.init_transactions().await.expect("an id");
        }
        nothing_hangs(&client).await;
        read_all(&client, &records, Isolation::ReadCommitted).await;
        read_all(&client, &records, Isolation::ReadUncommitted).await;
    });
    let history = records.history.lock().expect("nobody panicked");
    let unknown = records.unknown.load(Ordering::Relaxed);
    println!(
        "{} events, {} commits, {unknown} outcomes unknown",
        history.events.len(),
        records.commits.load(Ordering::Relaxed)
    );
    let anomalies = check(&history, &Promises::default());
    if let Some(anomaly) = anomalies.first() {
        panic!(
            "{} anomalies, the first: {anomaly}\n{}",
            anomalies.len(),
            smallest(&history, anomaly)
        );
    }
}
