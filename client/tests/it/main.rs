//! The client against a scripted broker over in-memory pipes, in virtual time: what networks and brokers do to it, step by
//! step. Against real brokers it is tested in `broker/tests` and `tests/e2e`.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests have a clock and tasks of their own, and stop at the first surprise"
)]

mod admin;
mod connection;
mod consume;
mod fake;
mod produce;
mod transactions;
