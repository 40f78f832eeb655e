//! End to end: the real binary over TCP, driven by clients nobody here wrote, killed, starved of disk and fed garbage.
//!
//! A test whose client is not installed says so and is left out (`tools/setup test` installs all of them). Each test has its own broker, folder and port.
#![allow(
    clippy::disallowed_methods,
    reason = "this test drives processes, sockets and files"
)]

mod attack;
mod bad_input;
mod cli;
mod clients;
mod degradation;
mod kcat;
mod pipeline;
mod postgres;
mod random;
mod restart;
#[path = "../../protocol/tests/it/sample.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod sample;
mod server;
mod streams;
mod transactions;
mod wire;
mod worker;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::server::PATIENCE;

/// True if a program is on the PATH; says what is skipped if not.
fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    if !found {
        eprintln!("skipped: {program} is not installed (tools/setup test installs it)");
    }
    found
}

/// Where `tools/setup` keeps what it made.
fn cache() -> Option<PathBuf> {
    std::env::var_os("FLUMEN_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
            let base = std::env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(home)?;
            Some(base.join("flumen"))
        })
}

/// The Python environment of `tools/setup test`, if it was made.
fn python() -> Option<PathBuf> {
    let python = cache()?.join("python/bin/python");
    if !python.exists() {
        eprintln!("skipped: no Python clients (tools/setup test installs them)");
        return None;
    }
    Some(python)
}

/// Waits until `fact` is so; panics with what it is instead after [`PATIENCE`].
async fn until(what: &str, mut fact: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(instead) = fact().await {
        assert!(
            Instant::now() < deadline,
            "waited in vain: {what}: {instead}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
