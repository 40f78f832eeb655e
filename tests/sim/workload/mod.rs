//! The hosts beside the broker: who they are, and what each of them has at hand.
//!
//! One file for each kind of host, with an `async fn run(Stage, Options)` that does its work until the stage is in [`Phase::Stop`], then finishes
//! what it has begun and returns. A host may die at any await and be run again from the start: what must outlive it lies with the broker.
//! To add a kind: a file, a variant of [`Kind`], an arm in [`Kind::run`], a line in [`hosts`].

mod auditor;
mod connectors;
mod consumer;
mod group;
pub(crate) mod mover;
mod producer;
mod table;
mod topology;
mod transactions;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flumen_checker::Partition;
use flumen_client::{
    Admin, Client, ClientConfig, ConsumerConfig, NewTopic, ProducerConfig, TopicPartition,
};
use tokio::sync::watch;

use crate::dice::Dice;
use crate::drivers::clients_wall_ms;
use crate::network::{ClientTransport, Wires};
use crate::plan::{Host, Plan, Profile};
use crate::recorder::{Journal, Recorder};

/// Address of the broker.
pub(crate) const BROKER: &str = "broker:9092";

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Work, among faults and after them.
    Work,
    /// Finish, and return.
    Stop,
    /// All others have returned: the auditor reads everything.
    Audit,
}

/// What a host does.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Sends outside of transactions.
    Producer(producer::Options),
    /// Sends inside of transactions.
    Transactions(transactions::Options),
    /// Reads partitions that it chose itself.
    Consumer(consumer::Options),
    /// Reads as a member of a group, and commits.
    Group(group::Options),
    /// Reads as a member of a group and writes what it read elsewhere, exactly once.
    Mover(mover::Options),
    /// An application of streams, exactly once.
    Topology(topology::Options),
    /// A worker of connect with a file source and a file sink.
    Connectors(connectors::Options),
    /// Writes a compacted topic and reads it.
    Table(table::Options),
    /// Reads everything at the end.
    Auditor,
}

impl Kind {
    /// Runs the host until the stage stops. An error fails the run.
    pub(crate) fn run(&self, stage: Stage) -> Pin<Box<dyn Future<Output = turmoil::Result>>> {
        match self.clone() {
            Kind::Producer(options) => Box::pin(producer::run(stage, options)),
            Kind::Transactions(options) => Box::pin(transactions::run(stage, options)),
            Kind::Consumer(options) => Box::pin(consumer::run(stage, options)),
            Kind::Group(options) => Box::pin(group::run(stage, options)),
            Kind::Mover(options) => Box::pin(mover::run(stage, options)),
            Kind::Topology(options) => Box::pin(topology::run(stage, options)),
            Kind::Connectors(options) => Box::pin(connectors::run(stage, options)),
            Kind::Table(options) => Box::pin(table::run(stage, options)),
            Kind::Auditor => Box::pin(auditor::run(stage)),
        }
    }
}

/// The hosts of a run. Topics are numbers in [`Plan::topics`].
pub(crate) fn hosts(profile: Profile, dice: &mut Dice) -> Vec<Host> {
    let mut hosts = Vec::new();
    let mut add = |name: String, kind: Kind| hosts.push(Host { name, kind });
    add("plain".to_owned(), Kind::Producer(producer::plain(dice)));
    add(
        "idempotent".to_owned(),
        Kind::Producer(producer::idempotent(dice)),
    );
    // Two hosts share a transactional id and fence each other.
    for name in ["txn-a", "txn-b"] {
        let options = transactions::Options::of("shared", 0, dice);
        add(name.to_owned(), Kind::Transactions(options));
    }
    if profile == Profile::Transactions {
        let options = transactions::Options::of("alone", 1, dice);
        add("txn-c".to_owned(), Kind::Transactions(options));
    }
    add(
        "committed".to_owned(),
        Kind::Consumer(consumer::committed()),
    );
    add(
        "uncommitted".to_owned(),
        Kind::Consumer(consumer::uncommitted()),
    );
    let grouped = matches!(profile, Profile::Groups | Profile::Mixed);
    if grouped || dice.chance(40) {
        for member in 0..3 {
            let options = group::Options::of(profile, dice);
            add(format!("member-{member}"), Kind::Group(options));
        }
    }
    let moving = matches!(profile, Profile::Groups | Profile::Transactions);
    if moving || dice.chance(40) {
        for member in 0..2 {
            let options = mover::Options::of(member, dice);
            add(format!("mover-{member}"), Kind::Mover(options));
        }
    }
    // One of them, because an application or a worker costs as much as all the others together.
    match dice.below(3) {
        0 => add(
            "topology".to_owned(),
            Kind::Topology(topology::Options::of(dice)),
        ),
        1 => add(
            "connectors".to_owned(),
            Kind::Connectors(connectors::Options::of(dice)),
        ),
        _ => add("table".to_owned(), Kind::Table(table::Options::of(dice))),
    }
    add("auditor".to_owned(), Kind::Auditor);
    hosts
}

/// What a host has at hand. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) plan: Arc<Plan>,
    pub(crate) name: String,
    /// Number of its role in the history.
    pub(crate) role: u32,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) recorder: Recorder,
    pub(crate) wires: Arc<Wires>,
    /// See [`Stage::folder`].
    pub(crate) disk: Arc<OnceLock<tempfile::TempDir>>,
    /// How often it was started.
    pub(crate) life: u64,
}

impl Stage {
    /// A new process of this host's role: for each new producer, consumer or start.
    pub(crate) fn process(&self) -> Journal {
        self.recorder.process(self.role)
    }

    /// Chance for one purpose; another stream in each life.
    pub(crate) fn dice(&self, purpose: &str) -> Dice {
        let purpose = format!("{}/{}/{purpose}", self.name, self.life);
        Dice::new(self.plan.seed, &purpose)
    }

    /// Whether it shall finish.
    pub(crate) fn stops(&self) -> bool {
        *self.phase.borrow() != Phase::Work
    }

    /// Waits for so long, less if the run stops.
    pub(crate) async fn pause(&self, lasting: Duration) {
        let mut phase = self.phase.clone();
        let stop = phase.wait_for(|phase| *phase != Phase::Work);
        let _ = tokio::time::timeout(lasting, stop).await;
    }

    /// A folder of the host's real disk, which outlives it.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = self.disk.get_or_init(|| tempfile::tempdir().unwrap());
        folder.path().to_owned()
    }

    /// How its clients reach the broker.
    pub(crate) fn client_config(&self) -> ClientConfig {
        ClientConfig {
            bootstrap_servers: vec![BROKER.to_owned()],
            client_id: self.name.clone(),
            request_timeout: self.plan.request_timeout,
            api_timeout: Duration::from_secs(6),
            connect_timeout: Duration::from_secs(1),
            retry_backoff: Duration::from_millis(20),
            retry_backoff_max: Duration::from_millis(500),
            transport: Arc::new(ClientTransport(Arc::clone(&self.wires))),
            wall_clock: Some(clients_wall_ms),
            seed: Some(self.dice("client").next()),
            ..ClientConfig::default()
        }
    }

    /// A client of the broker, with all topics there.
    pub(crate) async fn client(&self) -> Client {
        let config = self.client_config();
        let topics: Vec<NewTopic> = self
            .plan
            .topics
            .iter()
            .map(|topic| NewTopic::new(topic.name, i32::from(topic.partitions)))
            .collect();
        loop {
            match Client::connect(config.clone()).await {
                Ok(client) => match Admin::new(&client).ensure_topics(&topics).await {
                    Ok(()) => return client,
                    Err(error) => self.recorder.note(format_args!("no topics yet: {error}")),
                },
                Err(error) => self.recorder.note(format_args!("no client yet: {error}")),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Options of a producer that gives up within the patience of a run.
    pub(crate) fn producer_config(&self) -> ProducerConfig {
        ProducerConfig {
            delivery_timeout: Duration::from_secs(8),
            max_block: Duration::from_secs(5),
            transaction_timeout: self.plan.transaction_timeout,
            ..ProducerConfig::default()
        }
    }

    /// Options of a consumer of this run.
    pub(crate) fn consumer_config(&self) -> ConsumerConfig {
        ConsumerConfig {
            session_timeout: self.plan.session_timeout,
            heartbeat_interval: self.plan.session_timeout / 6,
            max_poll_interval: Duration::from_secs(6),
            fetch_max_wait: Duration::from_millis(500),
            ..ConsumerConfig::default()
        }
    }

    /// The partitions of a topic, by the topic's number.
    pub(crate) fn partitions(&self, topic: u16) -> Vec<Partition> {
        let count = self.plan.topics[usize::from(topic)].partitions;
        (0..count).map(|index| Partition { topic, index }).collect()
    }

    pub(crate) fn all_partitions(&self) -> Vec<Partition> {
        let topics = u16::try_from(self.plan.topics.len()).unwrap();
        (0..topics)
            .flat_map(|topic| self.partitions(topic))
            .collect()
    }

    pub(crate) fn topic(&self, partition: Partition) -> &'static str {
        self.plan.topics[usize::from(partition.topic)].name
    }

    /// As the client names it.
    pub(crate) fn wire_name(&self, partition: Partition) -> TopicPartition {
        TopicPartition::new(self.topic(partition), i32::from(partition.index))
    }

    /// As the history names it.
    pub(crate) fn known(&self, partition: &TopicPartition) -> Partition {
        let topic = self
            .plan
            .topics
            .iter()
            .position(|topic| topic.name == partition.topic)
            .expect("a topic of the plan");
        Partition {
            topic: u16::try_from(topic).unwrap(),
            index: u16::try_from(partition.partition).unwrap(),
        }
    }
}

/// A record's value: its number, and filling.
pub(crate) fn payload(value: u64, filling: usize) -> Vec<u8> {
    let mut bytes = value.to_be_bytes().to_vec();
    bytes.extend(std::iter::repeat_n(value.to_le_bytes()[0], filling));
    bytes
}

/// The number in a record's value.
pub(crate) fn number_of(value: Option<&bytes::Bytes>) -> u64 {
    let bytes = value.expect("every record has a value");
    u64::from_be_bytes(bytes[..8].try_into().expect("every value has a number"))
}
