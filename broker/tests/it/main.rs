//! The broker over real sockets, spoken to in bytes.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests are drivers, and fail where they stand"
)]

mod admin;
mod client;
mod clocks;
mod compaction;
mod configs;
mod connection;
mod disk;
mod durability;
mod fetch;
mod groups;
mod held;
mod http;
mod limits;
mod planted;
mod produce;
mod restart;
mod rules;
mod support;
mod tools;
mod transactions;
mod versions;
