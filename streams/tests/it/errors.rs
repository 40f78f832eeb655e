//! Records that cannot be read, functions that panic, topologies that cannot run.

use std::time::Duration;

use flumen_streams::serdes::{bytes, i64, nullable, string};
use flumen_streams::{
    Consumed, EngineError, Grouped, Headers, Materialized, OnDeserializationError, Produced,
    Record, Repartitioned, StreamsBuilder, TimeWindows, TimestampExtractor, TopologyError,
    TopologyTestDriver,
};

fn record<K, V>(key: K, value: V) -> Record<K, V> {
    Record {
        key,
        value,
        timestamp: 0,
        headers: Headers::none(),
    }
}

fn reading(policy: OnDeserializationError) -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::with(string(), i64()).on_deserialization_error(policy);
    builder
        .stream("numbers", consumed)
        .to("out", Produced::with(string(), i64()));
    TopologyTestDriver::new(builder.build().unwrap())
}

#[test]
fn an_unreadable_record_stops_the_engine_by_name() {
    let driver = reading(OnDeserializationError::Fail);
    let input = driver.create_input_topic("numbers", string(), string());
    let error = input.try_pipe(&[
        record("a".to_owned(), "12345678".to_owned()),
        record("a".to_owned(), "x".to_owned()),
    ]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "numbers-0 offset 1: the value cannot be read: 8 bytes expected, 1 found"
    );
}

#[test]
fn an_unreadable_record_can_be_left_out() {
    let driver = reading(OnDeserializationError::LogAndContinue);
    driver
        .create_input_topic("numbers", string(), string())
        .pipe_input("a".to_owned(), "x".to_owned(), 0);
    driver
        .create_input_topic("numbers", string(), i64())
        .pipe_input("a".to_owned(), 1, 0);
    assert_eq!(
        driver
            .create_output_topic("out", string(), i64())
            .read_key_values(),
        [("a".to_owned(), 1)]
    );
    assert_eq!(driver.dropped_unreadable(), 1);
}

#[test]
fn an_unreadable_record_can_go_to_a_dead_letter_topic_with_its_reason() {
    let driver = reading(OnDeserializationError::DeadLetter("dead".to_owned()));
    driver
        .create_input_topic("numbers", string(), string())
        .pipe_input("a".to_owned(), "x".to_owned(), 7);
    let dead = driver
        .create_output_topic("dead", string(), string())
        .read_record()
        .unwrap();
    assert_eq!(
        (dead.key.as_str(), dead.value.as_str(), dead.timestamp),
        ("a", "x", 7)
    );
    let header = |name: &str| String::from_utf8(dead.headers.last(name).unwrap().to_vec()).unwrap();
    assert_eq!(header("__streams.errors.topic"), "numbers");
    assert_eq!(header("__streams.errors.offset"), "0");
    assert_eq!(
        header("__streams.errors.message"),
        "the value cannot be read: 8 bytes expected, 1 found"
    );
}

#[test]
fn a_missing_key_is_unreadable_unless_the_serde_is_nullable() {
    let driver = reading(OnDeserializationError::Fail);
    let error = driver
        .create_input_topic("numbers", nullable(string()), i64())
        .try_pipe(&[record(None, 1)]);
    let message = error.unwrap_err().to_string();
    assert!(
        message.starts_with("numbers-0 offset 0: the key cannot be read: null"),
        "{message}"
    );
}

#[test]
fn event_time_comes_from_the_value_when_asked_and_may_not_be_negative() {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::with(string(), i64())
        .timestamp_extractor(TimestampExtractor::from_value(|_, value| *value));
    builder
        .stream("numbers", consumed)
        .to("out", Produced::with(string(), i64()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    let input = driver.create_input_topic("numbers", string(), i64());
    input.pipe_input("a".to_owned(), 42, 7);
    assert_eq!(
        driver
            .create_output_topic("out", string(), i64())
            .read_record()
            .unwrap()
            .timestamp,
        42
    );
    let error = input.try_pipe(&[record("a".to_owned(), -1)]).unwrap_err();
    assert!(matches!(
        error,
        EngineError::Deserialization {
            part: "timestamp",
            offset: 1,
            ..
        }
    ));
}

#[test]
fn event_time_can_be_the_wall_clock() {
    let builder = StreamsBuilder::new();
    let consumed =
        Consumed::with(string(), i64()).timestamp_extractor(TimestampExtractor::wall_clock());
    builder
        .stream("numbers", consumed)
        .to("out", Produced::with(string(), i64()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    driver.advance_wall_clock_time(Duration::from_millis(500));
    driver
        .create_input_topic("numbers", string(), i64())
        .pipe_input("a".to_owned(), 1, 7);
    assert_eq!(
        driver
            .create_output_topic("out", string(), i64())
            .read_record()
            .unwrap()
            .timestamp,
        500
    );
}

#[test]
fn a_panic_in_a_function_names_its_node_and_stops_the_engine_only() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("numbers", Consumed::with(string(), i64()));
    stream
        .filter(|_, _| true)
        .map_values(|number| 10 / number)
        .to("out", Produced::with(string(), i64()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    let input = driver.create_input_topic("numbers", string(), i64());
    let error = input.try_pipe(&[record("a".to_owned(), 0)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "node KSTREAM-MAPVALUES-0000000002 of task 0_0 panicked: attempt to divide by zero"
    );
    // It stays stopped.
    assert!(input.try_pipe(&[record("a".to_owned(), 1)]).is_err());
    assert_eq!(
        driver
            .create_output_topic("out", bytes(), bytes())
            .read_key_value(),
        None
    );
}

#[test]
fn names_used_twice_are_refused() {
    let builder = StreamsBuilder::new();
    let grouped = builder
        .stream("numbers", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with(string(), i64()));
    grouped.count(Materialized::as_("counts"));
    grouped.count(Materialized::as_("counts"));
    assert_eq!(
        builder.build().unwrap_err(),
        TopologyError::DuplicateName {
            name: "counts".to_owned()
        }
    );

    let builder = StreamsBuilder::new();
    let stream = builder.stream("numbers", Consumed::with(string(), i64()));
    stream.repartition(Repartitioned::with("again", string(), i64()));
    stream.repartition(Repartitioned::with("again", string(), i64()));
    assert_eq!(
        builder.build().unwrap_err(),
        TopologyError::DuplicateName {
            name: "again-repartition-sink".to_owned()
        }
    );
}

#[test]
fn names_that_are_no_part_of_a_topics_name_are_refused() {
    for name in ["", "a b", "a/b"] {
        let builder = StreamsBuilder::new();
        let grouped = builder
            .stream("numbers", Consumed::with(string(), i64()))
            .group_by_key(Grouped::with(string(), i64()));
        grouped.count(Materialized::as_(name));
        assert!(
            matches!(builder.build(), Err(TopologyError::InvalidName { .. })),
            "{name:?}"
        );
    }
}

#[test]
fn a_topic_is_read_by_one_source_and_a_topology_has_one() {
    let builder = StreamsBuilder::new();
    assert_eq!(builder.build().unwrap_err(), TopologyError::Empty);
    builder.stream("numbers", Consumed::with(string(), i64()));
    builder.stream("numbers", Consumed::with(string(), i64()));
    assert_eq!(
        builder.build().unwrap_err(),
        TopologyError::TopicReadTwice {
            topic: "numbers".to_owned()
        }
    );
}

#[test]
fn windows_and_streams_out_of_range_are_refused() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("numbers", Consumed::with(string(), i64()));
    let grouped = stream.group_by_key(Grouped::with(string(), i64()));
    grouped
        .windowed_by(TimeWindows::of_size_and_grace(
            Duration::ZERO,
            Duration::ZERO,
        ))
        .count(Materialized::as_("counts"));
    let message = builder.build().unwrap_err().to_string();
    assert_eq!(
        message,
        "windows of store counts: the size must be at least a millisecond"
    );

    let other = StreamsBuilder::new();
    let foreign = other.stream("numbers", Consumed::with(string(), i64()));
    foreign.merge(&stream);
    assert!(matches!(
        other.build(),
        Err(TopologyError::InvalidOption { .. })
    ));
}
