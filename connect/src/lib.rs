//! A connect runtime: source and sink plugins, exactly-once, Kafka Connect REST.
pub mod config;
pub mod converter;
pub mod error;
pub mod record;
pub mod registry;
pub mod schema;
pub mod sink;
pub mod source;
pub mod value;
