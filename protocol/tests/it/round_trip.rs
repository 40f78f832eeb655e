//! What is decoded encodes to the same bytes: the generated code reads and writes what the shape
//! says, unknown tagged fields included.

use bytes::Bytes;
use proptest::prelude::*;

use crate::messages;
use crate::sample::{Richness, sample};

#[test]
fn every_message_in_every_version_writes_the_bytes_it_was_read_from() {
    let mut checked = 0;
    for entry in messages::all() {
        for version in entry.shape.versions.iter() {
            for seed in 0..12 {
                let richness = match seed {
                    0 => Richness::Full,
                    1 => Richness::Empty,
                    2 => Richness::Twins,
                    _ => Richness::Random,
                };
                let bytes = Bytes::from(sample(&entry.shape, version, richness, seed).bytes);
                let again = (entry.recode)(bytes.clone(), version);
                assert_eq!(again, bytes, "{} {version} seed {seed}", entry.shape.name);
                checked += 1;
            }
        }
    }
    println!("{checked} messages");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_message_survives_a_round_trip(which: prop::sample::Index, version: prop::sample::Index, seed: u64) {
        let entries = ENTRIES.with(|entries| entries.clone());
        let entry = which.get(&entries);
        let versions: Vec<i16> = entry.shape.versions.iter().collect();
        let version = *version.get(&versions);
        let bytes = Bytes::from(sample(&entry.shape, version, Richness::Random, seed).bytes);
        prop_assert_eq!((entry.recode)(bytes.clone(), version), bytes);
    }
}

thread_local! {
    static ENTRIES: std::rc::Rc<Vec<messages::Entry>> = std::rc::Rc::new(messages::all());
}
