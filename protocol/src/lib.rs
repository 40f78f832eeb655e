//! Kafka's wire protocol: frames, messages, record batches, compression. No IO, no async.
//!
//! # What is on the wire, in order
//!
//! A connection carries **frames**: four bytes of length, then that many bytes ([`frame`]). A
//! client sends requests; the broker answers each, in the order they came.
//!
//! ```text
//! length i32 │ header                                               │ body
//!            │ api_key i16, api_version i16, correlation_id i32, …   │ e.g. ProduceRequest 9
//! length i32 │ correlation_id i32, …                                 │ e.g. ProduceResponse 9
//! ```
//!
//! - The **header** of a request names an API ([`api::ApiKey`]) and the version of the body; the
//!   header of a response only repeats the correlation id, so the client must know what it had
//!   asked. [`api`] is the table of what exists.
//! - The **body** is a message ([`message`]): fields in the order of its shape, those that the
//!   version has. Numbers are big-endian; strings, bytes and arrays begin with a length. Classic
//!   versions write lengths as `i16` (strings) or `i32`, -1 for null; flexible versions (KIP-482)
//!   write them as varints and end every struct with tagged fields ([`codec`]).
//! - A `records` field holds **record batches** ([`batch`]): 61 bytes of header with a CRC, then
//!   the records, compressed together ([`compression`]). They are the bytes that lie in the log: a
//!   broker never rewrites them on the way out, so a response is a list of [`segment`]s, some of
//!   which are ranges of files.
//! - A **record** ([`record`]) has deltas of offset and timestamp to its batch, key, value and
//!   headers. [`builder`] makes batches.
//! - Errors are a number in the response ([`error_code`]).
//!
//! # A request from one side to the other
//!
//! ```
//! use bytes::BytesMut;
//! use flumen_protocol::api::ApiKey;
//! use flumen_protocol::codec::{Message, Reader};
//! use flumen_protocol::frame::{self, RequestHeader};
//! use flumen_protocol::message::MetadataRequest;
//!
//! let header = RequestHeader {
//!     api_key: ApiKey::Metadata.code(),
//!     api_version: 12,
//!     correlation_id: 1,
//!     client_id: Some("reader".to_owned()),
//! };
//! let all_topics = MetadataRequest { topics: None, ..MetadataRequest::default() };
//! let bytes = frame::encode_request(&header, &all_topics)?;
//!
//! // ... over the network ...
//! let mut buf = BytesMut::from(&bytes[..]);
//! let frame = frame::take_frame(&mut buf, 64 << 10)?.expect("a whole frame");
//! let mut r = Reader::new(frame);
//! let header = frame::decode_request_header(&mut r)?;
//! assert_eq!(ApiKey::from_code(header.api_key), Some(ApiKey::Metadata));
//! assert_eq!(MetadataRequest::decode(&mut r, header.api_version)?, all_topics);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where messages come from
//!
//! The shape of every message is data, in `protocol/shapes`; `cargo run -p
//! flumen-protocol-generator` writes the files of [`message`] from it. A newer Kafka is a change of
//! data. Bytes from a peer are trusted in nothing: see [`codec::Reader`].

pub mod api;
pub mod batch;
pub mod builder;
pub mod codec;
pub mod compacted;
pub mod compression;
pub mod error_code;
pub mod frame;
pub mod id;
pub mod message;
pub mod record;
pub mod segment;
