//! Options of an application, each with its Java name and its default. Plain data, read once at the start.

use std::path::PathBuf;
use std::time::Duration;

use flumen_client::ClientConfig;

pub use crate::runtime::Threads;

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProcessingGuarantee {
    /// Every input record takes effect once: outputs, state and input positions are one transaction. Java: `exactly_once_v2`.
    #[default]
    ExactlyOnce,
    /// After a crash some records are processed again. Java: `at_least_once`.
    AtLeastOnce,
}

/// Where to read when there is no position: nothing was ever committed, or what was is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    /// The oldest record.
    Earliest,
    /// What comes from now on.
    Latest,
}

/// What to do when a committed position no longer exists: retention, truncation, a topic deleted and made anew.
///
/// Kafka Streams resets by `auto.offset.reset` and says nothing; here every policy logs a warning with the partition and the
/// range that was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PositionLost {
    /// Stop the application: a person decides.
    #[default]
    Stop,
    /// Go on with the oldest record there is.
    ResetToEarliest,
    /// Go on with what comes from now on.
    ResetToLatest,
}

/// What to do after an error that retries do not cure: a panic in user code, a record that cannot be read, a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Stop. Java: `SHUTDOWN_CLIENT`, the default there too.
    #[default]
    Stop,
    /// Start the engine again from the last commit, after a pause. Java: `REPLACE_THREAD`.
    Restart,
}

/// Options of [`KafkaStreams`](crate::KafkaStreams).
#[derive(Debug, Clone)]
pub struct StreamsConfig {
    /// Names the group, the internal topics and the state folder. Java: `application.id`.
    pub application_id: String,
    /// How the cluster is reached. Java: `bootstrap.servers` and the rest of the client's options.
    pub client: ClientConfig,
    /// Holds one folder per application. Two processes need two. Java: `state.dir`.
    pub state_dir: PathBuf,
    /// Keep state in memory only: it is restored from its whole changelog at every start.
    pub in_memory: bool,
    /// Java: `processing.guarantee`; exactly-once here, at-least-once there.
    pub guarantee: ProcessingGuarantee,
    /// None: 100 ms under exactly-once, 30 s else. Java: `commit.interval.ms`.
    pub commit_interval: Option<Duration>,
    /// Engines of this process: each is a thread, a group member and a producer. Java: `num.stream.threads`, 1.
    pub engines: usize,
    /// Replicas of internal topics; none is the broker's default. Java: `replication.factor`, -1.
    pub replication_factor: Option<i16>,
    /// Where an input without a committed position is read. Java: `auto.offset.reset`, earliest.
    pub start_from: StartFrom,
    /// When a committed position is gone.
    pub position_lost: PositionLost,
    /// When the engine fails. Java: `StreamsUncaughtExceptionHandler`.
    pub on_error: OnError,
    /// Without a heartbeat for so long a member is dead and its tasks go to others. Java: `session.timeout.ms`, 45 s.
    pub session_timeout: Duration,
    /// Java: `heartbeat.interval.ms`, 3 s.
    pub heartbeat_interval: Duration,
    /// The broker aborts a transaction left open for so long. Java: `transaction.timeout.ms`, 10 s under Streams.
    pub transaction_timeout: Duration,
    /// Bytes of entries kept in memory, for all stores of an engine. Java: `statestore.cache.max.bytes`, there 10 MB.
    pub cache_bytes: usize,
    /// Bytes fed to an epoch that close it. Java: `statestore.uncommitted.max.bytes`.
    pub epoch_bytes_max: usize,
    /// Blocks of RocksDB kept in memory, for the process.
    pub block_cache_bytes: usize,
    /// Rows of RocksDB not yet in files, for the process.
    pub memtable_bytes: usize,
    /// Committed changes go to RocksDB this often, or when they are `spill_bytes`.
    pub spill_interval: Duration,
    /// See [`spill_interval`](Self::spill_interval).
    pub spill_bytes: usize,
    /// Where engines and disk work run.
    pub threads: Threads,
}

impl StreamsConfig {
    /// The defaults for an application with this name, `host:port` of some brokers, and state under `./flumen-state`.
    pub fn new(application_id: impl Into<String>, bootstrap_servers: &str) -> Self {
        Self {
            application_id: application_id.into(),
            client: ClientConfig::new(bootstrap_servers),
            state_dir: PathBuf::from("flumen-state"),
            in_memory: false,
            guarantee: ProcessingGuarantee::default(),
            commit_interval: None,
            engines: 1,
            replication_factor: None,
            start_from: StartFrom::Earliest,
            position_lost: PositionLost::default(),
            on_error: OnError::default(),
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            transaction_timeout: Duration::from_secs(10),
            cache_bytes: 64 << 20,
            epoch_bytes_max: 64 << 20,
            block_cache_bytes: 64 << 20,
            memtable_bytes: 64 << 20,
            spill_interval: Duration::from_secs(5),
            spill_bytes: 64 << 20,
            threads: Threads::default(),
        }
    }

    /// What is wrong with the options, in words.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        let name = self.application_id.as_str();
        let legal = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if name.is_empty() || name.len() > 150 || !name.chars().all(legal) || name.starts_with('.')
        {
            return Some(
                "application_id must be 1 to 150 letters, digits, '.', '_' or '-', because topics and folders are named after it",
            );
        }
        if self.client.bootstrap_servers.is_empty() {
            return Some("bootstrap_servers is empty");
        }
        if self.engines == 0 {
            return Some("engines must be at least 1");
        }
        if self
            .commit_interval
            .is_some_and(|interval| interval.is_zero())
        {
            return Some("commit_interval must be longer than 0");
        }
        None
    }

    pub(crate) fn exactly_once(&self) -> bool {
        self.guarantee == ProcessingGuarantee::ExactlyOnce
    }
}
