//! Bytes that Apache Kafka 4.3.1 wrote: every message in its newest version, and every version that
//! the other oracle does not know. `tests/fixtures/wire/Rewrite.java` says how they were made.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::messages;

const LINES: &str = include_str!("../../../tests/fixtures/wire/kafka-4.3.1.hex");

fn bytes(hex: &str) -> Bytes {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

#[test]
fn what_kafka_wrote_is_read_and_written_again() {
    let entries = messages::all();
    let by_name: BTreeMap<&str, _> = entries
        .iter()
        .map(|entry| (entry.shape.name.as_str(), entry))
        .collect();
    for line in LINES.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, version, hex] = words.as_slice() else {
            panic!("{line}");
        };
        let kafkas = bytes(hex);
        let ours = (by_name[name].recode)(kafkas.clone(), version.parse().unwrap());
        assert_eq!(ours, kafkas, "{name} {version}");
    }
}

#[test]
fn every_message_is_there() {
    for entry in messages::all() {
        let start = format!("{} {} ", entry.shape.name, entry.shape.versions.max);
        // a few messages are empty in every version: nothing to compare
        let empty = entry.shape.structs[0].fields.is_empty() && entry.shape.flexible_from.is_none();
        assert!(
            empty || LINES.lines().any(|line| line.starts_with(&start)),
            "{start}"
        );
    }
}
