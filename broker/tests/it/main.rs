//! The broker over real sockets, spoken to in bytes.
#![allow(clippy::disallowed_methods, reason = "tests are drivers")]

mod admin;
mod connection;
mod fetch;
mod produce;
mod restart;
mod support;
mod versions;
