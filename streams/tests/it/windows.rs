//! Windowed aggregates: boundaries, hopping windows, grace, late records, expiry.

use std::time::Duration;

use flumen_streams::serdes::{i64, nullable, string, windowed};
use flumen_streams::{
    Consumed, Grouped, Headers, Materialized, Produced, Record, StreamsBuilder, TestInputTopic,
    TestOutputTopic, TimeWindows, TopologyTestDriver, Windowed,
};

struct Run {
    driver: TopologyTestDriver,
    input: TestInputTopic<String, i64>,
    output: TestOutputTopic<Windowed<String>, i64>,
}

fn tumbling(size: u64, grace: u64) -> TimeWindows {
    TimeWindows::of_size_and_grace(Duration::from_millis(size), Duration::from_millis(grace))
}

fn run(windows: TimeWindows, store: Materialized<i64>) -> Run {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("events", Consumed::with(string(), i64()));
    let grouped = stream.group_by_key(Grouped::with(string(), i64()));
    let key = windowed(string(), windows.size_ms());
    grouped
        .windowed_by(windows)
        .count(store)
        .to_stream()
        .to("out", Produced::with(key, i64()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    let input = driver.create_input_topic("events", string(), i64());
    let output = driver.create_output_topic("out", key, i64());
    Run {
        driver,
        input,
        output,
    }
}

impl Run {
    fn at(&self, timestamp: i64) {
        self.input.pipe_input("k".to_owned(), 0, timestamp);
    }

    /// What came out: window start, window end, count.
    #[track_caller]
    fn expect(&self, expected: &[(i64, i64, i64)]) {
        let results = self.output.read_key_values();
        let results: Vec<_> = results
            .iter()
            .map(|(key, count)| (key.window.start, key.window.end, *count))
            .collect();
        assert_eq!(results, expected);
    }

    fn tombstones(&self) -> usize {
        let key = flumen_streams::serdes::bytes();
        let changelog =
            self.driver
                .create_output_topic("test-counts-changelog", key, nullable(i64()));
        changelog
            .read_key_values()
            .iter()
            .filter(|(_, value)| value.is_none())
            .count()
    }
}

#[test]
fn each_record_counts_in_its_tumbling_window() {
    let run = run(tumbling(10, 100), Materialized::as_("counts"));
    for timestamp in [0, 9, 10, 5] {
        run.at(timestamp);
    }
    run.expect(&[(0, 10, 1), (0, 10, 2), (10, 20, 1), (0, 10, 3)]);
    assert_eq!(
        run.driver
            .fetch::<String, i64>("counts", &"k".to_owned(), 0)
            .unwrap()
            .value,
        3
    );
}

#[test]
fn each_record_counts_in_all_its_hopping_windows() {
    let run = run(
        tumbling(10, 100).advance_by(Duration::from_millis(5)),
        Materialized::as_("counts"),
    );
    run.at(7);
    run.at(12);
    run.expect(&[(0, 10, 1), (5, 15, 1), (5, 15, 2), (10, 20, 1)]);
}

#[test]
fn a_record_within_grace_counts_and_one_past_it_is_dropped() {
    let run = run(tumbling(10, 5), Materialized::as_("counts"));
    run.at(0);
    run.at(14); // stream time 14: window 0..10 closes at 15
    run.at(9);
    run.expect(&[(0, 10, 1), (10, 20, 1), (0, 10, 2)]);
    run.at(15);
    run.at(9);
    run.expect(&[(10, 20, 2)]);
    assert_eq!(run.driver.dropped_late(), 1);
}

#[test]
fn without_grace_a_window_closes_at_its_end() {
    let run = run(tumbling(10, 0), Materialized::as_("counts"));
    run.at(9);
    run.at(10);
    run.at(9);
    run.expect(&[(0, 10, 1), (10, 20, 1)]);
    assert_eq!(run.driver.dropped_late(), 1);
}

#[test]
fn a_late_record_still_counts_in_the_hopping_windows_that_are_open() {
    let run = run(
        tumbling(10, 0).advance_by(Duration::from_millis(5)),
        Materialized::as_("counts"),
    );
    run.at(12); // windows 5..15 and 10..20
    run.at(7); // windows 0..10 (closed at 10) and 5..15
    run.expect(&[(5, 15, 1), (10, 20, 1), (5, 15, 2)]);
    assert_eq!(run.driver.dropped_late(), 1);
}

#[test]
fn stream_time_moves_within_a_batch_as_record_by_record() {
    let run = run(tumbling(10, 0), Materialized::as_("counts"));
    let record = |timestamp| Record {
        key: "k".to_owned(),
        value: 0,
        timestamp,
        headers: Headers::none(),
    };
    run.input.pipe_batch(&[0, 25, 1, 24].map(record));
    // 1 is late because 25 went before it; the closed window of 0 is still passed on.
    run.expect(&[(0, 10, 1), (20, 30, 2)]);
    assert_eq!(run.driver.dropped_late(), 1);
}

#[test]
fn closed_windows_leave_the_store_and_the_changelog() {
    let run = run(tumbling(10, 5), Materialized::as_("counts"));
    run.at(0);
    run.at(14);
    assert!(
        run.driver
            .fetch::<String, i64>("counts", &"k".to_owned(), 0)
            .is_some()
    );
    assert_eq!(run.tombstones(), 0);
    run.at(15);
    assert!(
        run.driver
            .fetch::<String, i64>("counts", &"k".to_owned(), 0)
            .is_none()
    );
    assert_eq!(run.tombstones(), 1);
}

#[test]
fn retention_keeps_closed_windows_readable() {
    let run = run(
        tumbling(10, 0),
        Materialized::as_("counts").with_retention(Duration::from_millis(100)),
    );
    run.at(0);
    run.at(99);
    assert!(
        run.driver
            .fetch::<String, i64>("counts", &"k".to_owned(), 0)
            .is_some()
    );
    run.at(100);
    assert!(
        run.driver
            .fetch::<String, i64>("counts", &"k".to_owned(), 0)
            .is_none()
    );
}

#[test]
fn keys_have_windows_of_their_own() {
    let run = run(tumbling(10, 0), Materialized::as_("counts"));
    run.input.pipe_input("a".to_owned(), 0, 1);
    run.input.pipe_input("b".to_owned(), 0, 1);
    run.expect(&[(0, 10, 1), (0, 10, 1)]);
}

#[test]
fn reduce_and_aggregate_work_by_window() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("events", Consumed::with(string(), i64()));
    let grouped = stream.group_by_key(Grouped::with(string(), i64()));
    let windows = grouped.windowed_by(tumbling(10, 0));
    let key = windowed(string(), 10);
    windows
        .reduce(|a, b| a.max(b), Materialized::as_("max"))
        .to_stream()
        .to("max", Produced::with(key, i64()));
    let mean = windows.aggregate(
        || (0, 0),
        |_, value, (n, sum)| (n + 1, sum + value),
        Materialized::as_("mean"),
    );
    mean.map_values(|(n, sum)| sum / n)
        .to_stream()
        .to("mean", Produced::with(key, i64()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    let input = driver.create_input_topic("events", string(), i64());
    input.pipe_input("k".to_owned(), 4, 1);
    input.pipe_input("k".to_owned(), 2, 2);
    let read = |topic: &str| -> Vec<i64> {
        driver
            .create_output_topic(topic, key, i64())
            .read_key_values()
            .into_iter()
            .map(|(_, value)| value)
            .collect()
    };
    assert_eq!(read("max"), [4, 4]);
    assert_eq!(read("mean"), [4, 3]);
}
