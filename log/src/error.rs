//! One error per verb of the log. Variants by what the caller does; the broker maps them to Kafka's codes in one place.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use flumen_protocol::id::{Offset, ProducerEpoch, Sequence};

/// Why a batch was not appended. The log is as it was before, except after [`Self::Fenced`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The bytes were damaged on their way, or are no batch. `CORRUPT_MESSAGE`: send again.
    #[error("corrupt message: {0}")]
    CorruptMessage(String),
    /// The batch breaks a rule. `INVALID_RECORD`: never send it again.
    #[error("invalid record: {message}")]
    InvalidRecord {
        /// What is wrong with the batch.
        message: String,
        /// Which records are wrong, by their index in the batch, if single ones are.
        records: Vec<(i32, String)>,
    },
    /// A batch is larger than `max.message.bytes`. `MESSAGE_TOO_LARGE`: split it.
    #[error("batch of {size} bytes is larger than max.message.bytes = {limit}")]
    MessageTooLarge {
        /// Size of the batch in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// All batches together are larger than a segment may be. `RECORD_LIST_TOO_LARGE`.
    #[error("{size} bytes do not fit a segment of segment.bytes = {limit}")]
    RecordListTooLarge {
        /// Size of all batches in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A timestamp is out of the allowed range. `INVALID_TIMESTAMP`.
    #[error("invalid timestamp: {message}")]
    InvalidTimestamp {
        /// Which rule.
        message: String,
        /// Which records are wrong, by their index in the batch, if single ones are.
        records: Vec<(i32, String)>,
    },
    /// A codec nobody knows. `UNSUPPORTED_COMPRESSION_TYPE`.
    #[error("compression codec {0} is not supported")]
    UnsupportedCompression(u8),
    /// Message format v0 or v1. `UNSUPPORTED_FOR_MESSAGE_FORMAT`.
    #[error("message format v{0} is not supported, only v2")]
    UnsupportedFormat(i8),
    /// The producer's state in this log does not allow the batch.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// A replica's batches do not continue this log. The caller must truncate or start anew.
    #[error(
        "batch at offset {base_offset} does not continue the log, which ends at {log_end_offset}"
    )]
    OffsetsNotMonotonic {
        /// Where the first batch that does not fit starts.
        base_offset: Offset,
        /// Where it should have started, or later.
        log_end_offset: Offset,
    },
    /// [`Log::append_quickly`](crate::Log::append_quickly) only: checking the batch takes longer than a moment. Nothing was done;
    /// [`Log::append`](crate::Log::append) takes it, where nobody waits behind.
    #[error("the batch takes longer to check than others can wait")]
    Costly,
    /// The write failed and was undone, for lack of space for instance. `KAFKA_STORAGE_ERROR`: later appends may work.
    #[error("could not write: {0}")]
    Storage(Arc<io::Error>),
    /// The log was fenced by an earlier failure and must be opened anew. `KAFKA_STORAGE_ERROR`.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

/// Why a producer's batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error("sequence {sequence} where {expected} was expected")]
    OutOfOrderSequence {
        /// First sequence of the batch.
        sequence: Sequence,
        /// What would have continued the producer's last batch.
        expected: Sequence,
    },
    /// `INVALID_PRODUCER_EPOCH`: a newer incarnation of the producer has written here.
    #[error("producer epoch {epoch} is behind {current}")]
    StaleEpoch {
        /// Of the batch or marker.
        epoch: ProducerEpoch,
        /// Known here.
        current: ProducerEpoch,
    },
    /// `INVALID_TXN_STATE`.
    #[error("invalid transaction state: {0}")]
    InvalidTxnState(&'static str),
    /// `TRANSACTION_COORDINATOR_FENCED`: a newer coordinator has written a marker of this producer.
    #[error("coordinator epoch {epoch} is behind {current}")]
    CoordinatorFenced {
        /// Of the marker.
        epoch: i32,
        /// Known here.
        current: i32,
    },
}

/// The log refuses all writes because a write to the disk failed in a way that cannot be undone.
///
/// After a failed fsync the kernel may have dropped the unwritten bytes and call the next fsync a success, so trying again proves
/// nothing. Reads go on. The way out is to open the log anew as after an unclean stop, or to leave the disk.
#[derive(Debug, Clone, thiserror::Error)]
#[error("log {} is fenced since {reason}", dir.display())]
pub struct Fenced {
    /// Directory of the log.
    pub dir: PathBuf,
    /// What failed, and how.
    pub reason: String,
}

/// Why a flush, a checkpoint, a truncation or a close did not happen. The log is fenced in both cases.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FlushError {
    /// This very call failed: what was not durable before must be taken for lost.
    #[error("{what} failed: {error}")]
    Failed {
        /// Which operation, on which file.
        what: String,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// An earlier one failed.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

/// Why there is nothing to read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// `OFFSET_OUT_OF_RANGE`: the reader resets by its policy.
    #[error("offset {offset} is outside of [{log_start_offset}, {log_end_offset}]")]
    OffsetOutOfRange {
        /// Asked for.
        offset: Offset,
        /// First offset.
        log_start_offset: Offset,
        /// Offset after the last one.
        log_end_offset: Offset,
    },
    /// Bytes in a segment are no batch. `CORRUPT_MESSAGE`: not served, to be repaired from another replica.
    #[error("corrupt batch at {position} in {}: {reason}", file.display())]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Byte position in it.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// The disk did not answer. `KAFKA_STORAGE_ERROR`.
    #[error("could not read: {0}")]
    Storage(Arc<io::Error>),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

/// Why a cleaning stopped. Nothing is lost: what was not cleaned is there as it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompactError {
    /// A batch cannot be read: the log cannot be cleaned before somebody has mended it.
    #[error("{0}")]
    Corrupt(ReadError),
    /// The disk refused, for lack of space perhaps: a later cleaning may work.
    #[error("could not write: {0}")]
    Storage(Arc<io::Error>),
    /// What was being cleaned was deleted or cut off meanwhile: begin anew.
    #[error("the log changed while it was cleaned")]
    Outdated,
    /// The log takes no writes any more.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

impl From<io::Error> for CompactError {
    fn from(error: io::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

impl From<ReadError> for CompactError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Storage(error) => Self::Storage(error),
            ReadError::OffsetOutOfRange { .. } => Self::Outdated,
            ReadError::Corrupt { .. } => Self::Corrupt(error),
        }
    }
}

/// Why a log or a data directory could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Bytes that were durable are damaged. They are not cut away: repair from another replica, or accept the loss by hand.
    #[error("{} is corrupt at byte {position} (from offset {offset} on), recovery point {recovery_point}: {reason}", file.display())]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Byte position of the batch in it.
        position: u64,
        /// Offset that was expected there, or a lower one if only the index says what lies there.
        offset: Offset,
        /// Everything below was durable.
        recovery_point: Offset,
        /// What is wrong.
        reason: String,
    },
    /// Another process uses the directory.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The directory belongs to another cluster or node, or holds something that is not ours.
    #[error("{}: {reason}", path.display())]
    Mismatch {
        /// What was read.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The disk refused.
    #[error("{}: {error}", path.display())]
    Storage {
        /// What was opened or written.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl OpenError {
    /// Whether it tells of this one log, so that the others of the directory may be opened all the same: damaged bytes, bytes that
    /// cannot be read, another topic's bytes.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Mismatch { .. } => true,
            Self::Storage { error, .. } => {
                error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
                    || error.kind() == io::ErrorKind::InvalidData
            }
            Self::Locked(_) => false,
        }
    }

    /// For `map_err`: names the file.
    pub(crate) fn at(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Storage { path, error }
    }
}
