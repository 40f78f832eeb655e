//! Read, write and commit exactly once, judged by what it was for: each committed value of the source that the group's offset has passed
//! was copied once, and none beyond it.
//!
//! The history checker sees records and offsets, each by Kafka's rules; that a copy belongs to its source only the movers know.

use std::collections::BTreeMap;

use flumen_checker::{History, Isolation, Partition, Read, What};

/// Which value a copy was made of.
pub(crate) type Copies = BTreeMap<u64, u64>;

/// Where values go from, where to, and which group's offsets tell how far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copying {
    pub(crate) from: u16,
    pub(crate) to: u16,
    pub(crate) group: u16,
}

/// The first value that was not copied exactly once.
pub(crate) fn check(history: &History, copying: Copying, copies: &Copies) -> Option<String> {
    let mut copied: BTreeMap<u64, Vec<(Partition, i64)>> = BTreeMap::new();
    for read in committed(history, copying.to) {
        for (offset, value) in &read.records {
            let Some(source) = copies.get(value) else {
                return Some(format!(
                    "{value} in {} is a copy of nothing",
                    read.partition
                ));
            };
            let places = copied.entry(*source).or_default();
            places.push((read.partition, *offset));
        }
    }
    let offsets = group_offsets(history, copying.group);
    for read in committed(history, copying.from) {
        let passed = offsets.get(&read.partition).copied().unwrap_or(-1);
        for (offset, value) in &read.records {
            let places = copied.remove(value).unwrap_or_default();
            let expected = usize::from(*offset < passed);
            if places.len() != expected {
                let partition = read.partition;
                return Some(format!(
                    "{value} at {offset} of {partition} was copied {} times, to {places:?}; the group has passed {passed}",
                    places.len()
                ));
            }
        }
    }
    copied
        .first_key_value()
        .map(|(value, places)| format!("{value} was copied to {places:?} and is not in the source"))
}

fn committed(history: &History, topic: u16) -> impl Iterator<Item = &Read> {
    history
        .events
        .iter()
        .filter_map(move |event| match &event.what {
            What::FinalRead(read)
                if read.partition.topic == topic && read.isolation == Isolation::ReadCommitted =>
            {
                Some(read)
            }
            _ => None,
        })
}

/// As they were fetched last.
fn group_offsets(history: &History, of: u16) -> BTreeMap<Partition, i64> {
    let events = history.events.iter();
    events
        .filter_map(|event| match event.what {
            What::OffsetsFetched {
                group,
                partition,
                offset,
            } if group == of => Some((partition, offset)),
            _ => None,
        })
        .collect()
}
