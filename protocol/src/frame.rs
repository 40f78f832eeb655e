//! Frames and headers: what stands around a message on a connection. Pure over buffers; the server
//! and the client move the bytes.
//!
//! ```text
//! request   length i32 | api_key i16 | api_version i16 | correlation_id i32 | client_id string?
//!           | tagged fields (v2) | body
//! response  length i32 | correlation_id i32 | tagged fields (v1) | body
//! ```
//!
//! The length counts what follows it. `client_id` has a two-byte length in both header versions;
//! which version it is follows from API and body version ([`ApiKey::request_header_version`],
//! [`ApiKey::response_header_version`]).

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::segment::Segment;

/// The header of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API: [`ApiKey::code`].
    pub api_key: i16,
    /// Version of the body.
    pub api_version: i16,
    /// Chosen by the client; the response repeats it.
    pub correlation_id: i32,
    /// Chosen by the client, for logs and quotas.
    pub client_id: Option<String>,
}

/// The length before a frame is impossible: close the connection, nothing was allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Below zero.
    #[error("frame length {0} is negative")]
    Negative(i32),
    /// Above the limit of the connection.
    #[error("frame of {len} bytes, but at most {max} are allowed")]
    TooLarge {
        /// What the length says.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// Takes the next whole frame out of `buf`, without its length; `None` until it is complete.
///
/// `max` bounds the length. Never reserves space: `buf` grows with what the peer really sends.
///
/// ```
/// use bytes::BytesMut;
/// use flumen_protocol::frame::take_frame;
///
/// let mut buf = BytesMut::from(&b"\0\0\0\x02hi\0\0"[..]);
/// assert_eq!(take_frame(&mut buf, 100).unwrap().unwrap(), "hi");
/// assert_eq!(take_frame(&mut buf, 100), Ok(None)); // half a length
///
/// let mut http = BytesMut::from("GET / HTTP/1.1");
/// let error = take_frame(&mut http, 100).unwrap_err();
/// assert_eq!(error.to_string(), "frame of 1195725856 bytes, but at most 100 are allowed");
/// ```
///
/// # Errors
/// [`FrameError`]: the peer does not speak this protocol, or its frame is too large; close the
/// connection.
pub fn take_frame(buf: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = buf.first_chunk::<4>() else {
        return Ok(None);
    };
    let prefix = i32::from_be_bytes(*prefix);
    let Ok(len) = usize::try_from(prefix) else {
        return Err(FrameError::Negative(prefix));
    };
    if len > max {
        return Err(FrameError::TooLarge { len, max });
    }
    if buf.len() < 4 + len {
        return Ok(None);
    }
    buf.advance(4);
    Ok(Some(buf.split_to(len).freeze()))
}

/// Reads the header of a request and leaves the reader at the body. The body's version is not
/// checked: ApiVersions must be answered in any.
///
/// # Errors
/// [`DecodeError::UnknownApi`] names the key; [`DecodeError::Malformed`]. Both: close the
/// connection.
pub fn decode_request_header(r: &mut Reader) -> Result<RequestHeader, DecodeError> {
    r.begin_part("RequestHeader", false);
    let key = r.i16("api_key")?;
    let Some(api) = ApiKey::from_code(key) else {
        return Err(DecodeError::UnknownApi { key });
    };
    let header = RequestHeader {
        api_key: key,
        api_version: r.i16("api_version")?,
        correlation_id: r.i32("correlation_id")?,
        client_id: r.nullable_string("client_id")?,
    };
    if api.request_header_version(header.api_version) >= 2 {
        r.unknown_tags()?;
    }
    Ok(header)
}

/// A request as one frame, length included. Records are copied in; see [`encode_request_segments`].
///
/// `header.api_key` must be the key of `R`, and `header.api_version` the version of the body.
///
/// # Errors
/// As [`Message::encode`]; [`EncodeError::FileRecords`] for records in a file.
pub fn encode_request<R: Request>(header: &RequestHeader, body: &R) -> Result<Bytes, EncodeError> {
    request(header, body)?.into_bytes()
}

/// A request as one frame, length included, in segments: records are not copied.
///
/// # Errors
/// As [`Message::encode`].
pub fn encode_request_segments<R: Request>(
    header: &RequestHeader,
    body: &R,
) -> Result<Vec<Segment>, EncodeError> {
    Ok(request(header, body)?.into_segments())
}

fn request<R: Request>(header: &RequestHeader, body: &R) -> Result<Writer, EncodeError> {
    debug_assert_eq!(header.api_key, R::API.code(), "header and body disagree");
    let mut w = Writer::new();
    w.begin_part("RequestHeader", false);
    w.i32(0); // the length, known at the end
    w.i16(header.api_key);
    w.i16(header.api_version);
    w.i32(header.correlation_id);
    w.nullable_string("client_id", header.client_id.as_deref())?;
    if R::API.request_header_version(header.api_version) >= 2 {
        w.tag_count(0, &TaggedFields::new());
    }
    body.encode(&mut w, header.api_version)?;
    w.set_length_prefix()?;
    Ok(w)
}

/// A response as one frame, length included, in segments: records in files stay there.
///
/// # Errors
/// As [`Message::encode`]: the handler filled a field that `version` does not have.
pub fn encode_response<M: Message>(
    correlation_id: i32,
    api: ApiKey,
    version: i16,
    body: &M,
) -> Result<Vec<Segment>, EncodeError> {
    let mut w = Writer::new();
    w.i32(0); // the length, known at the end
    w.i32(correlation_id);
    if api.response_header_version(version) >= 1 {
        w.tag_count(0, &TaggedFields::new());
    }
    body.encode(&mut w, version)?;
    w.set_length_prefix()?;
    Ok(w.into_segments())
}

/// Bytes of memory that a response may take per byte of its frame: an answer about a hundred
/// thousand partitions holds many small arrays, and the broker was chosen, unlike a client.
const RESPONSE_BUDGET_FACTOR: usize = 16;

/// Reads a response (a frame without its length) to a request `R` that was sent in `version`; gives
/// the correlation id, too.
///
/// A broker that does not know the version of an ApiVersions request answers in version 0, so that
/// answer is read as version 0 where it is not of `version` (KIP-511).
///
/// # Errors
/// [`DecodeError::Malformed`]: the connection is out of step; close it.
pub fn decode_response<R: Request>(
    frame: Bytes,
    version: i16,
) -> Result<(i32, R::Response), DecodeError> {
    let budget = frame.len() * RESPONSE_BUDGET_FACTOR + Reader::BUDGET_BASE;
    let mut r = Reader::with_budget(frame, budget);
    r.begin_part("ResponseHeader", false);
    let correlation_id = r.i32("correlation_id")?;
    if R::API.response_header_version(version) >= 1 {
        r.unknown_tags()?;
    }
    let mut oldest = r.clone();
    let body = match R::Response::decode(&mut r, version) {
        Err(_) if R::API == ApiKey::ApiVersions => R::Response::decode(&mut oldest, 0)?,
        body => body?,
    };
    Ok((correlation_id, body))
}

/// The correlation id of a response (a frame without its length): which request it answers.
///
/// # Errors
/// [`DecodeError::Malformed`] below four bytes; close the connection.
pub fn peek_correlation_id(frame: &Bytes) -> Result<i32, DecodeError> {
    let mut r = Reader::new(frame.clone());
    r.begin_part("ResponseHeader", false);
    r.i32("correlation_id")
}
