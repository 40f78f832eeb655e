//! Tests of the whole crate: every message in every version, against its shape, against another
//! implementation, and against bytes that mean harm.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read the committed files, and an unwrap is an assertion"
)]

mod allocations;
mod differential;
mod encoding;
mod frames;
mod generated;
mod golden;
mod hostile;
mod messages;
mod round_trip;
mod sample;
