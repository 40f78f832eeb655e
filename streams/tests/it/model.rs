//! Windowed counts against a model that a reader can check by eye.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_streams::serdes::{i64, string, windowed};
use flumen_streams::{
    Consumed, Grouped, Headers, Materialized, Produced, Record, StreamsBuilder, TimeWindows,
    TopologyTestDriver,
};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Windows {
    size: i64,
    advance: i64,
    grace: i64,
}

/// Counts by key and window start, and records dropped, one record after the other.
fn model(windows: Windows, records: &[(u8, i64)]) -> (BTreeMap<(String, i64), i64>, u64) {
    let (mut counts, mut dropped, mut stream_time) = (BTreeMap::new(), 0, -1);
    for (key, timestamp) in records {
        stream_time = stream_time.max(*timestamp);
        for start in (0..=*timestamp)
            .filter(|start| start % windows.advance == 0 && *start + windows.size > *timestamp)
        {
            match start + windows.size + windows.grace > stream_time {
                true => *counts.entry((key.to_string(), start)).or_insert(0) += 1,
                false => dropped += 1,
            }
        }
    }
    (counts, dropped)
}

/// The last count that came out for each key and window, and records dropped.
fn run(
    windows: Windows,
    records: &[(u8, i64)],
    epoch: usize,
) -> (BTreeMap<(String, i64), i64>, u64) {
    let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    let builder = StreamsBuilder::new();
    let grouped = builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with(string(), i64()));
    let time = TimeWindows::of_size_and_grace(ms(windows.size), ms(windows.grace))
        .advance_by(ms(windows.advance));
    let key = windowed(string(), windows.size);
    grouped
        .windowed_by(time)
        .count(Materialized::as_("counts"))
        .to_stream()
        .to("out", Produced::with(key, i64()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    let input = driver.create_input_topic("in", string(), i64());
    for batch in records.chunks(epoch) {
        let record = |(key, timestamp): &(u8, i64)| Record {
            key: key.to_string(),
            value: 0,
            timestamp: *timestamp,
            headers: Headers::none(),
        };
        input.pipe_batch(&batch.iter().map(record).collect::<Vec<_>>());
    }
    let results = driver
        .create_output_topic("out", key, i64())
        .read_key_values();
    (
        results
            .into_iter()
            .map(|(key, count)| ((key.key, key.window.start), count))
            .collect(),
        driver.dropped_late(),
    )
}

proptest! {
    #[test]
    fn windowed_counts_equal_the_model_whatever_the_epochs(
        (size, advance) in (1i64..20).prop_flat_map(|size| (Just(size), 1..=size)),
        grace in 0i64..30,
        epoch in 1usize..20,
        records in prop::collection::vec((0u8..4, 0i64..100), 1..80),
    ) {
        let windows = Windows { size, advance, grace };
        prop_assert_eq!(run(windows, &records, epoch), model(windows, &records));
    }
}
