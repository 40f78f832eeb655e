//! A connect runtime: source and sink plugins, exactly-once, Kafka Connect REST.
mod common;
pub mod config;
pub mod converter;
pub mod dead_letter;
pub mod error;
pub mod offsets;
mod outbox;
mod pending;
pub mod record;
pub mod registry;
mod rest;
pub mod retry;
mod runtime;
pub mod schema;
pub mod sink;
mod sink_task;
pub mod source;
mod source_task;
pub mod state;
pub mod status;
mod supervisor;
mod task;
mod topics;
pub mod value;
pub mod worker;

pub use topics::InternalTopics;
