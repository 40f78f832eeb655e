//! Kafka's wire protocol: frames, messages, record batches, compression. No IO, no async.

pub mod segment;
