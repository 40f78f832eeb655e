//! The log from outside: against models, on a disk that fails on purpose, and on the real one.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at files, and fail by panicking"
)]

mod compaction;
mod crash;
mod damage;
mod dir;
mod fault_disk;
mod faults;
mod helpers;
mod kafka;
mod model;
mod planted;
mod reading;
mod recovery;
mod scrub;
