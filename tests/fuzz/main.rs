//! Every reader of bytes from outside, over the committed corpus, good inputs made here, and seeded mutations of both.
//!
//! The rounds are counted, not timed; `SEED=7` gives other mutations, `ROUNDS=100` a hundred times as many. An input that breaks
//! something is written to `target/fuzz/` with the command that shows it again: it belongs into `corpus/<target>/` with the fix.
//! `make fuzz` runs the same functions under libFuzzer, guided by coverage, from the same inputs (`FUZZ_CORPUS=<folder>` writes them).
#![allow(
    clippy::disallowed_methods,
    reason = "this test reads and writes files, and a stub of a cluster runs in a task"
)]

mod entries;
mod memory;
mod mutation;
#[path = "../e2e/random.rs"]
#[allow(dead_code, reason = "the seed is chosen here")]
mod random;
#[path = "../../protocol/tests/it/sample.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod sample;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use entries::{ENTRIES, Entry, PER_BYTE};
use mutation::mutate;
use random::Random;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz")
}

fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(default)
}

/// The committed inputs of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(files) = std::fs::read_dir(folder().join("corpus").join(target)) else {
        return Vec::new();
    };
    let mut found: Vec<_> = files
        .map(|file| {
            let path = file.expect("a readable folder").path();
            let bytes = std::fs::read(&path).expect("a readable file");
            (path.display().to_string(), bytes)
        })
        .collect();
    found.sort();
    found
}

/// Runs one input; says how to see it again if it breaks something.
fn check(entry: &Entry, what: &str, input: &[u8]) {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let held = memory::peak(|| entries::run(entry.name, input));
        let allowed = entry.memory + input.len() * PER_BYTE;
        assert!(
            held <= allowed,
            "{held} bytes held for an input of {}, but {allowed} are allowed",
            input.len()
        );
    }));
    if let Err(panic) = ran {
        let folder = folder().join("../../target/fuzz");
        let file = folder.join(entry.name);
        std::fs::create_dir_all(&folder).expect("a folder for findings");
        std::fs::write(&file, input).expect("the finding is written");
        eprintln!(
            "{}: {what} broke it; the input is in {}\nrepeat: FUZZ_INPUT={} cargo test -p flumen --test fuzz {}",
            entry.name,
            file.display(),
            file.display(),
            entry.name
        );
        resume_unwind(panic);
    }
}

fn fuzz(target: &str) {
    let entry = ENTRIES.iter().find(|entry| entry.name == target);
    let entry = entry.expect("a test is named as its entry");
    if let Ok(path) = std::env::var("FUZZ_INPUT") {
        let input = std::fs::read(&path).expect("FUZZ_INPUT is a file");
        return check(entry, &path, &input);
    }
    let mut inputs = corpus(target);
    let made = seeds::of(target).into_iter().enumerate();
    inputs.extend(made.map(|(at, bytes)| (format!("made-{at:04}"), bytes)));
    if let Ok(folder) = std::env::var("FUZZ_CORPUS") {
        return write(&Path::new(&folder).join(target), &inputs);
    }
    for (name, input) in &inputs {
        check(entry, name, input);
    }
    assert!(!inputs.is_empty(), "{target} has nothing to begin with");
    let seed = setting("SEED", 1);
    let rounds = entry.rounds * usize::try_from(setting("ROUNDS", 1)).unwrap_or(1);
    println!(
        "{target}: SEED={seed}, {} inputs, {rounds} rounds",
        inputs.len()
    );
    let mut random = Random::new(seed);
    for round in 0..rounds {
        let (name, input) = &inputs[random.below(inputs.len())];
        let (_, other) = &inputs[random.below(inputs.len())];
        let changed = mutate(input, other, &mut random);
        check(entry, &format!("round {round} ({name})"), &changed);
    }
}

fn write(folder: &Path, inputs: &[(String, Vec<u8>)]) {
    std::fs::create_dir_all(folder).expect("a folder for the corpus");
    for (name, bytes) in inputs {
        let name = Path::new(name).file_name().expect("a file's name");
        std::fs::write(folder.join(name), bytes).expect("an input is written");
    }
}

macro_rules! targets {
    ($($target:ident)*) => {
        mod any_bytes_are_read_or_refused_by {
            $(#[test]
            fn $target() {
                crate::fuzz(stringify!($target));
            })*
        }

        #[test]
        fn every_entry_is_a_test_and_a_target() {
            let tests = [$(stringify!($target)),*];
            let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
            assert_eq!(names, tests);
            for name in names {
                let target = folder().join("targets").join(format!("{name}.rs"));
                assert!(target.exists(), "{}", target.display());
            }
        }
    };
}

targets! {
    request response primitives batch decompress segment log_dir index_files metadata_record coordinator_records members
    streams_values connect_records connect_values connect_rest file_source properties
}
