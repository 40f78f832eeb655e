//! How long a start takes after a kill: a child process fills a data directory as a broker would and is killed; then it is opened.
//!
//! `cargo run --release -p flumen-log --example recovery -- <directory> [<GiB> [<partitions>]]`, 10 GiB in 8 partitions by default; 0 GiB opens what
//! an earlier run left.
//! The child flushes every 4 MiB and moves the recovery points after every 256 MiB, as the broker does; what is scanned is what it
//! appended since. Prints the time to open all logs one after the other, and how much was read for it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use flumen_log::disk::OsDisk;
use flumen_log::{AppendAs, Identity, LogConfig, LogDir, flush_many};
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::id::{TopicId, TopicPartition};

const FLUSH_BYTES: u64 = 4 << 20;
const CHECKPOINT_BYTES: u64 = 256 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let dir = arguments.first().expect("a directory");
    let number = |i: usize, default| {
        arguments
            .get(i)
            .map_or(default, |text| text.parse().unwrap())
    };
    let (gib, partitions) = (number(1, 10), number(2, 8));
    if std::env::var_os("FILL").is_some() {
        return fill(Path::new(dir), gib << 30, partitions as i32);
    }
    if gib > 0 {
        fill_and_kill(&arguments);
    }
    let (begun, read) = (Instant::now(), bytes_read());
    let open = open(Path::new(dir));
    assert_eq!(open.clean_stop(), None);
    let mut records = 0;
    let mut scanned = 0;
    for found in open.found() {
        let log = open.open_log(&found.partition, None, LogConfig::default());
        let log = log.unwrap();
        records += log.log_end_offset();
        scanned += log.log_end_offset() - log.flushed_offset();
    }
    println!(
        "{} logs with {records} records ready after {:.2?}: {scanned} records above the recovery points, {} MiB read",
        open.found().len(),
        begun.elapsed(),
        (bytes_read() - read) >> 20
    );
}

fn fill_and_kill(arguments: &[String]) {
    let begun = Instant::now();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env("FILL", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    println!("{} in {:.0?}, killed", said.trim(), begun.elapsed());
}

fn open(dir: &Path) -> LogDir {
    let identity = Identity {
        cluster_id: "recovery".into(),
        node_id: 1,
        directory_id: TopicId([1; 16]),
    };
    LogDir::open(Arc::new(OsDisk::new()), dir, &identity).unwrap()
}

/// Until it is killed: everything, and half of what a checkpoint covers behind the last one.
fn fill(dir: &Path, bytes: u64, partitions: i32) {
    let dir = open(dir);
    let logs: Vec<_> = (0..partitions)
        .map(|i| {
            let name = TopicPartition::new("filled", i);
            dir.open_log(&name, None, LogConfig::default()).unwrap()
        })
        .collect();
    let mut batch = BatchBuilder::new(BatchOptions::default());
    let value: Vec<u8> = (0..1_000u32).map(|i| (i * 7_919 % 251) as u8).collect();
    for i in 0..16 {
        batch.push(1_700_000_000_000 + i, Some(b"key"), Some(&value), &[]);
    }
    let batch = batch.build();
    let (mut written, mut flushed, mut checkpointed) = (0, 0, 0);
    while written < bytes + CHECKPOINT_BYTES / 2 {
        for log in &logs {
            let appended = log.append(batch.clone(), &AppendAs::client(0), 1_700_000_000_000);
            written += appended.unwrap().size_bytes as u64;
        }
        if written - flushed >= FLUSH_BYTES {
            for durable in flush_many(&logs) {
                durable.unwrap();
            }
            flushed = written;
        }
        if written - checkpointed >= CHECKPOINT_BYTES && written < bytes {
            dir.checkpoint().unwrap();
            checkpointed = written;
        }
    }
    println!("{} MiB written", written >> 20);
    std::io::stdout().flush().unwrap();
    std::thread::park();
}

/// By system calls of this process; what is read through maps is not in it.
fn bytes_read() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.map_or(0, |bytes| bytes.trim().parse().unwrap())
}
