//! The Postgres sink against a real PostgreSQL.
//!
//! Each test starts its own server (`server.rs`) and drives tasks as the worker would
//! (`harness.rs`). Where no PostgreSQL is installed they say so and pass over.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod claims;
mod crash;
mod harness;
mod proxy;
mod rows;
mod server;
mod trouble;
mod types;
