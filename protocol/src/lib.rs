//! Kafka's wire protocol: frames, messages, record batches, compression. No IO, no async.

pub mod batch;
pub mod builder;
pub mod compression;
pub mod record;
pub mod segment;
