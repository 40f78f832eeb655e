//! Errors of the crate, one type per thing a caller can do about them.
//!
//! Owned here; returned by the builder ([`TopologyError`]), serdes ([`SerdeError`]), stores ([`StateError`]) and the engine
//! ([`EngineError`]). Nothing in this file logs or retries.

use thiserror::Error;

use crate::state::StateError;

/// A topology that cannot run. Returned by `StreamsBuilder::build`; fix the program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopologyError {
    /// Two stores, repartitions or nodes carry one name.
    #[error(
        "the name {name:?} is used twice; names of stores, repartitions and nodes are unique in a topology"
    )]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A name that cannot be part of a topic's name.
    #[error("{name:?} cannot be a name: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One topic is read by two sources, which two sub-topologies would have to share.
    #[error(
        "topic {topic:?} is read by two sources; keep the stream of the first and use it twice"
    )]
    TopicReadTwice {
        /// The topic.
        topic: String,
    },
    /// Nothing to run.
    #[error("the topology has no source: start with StreamsBuilder::stream")]
    Empty,
    /// An option outside its range.
    #[error("{what}: {reason}")]
    InvalidOption {
        /// The node or window the option belongs to.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Bytes that are not a value of the type, or a value that has no bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SerdeError {
    /// The record has no key or no value, and the serde reads none.
    #[error("null, but the serde reads only values that are there; use `serdes::nullable`")]
    Null,
    /// A number of another size.
    #[error("{expected} bytes expected, {actual} found")]
    Length {
        /// Bytes the type needs.
        expected: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// The format's own complaint.
    #[error("{0}")]
    Malformed(String),
}

/// Why an engine stopped. Its open epochs are lost (nothing of them was committed); start another from the committed offsets.
#[derive(Debug, Clone, Error)]
pub enum EngineError {
    /// A user function panicked.
    #[error("node {node} of task {task} panicked: {message}")]
    Panic {
        /// Name of the node in [`Topology::describe`](crate::Topology::describe), as near as it is known.
        node: String,
        /// The task, for example `0_3`.
        task: String,
        /// The panic's message.
        message: String,
    },
    /// An input record that cannot be read, under `OnDeserializationError::Fail`.
    #[error("{topic}-{partition} offset {offset}: the {part} cannot be read: {error}")]
    Deserialization {
        /// The topic of the record.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// `key`, `value` or `timestamp`.
        part: &'static str,
        /// The serde's complaint.
        error: SerdeError,
    },
    /// An input batch that does not follow the format; nothing after it can be read.
    #[error("{topic}-{partition}: the batch at offset {offset} is corrupt: {message}")]
    CorruptBatch {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// First offset of the batch.
        offset: i64,
        /// What is wrong with it.
        message: String,
    },
    /// A value that has no bytes.
    #[error("node {node}: the {part} cannot be written: {error}")]
    Serialization {
        /// The sink or store.
        node: String,
        /// `key` or `value`.
        part: &'static str,
        /// The serde's complaint.
        error: SerdeError,
    },
    /// A store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The engine was asked for a task or a store it does not hold: an error of the caller.
    #[error("{0}")]
    Misuse(String),
}

/// Why an application did not start, or stopped. Nothing that is not committed has had any effect.
#[derive(Debug, Clone, Error)]
pub enum StreamsError {
    /// An option that cannot be. Correct it.
    #[error("{0}")]
    Config(String),
    /// The state folder cannot be used: another process has it, or the disk refuses.
    #[error("state folder {folder}: {reason}")]
    StateFolder {
        /// The folder.
        folder: String,
        /// The system's words.
        reason: String,
    },
    /// A topic that is missing or not as it has to be. Make it, or correct the topology.
    #[error("topic {topic}: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong.
        reason: String,
    },
    /// Another process runs under this one's identity (the state folder was copied, or this process was thought dead).
    /// It goes on; this one stopped, and nothing it did since its last commit counts.
    #[error(
        "fenced: {by} took over the identity {identity}; this one has stopped, what it had not committed is void ({error})"
    )]
    Fenced {
        /// The transactional id that both claimed, and this one's producer id and epoch.
        identity: String,
        /// Who has it now, as far as the group knows.
        by: String,
        /// What the cluster said.
        error: flumen_client::ClientError,
    },
    /// Records that were to be read next are gone, under [`PositionLost::Stop`](crate::PositionLost::Stop).
    #[error("{topic}-{partition}: offset {position} was to be read next, the log has [{log_start}, {log_end}): {} records are lost; choose PositionLost::ResetToEarliest or ResetToLatest to go on without them", (log_start - position).max(0))]
    PositionLost {
        /// The topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The offset that was to be read next.
        position: i64,
        /// The oldest offset there is.
        log_start: i64,
        /// The offset of the next record to be written.
        log_end: i64,
    },
    /// The engine failed, under [`OnError::Stop`](crate::OnError::Stop).
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A store could not be restored.
    #[error(transparent)]
    Restore(#[from] crate::state::restore::RestoreError),
    /// A store could not be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// The cluster refused, in a way that trying again does not cure.
    #[error(transparent)]
    Client(#[from] flumen_client::ClientError),
}
