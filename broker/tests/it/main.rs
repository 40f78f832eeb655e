//! The broker over real sockets, spoken to in bytes.
#![allow(clippy::disallowed_methods, reason = "tests are drivers")]

mod admin;
mod client;
mod connection;
mod disk;
mod fetch;
mod groups;
mod produce;
mod restart;
mod support;
mod transactions;
mod versions;
