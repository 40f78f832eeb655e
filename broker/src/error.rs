//! From what went wrong beneath to what Kafka calls it.

use flumen_log::{AppendError, ProducerError, ReadError};
use flumen_protocol::error_code::ErrorCode;

/// Most bytes of a message in a response.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// A message as it is told to a client. Names in it come from clients: one that is too long for a string of the protocol would make the
/// whole answer impossible, and its connection would be closed instead.
pub(crate) fn brief(message: impl Into<String>) -> String {
    let mut message = message.into();
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}

/// Why one partition of a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", .code.name(), .message.as_deref().unwrap_or(.code.message()))]
pub(crate) struct Failure {
    /// Kafka's code.
    pub(crate) code: ErrorCode,
    /// More than the code says.
    pub(crate) message: Option<String>,
    /// Records that are to blame, by index in the batch.
    pub(crate) records: Vec<(i32, String)>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: Some(brief(message)),
            records: Vec::new(),
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Failure {
        Failure {
            code,
            message: None,
            records: Vec::new(),
        }
    }
}

/// Why an append failed, for a produce response.
pub(crate) fn append_failure(error: &AppendError) -> Failure {
    let records = match error {
        AppendError::InvalidRecord { records, .. }
        | AppendError::InvalidTimestamp { records, .. } => records
            .iter()
            .map(|(index, message)| (*index, brief(message)))
            .collect(),
        _ => Vec::new(),
    };
    Failure {
        code: append_error_code(error),
        message: Some(brief(error.to_string())),
        records,
    }
}

/// Kafka's code for a failed append.
pub(crate) fn append_error_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::CorruptMessage(_) => ErrorCode::CorruptMessage,
        AppendError::InvalidRecord { .. } => ErrorCode::InvalidRecord,
        AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
        AppendError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
        AppendError::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
        AppendError::UnsupportedFormat(_) => ErrorCode::UnsupportedForMessageFormat,
        AppendError::Producer(ProducerError::OutOfOrderSequence { .. }) => {
            ErrorCode::OutOfOrderSequenceNumber
        }
        AppendError::Producer(ProducerError::StaleEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        AppendError::Producer(ProducerError::InvalidTxnState(_)) => ErrorCode::InvalidTxnState,
        AppendError::Producer(ProducerError::CoordinatorFenced { .. }) => {
            ErrorCode::TransactionCoordinatorFenced
        }
        AppendError::OffsetsNotMonotonic { .. } | AppendError::Costly => {
            ErrorCode::UnknownServerError // never told to a client
        }
        AppendError::Storage(_) | AppendError::Fenced(_) => ErrorCode::KafkaStorageError,
    }
}

/// Kafka's code for a failed read.
pub(crate) fn read_error_code(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Corrupt { .. } => ErrorCode::CorruptMessage,
        ReadError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}
