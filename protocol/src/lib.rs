//! Kafka's wire protocol: frames, messages, record batches, compression. No IO, no async.

pub mod api;
pub mod batch;
pub mod builder;
pub mod codec;
pub mod compression;
pub mod error_code;
pub mod frame;
pub mod id;
pub mod message;
pub mod record;
pub mod segment;
