//! Count, reduce and aggregate by key; repartitions; caching; table verbs.

use flumen_streams::serdes::{Serde, i64, nullable, string};
use flumen_streams::{
    Consumed, Grouped, Headers, KGroupedStream, KTable, Materialized, Produced, Record,
    StreamsBuilder, TestInputTopic, TestOutputTopic, TopologyTestDriver,
};

fn text(text: &str) -> String {
    text.to_owned()
}

fn record(key: &str, value: i64, timestamp: i64) -> Record<String, i64> {
    Record {
        key: text(key),
        value,
        timestamp,
        headers: Headers::none(),
    }
}

type Run<V> = (
    TopologyTestDriver,
    TestInputTopic<String, i64>,
    TestOutputTopic<String, V>,
);

/// `numbers` grouped by key → a table → `out`.
fn run<V: Clone + 'static>(
    value: impl Serde<V> + Clone + 'static,
    table: impl FnOnce(&KGroupedStream<String, i64>) -> KTable<String, V>,
) -> Run<V> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("numbers", Consumed::with(string(), i64()));
    let grouped = stream.group_by_key(Grouped::with(string(), i64()));
    table(&grouped)
        .to_stream()
        .to("out", Produced::with(string(), value.clone()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    let input = driver.create_input_topic("numbers", string(), i64());
    let output = driver.create_output_topic("out", string(), value);
    (driver, input, output)
}

#[test]
fn count_counts_each_key() {
    let (driver, input, output) = run(i64(), |grouped| grouped.count(Materialized::as_("counts")));
    for key in ["a", "b", "a"] {
        input.pipe_batch(&[record(key, 0, 0)]);
    }
    assert_eq!(
        output.read_key_values(),
        [(text("a"), 1), (text("b"), 1), (text("a"), 2)]
    );
    assert_eq!(
        driver
            .get::<String, i64>("counts", &text("a"))
            .unwrap()
            .value,
        2
    );
    let changelog = driver.create_output_topic("test-counts-changelog", string(), i64());
    assert_eq!(
        changelog.read_key_values(),
        [(text("a"), 1), (text("b"), 1), (text("a"), 2)]
    );
}

#[test]
fn reduce_starts_with_the_first_value() {
    let (_, input, output) = run(i64(), |grouped| {
        grouped.reduce(|max, new| max.max(new), Materialized::as_("max"))
    });
    for value in [-5, -7, -1] {
        input.pipe_input(text("a"), value, 0);
    }
    let values: Vec<_> = output
        .read_key_values()
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, [-5, -5, -1]);
}

#[test]
fn aggregate_folds_from_its_initial_value() {
    let (_, input, output) = run(string(), |grouped| {
        grouped.aggregate(
            || text("="),
            |key, value, sum| format!("{sum}{key}{value}"),
            Materialized::with("sums", string()),
        )
    });
    input.pipe_input(text("a"), 1, 0);
    input.pipe_input(text("a"), 2, 0);
    assert_eq!(
        output.read_key_values(),
        [(text("a"), text("=a1")), (text("a"), text("=a1a2"))]
    );
}

#[test]
fn the_result_carries_the_latest_time_of_its_records() {
    let (_, input, output) = run(i64(), |grouped| grouped.count(Materialized::as_("counts")));
    input.pipe_input(text("a"), 0, 50);
    input.pipe_input(text("a"), 0, 10);
    let times: Vec<_> = std::iter::from_fn(|| output.read_record())
        .map(|record| record.timestamp)
        .collect();
    assert_eq!(times, [50, 50]);
}

#[test]
fn a_cached_store_passes_on_the_last_update_of_an_epoch() {
    let (driver, input, output) = run(i64(), |grouped| grouped.count(Materialized::as_("counts")));
    input.pipe_batch(&[record("a", 0, 0), record("b", 0, 0), record("a", 0, 0)]);
    assert_eq!(output.read_key_values(), [(text("a"), 2), (text("b"), 1)]);
    let changelog = driver.create_output_topic("test-counts-changelog", string(), i64());
    assert_eq!(changelog.read_key_values().len(), 2);
}

#[test]
fn without_a_cache_every_update_is_passed_on_and_the_changelog_still_gets_one() {
    let (driver, input, output) = run(i64(), |grouped| {
        grouped.count(Materialized::as_("counts").with_caching_disabled())
    });
    input.pipe_batch(&[record("a", 0, 0), record("b", 0, 0), record("a", 0, 0)]);
    assert_eq!(
        output.read_key_values(),
        [(text("a"), 1), (text("b"), 1), (text("a"), 2)]
    );
    let changelog = driver.create_output_topic("test-counts-changelog", string(), i64());
    assert_eq!(
        changelog.read_key_values(),
        [(text("a"), 2), (text("b"), 1)]
    );
}

#[test]
fn without_logging_there_is_no_changelog() {
    let (driver, input, output) = run(i64(), |grouped| {
        grouped.count(Materialized::as_("counts").with_logging_disabled())
    });
    input.pipe_input(text("a"), 0, 0);
    assert_eq!(output.read_key_values().len(), 1);
    assert_eq!(
        driver
            .create_output_topic("test-counts-changelog", string(), i64())
            .read_key_value(),
        None
    );
}

#[test]
fn grouping_by_a_new_key_goes_through_a_repartition_topic() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("numbers", Consumed::with(string(), i64()));
    let grouped = stream.group_by(|_, number| number % 2, Grouped::with(i64(), i64()));
    grouped
        .count(Materialized::as_("parity"))
        .to_stream()
        .to("out", Produced::with(i64(), i64()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    let input = driver.create_input_topic("numbers", string(), i64());
    for number in [1, 2, 3] {
        input.pipe_input(text("k"), number, 0);
    }
    let through = driver.create_output_topic("test-parity-repartition", i64(), i64());
    assert_eq!(through.read_key_values(), [(1, 1), (0, 2), (1, 3)]);
    assert_eq!(
        driver
            .create_output_topic("out", i64(), i64())
            .read_key_values(),
        [(1, 1), (0, 1), (1, 2)]
    );
}

#[test]
fn two_aggregations_of_a_named_grouping_share_its_repartition_topic() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("numbers", Consumed::with(string(), i64()));
    let grouped = stream.group_by(
        |_, number| number % 2,
        Grouped::with(i64(), i64()).named("parity"),
    );
    grouped
        .count(Materialized::as_("counts"))
        .to_stream()
        .to("counts", Produced::with(i64(), i64()));
    grouped
        .reduce(|a, b| a + b, Materialized::as_("sums"))
        .to_stream()
        .to("sums", Produced::with(i64(), i64()));
    let topology = builder.build().unwrap();
    assert_eq!(topology.subtopologies().len(), 2);
    let driver = TopologyTestDriver::new(topology);
    let input = driver.create_input_topic("numbers", string(), i64());
    input.pipe_input(text("k"), 3, 0);
    input.pipe_input(text("k"), 5, 0);
    assert_eq!(
        driver
            .create_output_topic("counts", i64(), i64())
            .read_key_values(),
        [(1, 1), (1, 2)]
    );
    assert_eq!(
        driver
            .create_output_topic("sums", i64(), i64())
            .read_key_values(),
        [(1, 3), (1, 8)]
    );
}

#[test]
fn a_filtered_table_removes_the_rows_that_stop_matching() {
    let (_, input, output) = run(nullable(i64()), |grouped| {
        grouped
            .count(Materialized::as_("counts"))
            .map_values(|count| count * 10)
            .filter(|_, tens| *tens < 20)
    });
    input.pipe_input(text("a"), 0, 0);
    input.pipe_input(text("a"), 0, 0);
    assert_eq!(
        output.read_key_values(),
        [(text("a"), Some(10)), (text("a"), None)]
    );
}
