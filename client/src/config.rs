//! Options of clients, producers and consumers, each with its Java name and its default.
//!
//! Plain data. Read once when the part is made, never looked up later.

use std::sync::Arc;
use std::time::Duration;

use flumen_protocol::compression::Compression;

use crate::consumer::{Assignor, CooperativeStickyAssignor, RangeAssignor};
use crate::transport::{TcpTransport, Transport};

/// How a [`Client`](crate::Client) reaches a cluster.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `host:port` of some brokers; the others are learnt from them. Java: `bootstrap.servers`.
    pub bootstrap_servers: Vec<String>,
    /// The name in the broker's logs, quotas and metrics. Java: `client.id`.
    pub client_id: String,
    /// The longest wait for one answer; after it the connection is given up. Java: `request.timeout.ms`, 30 s.
    pub request_timeout: Duration,
    /// The longest time a call retries before it returns an error. Java: `default.api.timeout.ms`, 60 s.
    pub api_timeout: Duration,
    /// The longest wait for a socket to open and versions to be agreed. Java: `socket.connection.setup.timeout.ms`, 10 s.
    pub connect_timeout: Duration,
    /// The wait before a second attempt; it doubles up to [`retry_backoff_max`](Self::retry_backoff_max).
    /// Java: `retry.backoff.ms` and `reconnect.backoff.ms`, 100 ms and 50 ms.
    pub retry_backoff: Duration,
    /// Java: `retry.backoff.max.ms` and `reconnect.backoff.max.ms`, 1 s.
    pub retry_backoff_max: Duration,
    /// What is known of the cluster is asked again after this time. Java: `metadata.max.age.ms`, 5 min.
    pub metadata_max_age: Duration,
    /// Whether asking about an unknown topic may create it. Java: `allow.auto.create.topics`, true.
    pub allow_auto_topic_creation: bool,
    /// The largest answer accepted from a broker, bytes. Kafka's brokers send at most 55 MiB and one batch.
    pub receive_bytes_max: usize,
    /// How sockets are opened: [`TcpTransport`], or the simulator's.
    pub transport: Arc<dyn Transport>,
    /// Milliseconds since 1970, for records that come without a timestamp; none is the system's clock.
    /// The simulator brings its own.
    pub wall_clock: Option<fn() -> i64>,
    /// Seed of back-off jitter and sticky partitions; none is a different one in every process.
    pub seed: Option<u64>,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            bootstrap_servers: vec!["localhost:9092".to_owned()],
            client_id: "flumen".to_owned(),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            retry_backoff: Duration::from_millis(50),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            allow_auto_topic_creation: true,
            receive_bytes_max: 100 * 1024 * 1024,
            transport: Arc::new(TcpTransport),
            wall_clock: None,
            seed: None,
        }
    }
}

impl ClientConfig {
    /// The defaults, with these brokers (`host:port`, several separated by commas).
    #[must_use]
    pub fn new(bootstrap_servers: &str) -> ClientConfig {
        ClientConfig {
            bootstrap_servers: bootstrap_servers
                .split(',')
                .map(|server| server.trim().to_owned())
                .filter(|server| !server.is_empty())
                .collect(),
            ..ClientConfig::default()
        }
    }
}

/// When a write counts as done. Java: `acks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Never asked: records may be lost without a word, and offsets are unknown.
    None,
    /// The leader has it.
    Leader,
    /// All in-sync replicas have it.
    #[default]
    All,
}

impl Acks {
    pub(crate) fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// How a [`Producer`](crate::Producer) batches and what it promises.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Java: `acks`, all.
    pub acks: Acks,
    /// How long a batch waits for more records. Batches wait longer only while the partition has as many
    /// requests out as it may. Java: `linger.ms`, 5 ms.
    pub linger: Duration,
    /// A batch is closed when its records reach this many bytes (before compression). Java: `batch.size`, there 16 KiB.
    pub batch_bytes: usize,
    /// Java: `compression.type`, none.
    pub compression: Compression,
    /// Retries never write a record twice and keep the order. Needs `acks` all. Java: `enable.idempotence`, true.
    pub idempotent: bool,
    /// Turns transactions on: the name under which open transactions of an earlier run are fenced and aborted.
    /// Java: `transactional.id`.
    pub transactional_id: Option<String>,
    /// The broker aborts a transaction left open for so long. Java: `transaction.timeout.ms`, 60 s.
    pub transaction_timeout: Duration,
    /// From `send` to success or failure, all retries included. Java: `delivery.timeout.ms`, 2 min.
    pub delivery_timeout: Duration,
    /// Bytes of records accepted and not yet acknowledged; beyond, `send` waits. Java: `buffer.memory`, 32 MiB.
    pub buffer_bytes: usize,
    /// The longest `send` waits for room. Java: `max.block.ms`, 60 s.
    pub max_block: Duration,
    /// Requests on the way to one broker at a time, and batches of one partition; at most 5 with idempotence,
    /// because a broker remembers that many. Java: `max.in.flight.requests.per.connection`, 5.
    pub max_in_flight: usize,
    /// The largest request, bytes. Java: `max.request.size`, 1 MiB.
    pub max_request_bytes: usize,
}

impl Default for ProducerConfig {
    fn default() -> ProducerConfig {
        ProducerConfig {
            acks: Acks::All,
            linger: Duration::from_millis(5),
            batch_bytes: 64 * 1024,
            compression: Compression::None,
            idempotent: true,
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            buffer_bytes: 32 * 1024 * 1024,
            max_block: Duration::from_secs(60),
            max_in_flight: 5,
            max_request_bytes: 1024 * 1024,
        }
    }
}

impl ProducerConfig {
    /// The defaults, with transactions under this id.
    #[must_use]
    pub fn transactional(id: impl Into<String>) -> ProducerConfig {
        ProducerConfig {
            transactional_id: Some(id.into()),
            ..ProducerConfig::default()
        }
    }
}

/// What a consumer sees of transactions. Java: `isolation.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Everything, aborted or not.
    ReadUncommitted,
    /// Only what was committed, up to the last stable offset. Java's default is the other one.
    #[default]
    ReadCommitted,
}

impl Isolation {
    pub(crate) fn code(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}

/// Where to begin where nothing is committed, and what [`Consumer::poll`](crate::Consumer::poll) does when the
/// position is lost. Java: `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// The oldest record. Java's default is the other end.
    #[default]
    Earliest,
    /// Only what comes from now on.
    Latest,
    /// Nowhere: [`ClientError::NoPosition`](crate::ClientError::NoPosition) until the caller seeks.
    None,
}

/// What a [`Consumer`](crate::Consumer) reads, and as which member of which group.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Needed to subscribe and to commit. Java: `group.id`.
    pub group_id: Option<String>,
    /// Makes the member static: a restart within the session time-out keeps its partitions. Java: `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// Java: `isolation.level`.
    pub isolation: Isolation,
    /// Java: `auto.offset.reset`.
    pub auto_offset_reset: OffsetReset,
    /// Without a heartbeat for so long a member is dead. Java: `session.timeout.ms`, 45 s.
    pub session_timeout: Duration,
    /// Java: `heartbeat.interval.ms`, 3 s.
    pub heartbeat_interval: Duration,
    /// Without a poll for so long the member leaves the group; also how long a rebalance waits for it.
    /// Java: `max.poll.interval.ms`, 5 min.
    pub max_poll_interval: Duration,
    /// A broker waits until it has this many bytes. Java: `fetch.min.bytes`, 1.
    pub fetch_min_bytes: i32,
    /// How long it waits for them. Java: `fetch.max.wait.ms`, 500 ms.
    pub fetch_max_wait: Duration,
    /// The largest answer of one broker, except for a first batch that is larger. Java: `fetch.max.bytes`, 50 MiB.
    pub fetch_max_bytes: i32,
    /// The same for one partition. Java: `max.partition.fetch.bytes`, 1 MiB.
    pub max_partition_fetch_bytes: i32,
    /// Fetched and not yet polled bytes beyond which fetching pauses. Java has no such bound.
    pub prefetch_bytes: usize,
    /// The most records of one [`Consumer::poll`](crate::Consumer::poll); batches are not cut by it. Java: `max.poll.records`, 500.
    pub max_poll_records: usize,
    /// How partitions are shared; the group takes the first one that all members know. Java: `partition.assignment.strategy`.
    pub assignors: Vec<Arc<dyn Assignor>>,
    /// [`Consumer::poll`](crate::Consumer::poll) commits what earlier polls returned, every
    /// [`auto_commit_interval`](Self::auto_commit_interval). Java: `enable.auto.commit`; off here, on there.
    pub enable_auto_commit: bool,
    /// Java: `auto.commit.interval.ms`, 5 s.
    pub auto_commit_interval: Duration,
    /// Checks the CRC of every batch. Java: `check.crcs`, true.
    pub check_crcs: bool,
    /// The largest batch after decompression, bytes: a bound against hostile input.
    pub decompressed_bytes_max: usize,
}

impl Default for ConsumerConfig {
    fn default() -> ConsumerConfig {
        ConsumerConfig {
            group_id: None,
            group_instance_id: None,
            isolation: Isolation::ReadCommitted,
            auto_offset_reset: OffsetReset::Earliest,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 50 * 1024 * 1024,
            max_partition_fetch_bytes: 1024 * 1024,
            prefetch_bytes: 64 * 1024 * 1024,
            max_poll_records: 500,
            assignors: vec![Arc::new(RangeAssignor), Arc::new(CooperativeStickyAssignor)],
            enable_auto_commit: false,
            auto_commit_interval: Duration::from_secs(5),
            check_crcs: true,
            decompressed_bytes_max: 256 * 1024 * 1024,
        }
    }
}

impl ConsumerConfig {
    /// The defaults, as a member of this group.
    #[must_use]
    pub fn group(id: impl Into<String>) -> ConsumerConfig {
        ConsumerConfig {
            group_id: Some(id.into()),
            ..ConsumerConfig::default()
        }
    }
}
