//! What can go wrong in a client, sorted by what the caller does about it.
//!
//! Owns [`ClientError`] and [`Failure`], the "who, what, which code" every variant carries. Used by every file
//! of this crate and by its callers. It never decides to retry: by the time an error is returned, the
//! client has already retried whatever may be retried, within the deadline of the call.

use std::fmt;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use thiserror::Error;

/// Which broker, which API, which code, about what.
///
/// Cheap to clone, because one failed batch answers thousands of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(Arc<Details>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Details {
    broker: Option<String>,
    api: Option<&'static str>,
    code: Option<i16>,
    code_name: Option<&'static str>,
    subject: String,
    reason: String,
}

impl Failure {
    /// A failure about `subject` (for example `partition orders-3`), for `reason`.
    #[must_use]
    pub fn new(subject: impl Into<String>, reason: impl Into<String>) -> Failure {
        Failure(Arc::new(Details {
            subject: subject.into(),
            reason: reason.into(),
            ..Details::default()
        }))
    }

    /// Names the broker, as `1 (localhost:9092)`.
    #[must_use]
    pub fn at_broker(mut self, broker: impl Into<String>) -> Failure {
        Arc::make_mut(&mut self.0).broker = Some(broker.into());
        self
    }

    /// Names what it is about, before what is said of it already.
    #[must_use]
    pub(crate) fn within(mut self, whole: &str) -> Failure {
        let details = Arc::make_mut(&mut self.0);
        details.subject = format!("{whole}: {}", details.subject);
        self
    }

    /// Names the API, as Kafka spells it.
    #[must_use]
    pub fn in_api(mut self, api: &'static str) -> Failure {
        Arc::make_mut(&mut self.0).api = Some(api);
        self
    }

    /// Names Kafka's error code.
    #[must_use]
    pub fn with_code(mut self, code: i16, name: &'static str) -> Failure {
        let details = Arc::make_mut(&mut self.0);
        details.code = Some(code);
        details.code_name = Some(name);
        self
    }

    /// The broker that answered, or that could not be reached; none where no broker was asked.
    #[must_use]
    pub fn broker(&self) -> Option<&str> {
        self.0.broker.as_deref()
    }

    /// The API that failed, as Kafka spells it (`Produce`).
    #[must_use]
    pub fn api(&self) -> Option<&'static str> {
        self.0.api
    }

    /// Kafka's error code, where a broker gave one.
    #[must_use]
    pub fn code(&self) -> Option<i16> {
        self.0.code
    }

    /// What it is about: a partition, a group, a transactional id.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }
}

impl fmt::Display for Failure {
    /// `partition orders-3: NOT_LEADER_OR_FOLLOWER (6): not the leader [Produce at broker 1 (localhost:9092)]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.0;
        write!(f, "{}: ", details.subject)?;
        if let (Some(code), Some(name)) = (details.code, details.code_name) {
            write!(f, "{name} ({code}): ")?;
        }
        f.write_str(&details.reason)?;
        match (&details.api, &details.broker) {
            (Some(api), Some(broker)) => write!(f, " [{api} at broker {broker}]"),
            (Some(api), None) => write!(f, " [{api}]"),
            (None, Some(broker)) => write!(f, " [broker {broker}]"),
            (None, None) => Ok(()),
        }
    }
}

/// Why a call failed. The variants say what the caller does next.
///
/// `Clone`, because every record of a failed batch gets the same error.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing answered, or nothing able to: connection refused or lost, leader or coordinator unknown.
    /// The client retried until the deadline of the call; try again later.
    #[error("{0}")]
    Unavailable(Failure),
    /// The deadline of the call passed. Whether a write took effect is unknown (an idempotent producer
    /// does not write it twice by itself).
    #[error("timed out: {0}")]
    Timeout(Failure),
    /// Another producer (or member) with the same identity has taken over. Stop: nothing this instance does
    /// will be accepted, and it must not start again under the same identity by itself.
    #[error("fenced: {0}")]
    Fenced(Failure),
    /// The open transaction cannot be committed. Abort it; then the same work may be done again.
    #[error("the transaction must be aborted: {0}")]
    TransactionAbortable(Failure),
    /// This producer or consumer cannot go on. Close it and make a new one.
    #[error("cannot go on: {0}")]
    Fatal(Failure),
    /// The group has moved on: partitions may belong to others now. Poll, and repeat only for what is
    /// still assigned.
    #[error("the group is rebalancing: {0}")]
    Rebalance(Failure),
    /// Not allowed, or not who it says. Ask for the permission or correct the credentials.
    #[error("not authorised: {0}")]
    Unauthorized(Failure),
    /// The request can never succeed as it is: a record too large, an unknown option, a call in the wrong
    /// state. Correct it.
    #[error("{0}")]
    Invalid(Failure),
    /// The topic, partition, group or transactional id does not exist.
    #[error("{0}")]
    NotFound(Failure),
    /// The broker does not offer what the call needs. Use a newer broker, or do without.
    #[error("not supported: {0}")]
    Unsupported(Failure),
    /// Bytes that are not what they claim to be: a checksum, a length, a version. Nothing of them was used.
    #[error("corrupt data: {0}")]
    Corrupt(Failure),
    /// There is no position for this partition and the policy is to ask: seek, or choose a reset policy.
    #[error("no position: {0}")]
    NoPosition(Failure),
    /// The client, producer or consumer was closed.
    #[error("closed: {0}")]
    Closed(Failure),
}

impl ClientError {
    /// Who, what and which code.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            ClientError::Unavailable(failure)
            | ClientError::Timeout(failure)
            | ClientError::Fenced(failure)
            | ClientError::TransactionAbortable(failure)
            | ClientError::Fatal(failure)
            | ClientError::Rebalance(failure)
            | ClientError::Unauthorized(failure)
            | ClientError::Invalid(failure)
            | ClientError::NotFound(failure)
            | ClientError::Unsupported(failure)
            | ClientError::Corrupt(failure)
            | ClientError::NoPosition(failure)
            | ClientError::Closed(failure) => failure,
        }
    }

    /// The same call may succeed later without any change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, ClientError::Unavailable(_) | ClientError::Timeout(_))
    }

    /// Kafka's error code, where a broker gave one.
    #[must_use]
    pub fn code(&self) -> Option<i16> {
        self.failure().code()
    }

    /// Another instance took over; see [`ClientError::Fenced`].
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, ClientError::Fenced(_))
    }

    /// What made the transaction void would make the next one void too: a record is too large or not allowed. Doing the same work again
    /// does not help.
    #[must_use]
    pub fn will_repeat(&self) -> bool {
        let ClientError::TransactionAbortable(failure) = self else {
            return false;
        };
        let cause = failure.code().map(ErrorCode::from_code);
        cause.is_some_and(|code| {
            matches!(
                refused(code, ""),
                ClientError::Invalid(_)
                    | ClientError::Unauthorized(_)
                    | ClientError::Unsupported(_)
            )
        })
    }

    pub(crate) fn closed(what: &str) -> ClientError {
        ClientError::Closed(Failure::new(what, "already closed"))
    }

    pub(crate) fn invalid(subject: impl Into<String>, reason: impl Into<String>) -> ClientError {
        ClientError::Invalid(Failure::new(subject, reason))
    }

    /// The same kind of error, with the failure changed.
    pub(crate) fn map(self, change: impl FnOnce(Failure) -> Failure) -> ClientError {
        match self {
            ClientError::Unavailable(failure) => ClientError::Unavailable(change(failure)),
            ClientError::Timeout(failure) => ClientError::Timeout(change(failure)),
            ClientError::Fenced(failure) => ClientError::Fenced(change(failure)),
            ClientError::TransactionAbortable(failure) => {
                ClientError::TransactionAbortable(change(failure))
            }
            ClientError::Fatal(failure) => ClientError::Fatal(change(failure)),
            ClientError::Rebalance(failure) => ClientError::Rebalance(change(failure)),
            ClientError::Unauthorized(failure) => ClientError::Unauthorized(change(failure)),
            ClientError::Invalid(failure) => ClientError::Invalid(change(failure)),
            ClientError::NotFound(failure) => ClientError::NotFound(change(failure)),
            ClientError::Unsupported(failure) => ClientError::Unsupported(change(failure)),
            ClientError::Corrupt(failure) => ClientError::Corrupt(change(failure)),
            ClientError::NoPosition(failure) => ClientError::NoPosition(change(failure)),
            ClientError::Closed(failure) => ClientError::Closed(change(failure)),
        }
    }
}

/// Sorts a broker's refusal by what the caller does about it.
pub(crate) fn refused(code: ErrorCode, subject: impl Into<String>) -> ClientError {
    let failure = Failure::new(subject, code.message()).with_code(code.code(), code.name());
    match code {
        ErrorCode::ProducerFenced
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::FencedInstanceId
        | ErrorCode::FencedMemberEpoch
        | ErrorCode::TransactionCoordinatorFenced => ClientError::Fenced(failure),
        ErrorCode::TransactionAbortable => ClientError::TransactionAbortable(failure),
        ErrorCode::InvalidTxnState
        | ErrorCode::InvalidProducerIdMapping
        | ErrorCode::OutOfOrderSequenceNumber
        | ErrorCode::UnknownProducerId => ClientError::Fatal(failure),
        ErrorCode::RebalanceInProgress
        | ErrorCode::IllegalGeneration
        | ErrorCode::UnknownMemberId
        | ErrorCode::StaleMemberEpoch => ClientError::Rebalance(failure),
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed
        | ErrorCode::SaslAuthenticationFailed => ClientError::Unauthorized(failure),
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::GroupIdNotFound
        | ErrorCode::TransactionalIdNotFound => ClientError::NotFound(failure),
        ErrorCode::UnsupportedVersion
        | ErrorCode::UnsupportedCompressionType
        | ErrorCode::UnsupportedForMessageFormat => ClientError::Unsupported(failure),
        ErrorCode::RequestTimedOut => ClientError::Timeout(failure),
        ErrorCode::OffsetOutOfRange => ClientError::NoPosition(failure),
        code if code.is_retriable() => ClientError::Unavailable(failure),
        _ => ClientError::Invalid(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_subject_code_api_and_broker() {
        let error = refused(ErrorCode::NotLeaderOrFollower, "partition orders-3")
            .map(|failure| failure.in_api("Produce").at_broker("1 (localhost:9092)"));
        assert_eq!(
            error.to_string(),
            "partition orders-3: NOT_LEADER_OR_FOLLOWER (6): For requests intended only for the leader, \
             this error indicates that the broker is not the current leader. For requests intended for any \
             replica, this error indicates that the broker is not a replica of the topic partition. \
             [Produce at broker 1 (localhost:9092)]"
        );
        assert!(error.is_retriable());
        assert_eq!(error.code(), Some(6));
    }

    #[test]
    fn a_transaction_that_was_refused_for_its_records_will_be_refused_again() {
        let aborted = |code| {
            let cause = refused(code, "partition out-0");
            ClientError::TransactionAbortable(cause.failure().clone())
        };
        assert!(aborted(ErrorCode::MessageTooLarge).will_repeat());
        assert!(aborted(ErrorCode::RecordListTooLarge).will_repeat());
        assert!(aborted(ErrorCode::TopicAuthorizationFailed).will_repeat());
        assert!(!aborted(ErrorCode::NotLeaderOrFollower).will_repeat());
        assert!(!aborted(ErrorCode::TransactionAbortable).will_repeat());
        assert!(!aborted(ErrorCode::RequestTimedOut).will_repeat());
        assert!(!ClientError::invalid("x", "y").will_repeat());
    }

    #[test]
    fn codes_are_sorted_by_what_the_caller_does() {
        assert!(refused(ErrorCode::ProducerFenced, "p").is_fenced());
        let too_large = refused(ErrorCode::MessageTooLarge, "p");
        assert!(matches!(too_large, ClientError::Invalid(_)));
        let generation = refused(ErrorCode::IllegalGeneration, "g");
        assert!(matches!(generation, ClientError::Rebalance(_)));
    }
}
