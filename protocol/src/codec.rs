//! How a message becomes bytes and bytes become a message: the traits that generated code
//! implements, and their errors.
//!
//! [`Reader`] walks over a frame, [`Writer`] collects one. The files under `message/` call them
//! field by field; nothing else knows how a field looks on the wire. Neither does IO.
//!
//! Two encodings exist. *Classic* versions write a length as two bytes (strings) or four (bytes,
//! arrays), -1 for null. *Flexible* versions (KIP-482) write every length as an unsigned varint of
//! length + 1, 0 for null, and end every struct with tagged fields. A message says from which
//! version on it is flexible; [`Reader::begin`] and [`Writer::begin`] note it, so that generated
//! code needs no second form.

mod error;
mod reader;
mod wire;
mod writer;

use std::fmt::Debug;

use bytes::{BufMut, Bytes, BytesMut};

pub use error::{DecodeError, EncodeError, Fault};
pub use reader::{Reader, Tag};
pub use writer::{OpenTag, Writer};

use crate::api::ApiKey;

/// Tagged fields that a struct carried and this build does not know: tag and content, in the order
/// of the wire.
pub type TaggedFields = Vec<(u32, Bytes)>;

/// A message of the protocol: a request, a response, or a versioned piece of data inside one or
/// inside a record.
///
/// Implemented by generated code only. `decode(encode(m)) == m` for every version that can carry
/// `m`.
pub trait Message: Default + Clone + Debug + PartialEq + Send {
    /// Kafka's name, as `FetchRequest`.
    const NAME: &'static str;
    /// Oldest version that can be encoded and decoded.
    const MIN_VERSION: i16;
    /// Newest version that can be encoded and decoded.
    const MAX_VERSION: i16;

    /// Whether `version` uses compact lengths and tagged fields (KIP-482).
    fn is_flexible(version: i16) -> bool;

    /// Reads one message, and leaves the reader behind it.
    ///
    /// # Errors
    /// [`DecodeError::UnsupportedVersion`] outside the range of the message;
    /// [`DecodeError::Malformed`] if the bytes are not such a message: close the connection, or
    /// drop the record.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message.
    ///
    /// # Errors
    /// A field holds what `version` cannot carry: see [`EncodeError`]. The writer then holds half a
    /// message: drop it.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A request, and the response it asks for.
pub trait Request: Message {
    /// Which API it is.
    const API: ApiKey;
    /// What the broker answers, in the same version.
    type Response: Message;
}

/// What an array may hold: numbers, strings, ids and the structs of generated code.
pub trait Wire: Sized {
    /// Fewest bytes that one value takes in any version; at least 1. A count is checked against it
    /// before anything is allocated.
    const MIN_SIZE: usize;

    /// Reads one value; `field` names it in errors.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`]: the bytes are not such a value.
    fn read(r: &mut Reader, field: &'static str, version: i16) -> Result<Self, DecodeError>;

    /// Appends one value; `field` names it in errors.
    ///
    /// # Errors
    /// The value holds what `version` cannot carry.
    fn write(&self, w: &mut Writer, field: &'static str, version: i16) -> Result<(), EncodeError>;
}

/// Reads a two-byte version and the message of that version: how subscriptions, assignments and the
/// records of internal topics carry messages.
///
/// Bytes behind the message are allowed, as Kafka allows them.
///
/// # Errors
/// [`DecodeError::UnsupportedVersion`]: written by a newer (or much older) release. Kafka's
/// consumers read a newer subscription as the newest they know; see [`decode_prefixed_lenient`].
pub fn decode_prefixed<M: Message>(bytes: Bytes) -> Result<(i16, M), DecodeError> {
    let mut r = Reader::new(bytes);
    let version = r.i16("version")?;
    Ok((version, M::decode(&mut r, version)?))
}

/// As [`decode_prefixed`], but a version newer than ours is read as our newest: later versions only
/// add fields at the end. Kafka: `ConsumerProtocol.checkSubscriptionVersion`.
///
/// # Errors
/// [`DecodeError::UnsupportedVersion`] for a version older than the oldest;
/// [`DecodeError::Malformed`].
pub fn decode_prefixed_lenient<M: Message>(bytes: Bytes) -> Result<(i16, M), DecodeError> {
    let mut r = Reader::new(bytes);
    let version = r.i16("version")?;
    Ok((version, M::decode(&mut r, version.min(M::MAX_VERSION))?))
}

/// Writes a two-byte version and the message of that version; the reverse of [`decode_prefixed`].
///
/// # Errors
/// As [`Message::encode`].
pub fn encode_prefixed<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    w.i16(version);
    message.encode(&mut w, version)?;
    w.into_bytes()
}

/// Appends an unsigned varint (KIP-482): seven bits a byte, lowest first.
pub fn put_unsigned_varint(buf: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        buf.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}
