//! Streams against the real broker: processes that are killed, instances that share and take over, identities claimed twice.
//! Whatever dies, the outputs are those of a run in which nothing died.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use flumen_client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig,
    ProducerRecord,
};
use flumen_streams::{
    Consumed, Grouped, KafkaStreams, Materialized, ProcessingGuarantee, Produced, StreamsBuilder,
    StreamsConfig, StreamsError, StreamsMetrics, StreamsState, Topology, serdes,
};

use crate::random::{self, Random};
use crate::server::{PATIENCE, Server};

const PARTITIONS: i32 = 3;
const WORDS: usize = 40;
const CHILD: &str = "FLUMEN_TEST_STREAMS_CHILD";

/// Counts words: a repartition and a store between two topics.
fn word_count() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream("lines", Consumed::with(serdes::nothing(), serdes::string()))
        .flat_map_values(|line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .group_by(
            |_, word| word.clone(),
            Grouped::with(serdes::string(), serdes::string()).named("words"),
        )
        .count(Materialized::as_("counts"))
        .to_stream()
        .to("counts", Produced::with(serdes::string(), serdes::i64()));
    builder.build().expect("a topology")
}

fn config(broker: &str, folder: &Path) -> StreamsConfig {
    let mut config = StreamsConfig::new("word-count", broker);
    config.state_dir = folder.to_owned();
    config.session_timeout = Duration::from_secs(6);
    config.heartbeat_interval = Duration::from_millis(500);
    config.spill_interval = Duration::from_millis(300);
    config
}

/// What was written, and what the outputs have to be.
struct World {
    client: Client,
    producer: Producer,
    expected: BTreeMap<String, i64>,
}

impl World {
    async fn new(server: &Server) -> World {
        let client = Client::connect(ClientConfig::new(&server.address())).await;
        let client = client.expect("the broker answers");
        let topics = ["lines", "counts"].map(|topic| NewTopic::new(topic, PARTITIONS));
        Admin::new(&client)
            .ensure_topics(&topics)
            .await
            .expect("topics");
        let producer = Producer::new(&client, ProducerConfig::default()).await;
        let producer = producer.expect("a producer");
        World {
            client,
            producer,
            expected: BTreeMap::new(),
        }
    }

    /// Writes lines and waits until they are acknowledged.
    async fn write(&mut self, random: &mut Random, lines: usize) {
        let mut deliveries = Vec::new();
        for _ in 0..lines {
            let words: Vec<String> = (0..5)
                .map(|_| format!("w{}", random.below(WORDS)))
                .collect();
            for word in &words {
                *self.expected.entry(word.clone()).or_default() += 1;
            }
            let partition = i32::try_from(random.below(PARTITIONS as usize)).expect("small");
            let record = ProducerRecord::new("lines", words.join(" ")).partition(partition);
            deliveries.push(self.producer.send(record).await.expect("room"));
        }
        for delivery in deliveries {
            delivery.await.expect("acknowledged");
        }
    }

    /// Reads the committed outputs until they are as expected; they must never go back or repeat (`exact`).
    async fn outputs_are_right(&self, exact: bool) {
        let consumer = Consumer::new(&self.client, ConsumerConfig::default()).await;
        let consumer = consumer.expect("a consumer");
        let all = (0..PARTITIONS).map(|p| flumen_client::TopicPartition::new("counts", p));
        consumer.assign(all.collect()).await.expect("assigned");
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        let deadline = Instant::now() + PATIENCE;
        while counts != self.expected {
            assert!(
                Instant::now() < deadline,
                "expected {:?}, found {counts:?}",
                self.expected
            );
            for record in consumer
                .poll(Duration::from_millis(200))
                .await
                .expect("records")
            {
                let word = String::from_utf8(record.key.expect("a key").to_vec()).expect("a word");
                let count = record.value.expect("a value");
                let count = i64::from_be_bytes(count[..].try_into().expect("eight bytes"));
                let before = counts.insert(word.clone(), count);
                assert!(
                    !exact || before < Some(count),
                    "{word}: {count} after {before:?}"
                );
            }
        }
        consumer.close().await;
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The application in a process of its own, so that it can be killed.
struct Process {
    child: Child,
    says: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(broker: &str, folder: &Path) -> Process {
        let me = std::env::current_exe().expect("this test");
        let mut child = Command::new(me)
            .args([
                "--exact",
                "streams::counts_are_exact_whatever_is_killed",
                "--nocapture",
            ])
            .env(CHILD, format!("{broker} {}", folder.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test starts itself");
        let stdout = child.stdout.take().expect("piped");
        let says = BufReader::new(stdout).lines();
        Process { child, says }
    }

    /// Waits until all its tasks run: how many records were restored, and stores from nothing although they had a position.
    fn running(&mut self) -> (u64, u64) {
        let line = self
            .says
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.starts_with("restored: "));
        let line = line.expect("the application runs");
        let mut numbers = line
            .split(' ')
            .skip(1)
            .map(|number| number.parse().expect("a number"));
        (
            numbers.next().expect("restored"),
            numbers.next().expect("wiped"),
        )
    }

    fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("a killed child ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the child process does, until it is killed.
async fn run_for_ever(task: &str) -> ! {
    let (broker, folder) = task.split_once(' ').expect("broker and folder");
    let streams = KafkaStreams::start(word_count(), config(broker, Path::new(folder))).await;
    let mut streams = streams.expect("it starts");
    assert!(streams.running().await, "it runs");
    let metrics = streams.metrics();
    let restored = StreamsMetrics::get(&metrics.restored_records);
    println!(
        "\nrestored: {restored} {}",
        StreamsMetrics::get(&metrics.full_restores)
    );
    panic!("stopped by itself: {:?}", streams.stopped().await);
}

#[test]
fn counts_are_exact_whatever_is_killed() {
    if let Ok(task) = std::env::var(CHILD) {
        runtime().block_on(run_for_ever(&task));
    }
    let mut random = random::seeded("counts_are_exact_whatever_is_killed");
    let mut server = Server::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    runtime().block_on(async {
        let mut world = World::new(&server).await;
        let mut process = Process::start(&server.address(), folder.path());
        assert_eq!(process.running(), (0, 0), "there is nothing to restore");
        for round in 0..7 {
            for _ in 0..4 + random.below(12) {
                world.write(&mut random, 40).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if round == 3 {
                server.kill();
                server.restart();
                continue;
            }
            process.kill();
            process = Process::start(&server.address(), folder.path());
            let (restored, wiped) = process.running();
            let all: i64 = world.expected.values().sum();
            println!("round {round}: {restored} changelog records restored, {all} words so far");
            assert_eq!(wiped, 0);
        }
        world.outputs_are_right(true).await;
        let logged = changelog_end(&world.client).await;
        process.kill();
        process = Process::start(&server.address(), folder.path());
        let (restored, _) = process.running();
        println!("restored at the end: {restored} of {logged}");
        assert!(
            restored * 2 < logged,
            "only the tail of the changelog: {restored} of {logged}"
        );
    });
}

async fn changelog_end(client: &Client) -> u64 {
    let consumer = Consumer::new(client, ConsumerConfig::default())
        .await
        .expect("a consumer");
    let topic = "word-count-counts-changelog";
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|p| flumen_client::TopicPartition::new(topic, p))
        .collect();
    let ends = consumer.end_offsets(&partitions).await.expect("offsets");
    consumer.close().await;
    ends.values()
        .map(|end| u64::try_from(*end).unwrap_or(0))
        .sum()
}

#[test]
fn instances_share_the_work_and_take_it_over() {
    let mut random = random::seeded("instances_share_the_work_and_take_it_over");
    let server = Server::start();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    runtime().block_on(async {
        let mut world = World::new(&server).await;
        let start = |at: usize| {
            KafkaStreams::start(word_count(), config(&server.address(), folders[at].path()))
        };
        let first = start(0).await.expect("it starts");
        assert!(first.running().await);
        world.write(&mut random, 300).await;
        let second = start(1).await.expect("it starts");
        let deadline = Instant::now() + PATIENCE;
        while StreamsMetrics::get(&second.metrics().engine.records_in) == 0 {
            assert!(
                Instant::now() < deadline,
                "the second instance gets no work"
            );
            world.write(&mut random, 100).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A crash of one: its session ends, the other takes over. Then a clean end of the other, and the first is back.
        second.abort().await;
        world.write(&mut random, 300).await;
        world.outputs_are_right(true).await;
        let second = start(1).await.expect("it starts");
        assert!(second.running().await);
        world.write(&mut random, 300).await;
        first.close().await.expect("it closes");
        world.write(&mut random, 300).await;
        world.outputs_are_right(true).await;
        assert_eq!(second.state(), StreamsState::Running);
        second.close().await.expect("it closes");
    });
}

#[test]
fn the_older_of_two_with_one_identity_stops_and_says_so() {
    let mut random = random::seeded("the_older_of_two_with_one_identity_stops_and_says_so");
    let server = Server::start();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    runtime().block_on(async {
        let mut world = World::new(&server).await;
        let older = KafkaStreams::start(word_count(), config(&server.address(), folders[0].path()));
        let mut older = older.await.expect("it starts");
        assert!(older.running().await);
        let copy = folders[1].path().join("word-count");
        std::fs::create_dir_all(&copy).expect("a folder");
        let id = folders[0].path().join("word-count/process-id");
        std::fs::copy(id, copy.join("process-id")).expect("copied");
        let newer = KafkaStreams::start(word_count(), config(&server.address(), folders[1].path()));
        let newer = newer.await.expect("it starts");
        world.write(&mut random, 200).await;
        let stopped = tokio::time::timeout(PATIENCE, older.stopped())
            .await
            .expect("it stops");
        let Err(StreamsError::Fenced { .. }) = &stopped else {
            panic!("{stopped:?}")
        };
        println!("{}", stopped.unwrap_err());
        assert_eq!(older.state(), StreamsState::Error);
        world.outputs_are_right(true).await;
        newer.close().await.expect("it closes");
    });
}

#[test]
fn at_least_once_goes_on_where_it_closed() {
    let mut random = random::seeded("at_least_once_goes_on_where_it_closed");
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    runtime().block_on(async {
        let mut world = World::new(&server).await;
        let mut config = config(&server.address(), folder.path());
        config.guarantee = ProcessingGuarantee::AtLeastOnce;
        let streams = KafkaStreams::start(word_count(), config.clone())
            .await
            .expect("it starts");
        assert!(streams.running().await);
        world.write(&mut random, 300).await;
        world.outputs_are_right(false).await;
        streams
            .close()
            .await
            .expect("it closes, and commits its positions");
        let streams = KafkaStreams::start(word_count(), config)
            .await
            .expect("it starts");
        world.write(&mut random, 300).await;
        world.outputs_are_right(false).await;
        streams.close().await.expect("it closes");
    });
}
