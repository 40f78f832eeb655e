//! What can go wrong between a message and its bytes. Made by [`Reader`](super::Reader),
//! [`Writer`](super::Writer) and `frame.rs`; never by IO.

use thiserror::Error;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The header names an API that this build does not know: close the connection, as Kafka does.
    #[error("unknown api key {key}")]
    UnknownApi {
        /// The key.
        key: i16,
    },
    /// The message exists, but not in this version: close the connection (ApiVersions: answer
    /// version 0).
    #[error("{message} has no version {version}; it has {min} to {max}")]
    UnsupportedVersion {
        /// Kafka's name of the message.
        message: &'static str,
        /// What was asked for.
        version: i16,
        /// Oldest that exists.
        min: i16,
        /// Newest that exists.
        max: i16,
    },
    /// The bytes are not this message: close the connection, or drop the record they came from.
    #[error("{message}.{field} at byte {position}: {fault}")]
    Malformed {
        /// Kafka's name of the message.
        message: &'static str,
        /// The field that could not be read.
        field: &'static str,
        /// Where reading stopped, from the start of what was given to the reader.
        position: usize,
        /// What is wrong there.
        fault: Fault,
    },
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The bytes end inside the field.
    #[error("{needed} bytes needed, {remaining} left")]
    Truncated {
        /// How many bytes the field needs at least.
        needed: usize,
        /// How many are left.
        remaining: usize,
    },
    /// A count or length below -1.
    #[error("length {0} is negative")]
    NegativeLength(i64),
    /// A string of more bytes than [`Reader::STRING_BYTES_MAX`](super::Reader::STRING_BYTES_MAX).
    #[error("a string of {0} bytes, but at most 32767 are allowed")]
    StringTooLong(usize),
    /// An array claims more elements than the remaining bytes can hold.
    #[error("{count} elements do not fit in the {remaining} bytes left")]
    CountTooLarge {
        /// What the array claims.
        count: usize,
        /// How many bytes are left.
        remaining: usize,
    },
    /// Null where this version does not allow it.
    #[error("null is not allowed here")]
    UnexpectedNull,
    /// Text that is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A varint of more than 32 bits.
    #[error("varint is longer than 32 bits")]
    BadVarint,
    /// The byte before a nullable struct is neither -1 nor 1.
    #[error("{0} is not a presence byte")]
    BadPresence(i8),
    /// A known tagged field is shorter or longer than its size says.
    #[error("tagged field {tag} says {size} bytes and has {read}")]
    TagSize {
        /// Its number.
        tag: u32,
        /// What it says.
        size: usize,
        /// What it is.
        read: usize,
    },
    /// More unknown tagged fields in one struct than
    /// [`Reader::UNKNOWN_TAGS_MAX`](super::Reader::UNKNOWN_TAGS_MAX).
    #[error("more than {} unknown tagged fields", super::Reader::UNKNOWN_TAGS_MAX)]
    TooManyTags,
    /// The arrays of the message hold more elements than its reader accepts: see
    /// [`Reader::with_elements_max`](super::Reader::with_elements_max).
    #[error("more than {0} elements in one message")]
    TooManyElements(usize),
    /// The decoded message would need much more memory than its bytes: see
    /// [`Reader::with_budget`](super::Reader::with_budget).
    #[error("needs more memory than the budget of {0} bytes")]
    OverBudget(usize),
}

/// Why a message cannot be written in a version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The message does not exist in this version.
    #[error("{message} has no version {version}; it has {min} to {max}")]
    UnsupportedVersion {
        /// Kafka's name of the message.
        message: &'static str,
        /// What was asked for.
        version: i16,
        /// Oldest that exists.
        min: i16,
        /// Newest that exists.
        max: i16,
    },
    /// The field is set, this version does not have it, and leaving it out would change what the
    /// message means.
    #[error("{message}.{field} is set, but version {version} has no such field")]
    UnsupportedField {
        /// Kafka's name of the message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The field is null, and this version does not allow it.
    #[error("{message}.{field} is null, which is not allowed here")]
    UnexpectedNull {
        /// Kafka's name of the message.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A string above 32,767 bytes, or bytes, an array or a frame above 2 GiB.
    #[error("{message}.{field} is too long: {len}")]
    TooLong {
        /// Kafka's name of the message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// Bytes, or elements of an array.
        len: usize,
    },
    /// The unknown tagged fields are not in ascending order, or one of them is known in this
    /// version.
    #[error("{message}: unknown tagged field {tag} is out of order")]
    TagOrder {
        /// Kafka's name of the message.
        message: &'static str,
        /// The first one out of order.
        tag: u32,
    },
    /// Records in a file where the bytes must be in memory: read them first
    /// (`Records::into_bytes`).
    #[error("{message} holds records in a file; it can only be written as segments")]
    FileRecords {
        /// Kafka's name of the message.
        message: &'static str,
    },
}
