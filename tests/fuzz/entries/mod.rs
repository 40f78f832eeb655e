//! What is fuzzed: one function per reader of bytes that come from outside. Each takes any bytes and must neither panic, hang nor
//! allocate beyond its bound; what it can read, it checks further (written and read again it is the same).
//!
//! `tests/fuzz/main.rs` runs them over the corpus and seeded mutations in `make test`; `tests/fuzz/targets` hands them to libFuzzer.
#![allow(
    unreachable_pub,
    reason = "public in the package of the targets, private in the test"
)]

mod config;
mod connect;
mod groups;
mod storage;
mod streams;
mod wire;

#[allow(unused_imports, reason = "the targets make no inputs")]
pub(crate) use storage::FILES;

/// One function to be fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Name of the target, and of its folder in `corpus`.
    pub name: &'static str,
    /// Reads the bytes.
    pub run: fn(&[u8]),
    /// Bytes of memory it may hold at once, beside [`PER_BYTE`] per byte of its input.
    pub memory: usize,
    /// Mutations in one run of `make test`.
    pub rounds: usize,
}

/// Bytes of memory per byte of input that any reader may hold: what is decoded is larger than what was sent, and is held twice while it is compared.
pub const PER_BYTE: usize = 64;

const MIB: usize = 1 << 20;

const fn entry(name: &'static str, run: fn(&[u8]), memory: usize, rounds: usize) -> Entry {
    Entry {
        name,
        run,
        memory,
        rounds,
    }
}

/// All of them.
pub const ENTRIES: &[Entry] = &[
    entry("request", wire::request, 4 * MIB, 160_000),
    entry("response", wire::response, 8 * MIB, 160_000),
    entry("primitives", wire::primitives, 4 * MIB, 160_000),
    entry("batch", wire::batch, 8 * MIB, 80_000),
    entry("decompress", wire::decompress, 16 * MIB, 32_000),
    entry("segment", storage::segment, 8 * MIB, 12_000),
    entry("log_dir", storage::log_dir, 8 * MIB, 12_000),
    entry("index_files", storage::index_files, MIB, 40_000),
    entry("metadata_record", groups::metadata_record, MIB, 160_000),
    entry(
        "coordinator_records",
        groups::coordinator_records,
        24 * MIB,
        48_000,
    ),
    entry("members", groups::members, 24 * MIB, 32_000),
    entry("streams_values", streams::values, MIB, 160_000),
    entry("connect_records", connect::records, MIB, 80_000),
    entry("connect_values", connect::values, 4 * MIB, 80_000),
    entry("connect_rest", connect::rest, 16 * MIB, 12_000),
    entry("file_source", connect::file_source, 4 * MIB, 40_000),
    entry("properties", config::properties, MIB, 80_000),
];

/// Runs the entry of that name; for libFuzzer.
///
/// # Panics
/// If there is none, or if it found something.
pub fn run(name: &str, bytes: &[u8]) {
    let entry = ENTRIES.iter().find(|entry| entry.name == name);
    (entry.expect("a target is named as its entry").run)(bytes);
}

/// Bytes of a few inputs in one: each piece has its length in front (two bytes); the last takes what is left.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> i64 {
        let Some((first, rest)) = self.0.split_first_chunk::<8>() else {
            return 0;
        };
        self.0 = rest;
        i64::from_be_bytes(*first)
    }

    fn piece(&mut self) -> &'a [u8] {
        let Some((length, rest)) = self.0.split_first_chunk::<2>() else {
            return &[];
        };
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        self.0 = rest;
        piece
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
