//! A connect runtime: source and sink plugins, exactly-once, Kafka Connect REST.
mod common;
pub mod config;
pub mod converter;
pub mod dead_letter;
pub mod error;
pub mod offsets;
pub mod record;
pub mod registry;
pub mod retry;
mod runtime;
pub mod schema;
pub mod sink;
pub mod source;
pub mod state;
pub mod status;
pub mod value;
