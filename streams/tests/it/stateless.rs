//! Stateless verbs, split, merge and sinks.

use std::sync::{Arc, Mutex};

use flumen_streams::serdes::{Serde, i64, nullable, string};
use flumen_streams::{
    Consumed, KStream, Produced, Record, StreamsBuilder, TestInputTopic, TestOutputTopic,
    TopologyTestDriver, serdes,
};

type Input = TestInputTopic<String, i64>;

/// `numbers` → what `topology` makes of it → `out`.
fn run<K: Clone + 'static, V: Clone + 'static>(
    key: impl Serde<K> + Clone + 'static,
    value: impl Serde<V> + Clone + 'static,
    topology: impl FnOnce(&KStream<String, i64>) -> KStream<K, V>,
) -> (Input, TestOutputTopic<K, V>) {
    let builder = StreamsBuilder::new();
    let numbers = builder.stream("numbers", Consumed::with(string(), i64()));
    topology(&numbers).to("out", Produced::with(key.clone(), value.clone()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    let input = driver.create_input_topic("numbers", string(), i64());
    (input, driver.create_output_topic("out", key, value))
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn pipe(input: &Input, numbers: &[i64]) {
    for (timestamp, number) in (0..).zip(numbers) {
        input.pipe_input(text("k"), *number, timestamp);
    }
}

#[test]
fn filter_keeps_what_the_predicate_takes_and_filter_not_the_rest() {
    let (input, output) = run(string(), i64(), |stream| {
        stream.filter(|_, number| *number > 1)
    });
    pipe(&input, &[1, 2, 3]);
    assert_eq!(output.read_key_values(), [(text("k"), 2), (text("k"), 3)]);

    let (input, output) = run(string(), i64(), |stream| {
        stream.filter_not(|_, number| *number > 1)
    });
    pipe(&input, &[1, 2, 3]);
    assert_eq!(output.read_key_values(), [(text("k"), 1)]);
}

#[test]
fn map_makes_keys_and_values_and_keeps_time() {
    let (input, output) = run(i64(), string(), |stream| {
        stream.map(|key, number| (number, key))
    });
    input.pipe_input(text("k"), 7, 99);
    let record = output.read_record().unwrap();
    assert_eq!(
        (record.key, record.value, record.timestamp),
        (7, text("k"), 99)
    );
}

#[test]
fn map_values_may_look_at_the_key() {
    let (input, output) = run(string(), string(), |stream| {
        stream
            .map_values(|number| number + 1)
            .map_values_with_key(|key, number| format!("{key}{number}"))
    });
    pipe(&input, &[4]);
    assert_eq!(output.read_key_value(), Some((text("k"), text("k5"))));
}

#[test]
fn flat_map_makes_none_or_many() {
    let (input, output) = run(i64(), i64(), |stream| {
        stream.flat_map(|_, number| (0..number).map(move |n| (n, number)))
    });
    pipe(&input, &[0, 2]);
    assert_eq!(output.read_key_values(), [(0, 2), (1, 2)]);

    let (input, output) = run(string(), i64(), |stream| {
        stream.flat_map_values(|number| [number, -number])
    });
    pipe(&input, &[3]);
    assert_eq!(output.read_key_values(), [(text("k"), 3), (text("k"), -3)]);
}

#[test]
fn select_key_replaces_the_key() {
    let (input, output) = run(i64(), i64(), |stream| {
        stream.select_key(|_, number| number * 10)
    });
    pipe(&input, &[3]);
    assert_eq!(output.read_key_value(), Some((30, 3)));
}

#[test]
fn peek_sees_what_passes_and_for_each_what_ends() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (peeked, ended) = (Arc::clone(&seen), Arc::clone(&seen));
    let (input, output) = run(string(), i64(), move |stream| {
        stream.for_each(move |_, number| ended.lock().unwrap().push(("end", *number)));
        stream.peek(move |_, number| peeked.lock().unwrap().push(("peek", *number)))
    });
    pipe(&input, &[5]);
    assert_eq!(*seen.lock().unwrap(), [("end", 5), ("peek", 5)]);
    assert_eq!(output.read_key_values().len(), 1);
}

#[test]
fn a_record_goes_to_the_first_branch_that_takes_it() {
    let builder = StreamsBuilder::new();
    let mut split = builder
        .stream("numbers", Consumed::with(string(), i64()))
        .split();
    let negative = split.branch(|_, number| *number < 0);
    let small = split.branch(|_, number| *number < 10);
    let large = split.default_branch();
    for (topic, stream) in [("negative", negative), ("small", small), ("large", large)] {
        stream.to(topic, Produced::with(string(), i64()));
    }
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    pipe(
        &driver.create_input_topic("numbers", string(), i64()),
        &[5, -5, 50],
    );
    let read = |topic: &str| {
        driver
            .create_output_topic(topic, string(), i64())
            .read_key_values()
    };
    assert_eq!(read("negative"), [(text("k"), -5)]);
    assert_eq!(read("small"), [(text("k"), 5)]);
    assert_eq!(read("large"), [(text("k"), 50)]);
}

#[test]
fn without_a_default_branch_the_rest_is_dropped() {
    let (input, output) = run(string(), i64(), |stream| {
        let mut split = stream.split();
        split.branch(|_, number| *number == 1)
    });
    pipe(&input, &[0, 1, 2]);
    assert_eq!(output.read_key_values(), [(text("k"), 1)]);
}

#[test]
fn branches_that_merge_again_keep_the_order_of_records() {
    // A batch may not run ahead on one branch: the even numbers would overtake the odd ones.
    let (input, output) = run(string(), i64(), |stream| {
        let mut split = stream.split();
        let even = split.branch(|_, number| number % 2 == 0);
        even.merge(&split.default_branch())
    });
    let record = |value| Record {
        key: text("k"),
        value,
        timestamp: value,
        headers: Default::default(),
    };
    input.pipe_batch(&(0..6).map(record).collect::<Vec<_>>());
    let values: Vec<_> = output
        .read_key_values()
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn merge_carries_both_streams() {
    let builder = StreamsBuilder::new();
    let left = builder.stream("left", Consumed::with(string(), i64()));
    let right = builder.stream("right", Consumed::with(string(), i64()));
    left.merge(&right)
        .to("out", Produced::with(string(), i64()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    driver
        .create_input_topic("left", string(), i64())
        .pipe_input(text("a"), 1, 0);
    driver
        .create_input_topic("right", string(), i64())
        .pipe_input(text("b"), 2, 0);
    let output = driver.create_output_topic("out", string(), i64());
    assert_eq!(output.read_key_values(), [(text("a"), 1), (text("b"), 2)]);
}

#[test]
fn headers_pass_through_stateless_steps() {
    let (input, output) = run(string(), i64(), |stream| {
        stream.map_values(|number| number + 1)
    });
    let headers = [("trace".into(), Some("abc".into())), ("trace".into(), None)]
        .into_iter()
        .collect();
    input.pipe_batch(&[Record {
        key: text("k"),
        value: 1,
        timestamp: 0,
        headers,
    }]);
    let headers = output.read_record().unwrap().headers;
    assert_eq!(headers.iter().count(), 2);
    assert_eq!(headers.last("trace"), None);
}

#[test]
fn records_without_a_key_are_dropped_and_counted() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("numbers", Consumed::with(nullable(string()), i64()));
    stream
        .drop_null_keys()
        .to("out", Produced::with(string(), i64()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    let input = driver.create_input_topic("numbers", nullable(string()), i64());
    input.pipe_input(None, 1, 0);
    input.pipe_input(Some(text("k")), 2, 0);
    let output = driver.create_output_topic("out", string(), i64());
    assert_eq!(output.read_key_values(), [(text("k"), 2)]);
    assert_eq!(driver.dropped_null_keys(), 1);
}

#[test]
fn a_repartition_is_a_topic_between_two_sub_topologies() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("numbers", Consumed::with(string(), i64()));
    let through =
        flumen_streams::Repartitioned::with("by-number", i64(), i64()).number_of_partitions(3);
    stream
        .select_key(|_, number| *number)
        .repartition(through)
        .to("out", Produced::with(i64(), i64()));
    let topology = builder.build().unwrap();
    assert_eq!(
        topology.task_counts(&[("numbers".to_owned(), 2)].into()),
        [2, 3]
    );
    let driver = TopologyTestDriver::new(topology);
    pipe(&driver.create_input_topic("numbers", string(), i64()), &[4]);
    assert_eq!(
        driver
            .create_output_topic("test-by-number-repartition", i64(), i64())
            .read_key_values(),
        [(4, 4)]
    );
    assert_eq!(
        driver
            .create_output_topic("out", i64(), i64())
            .read_key_values(),
        [(4, 4)]
    );
}

#[test]
fn a_value_only_source_reads_any_key() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("lines", Consumed::values(string()));
    stream
        .select_key(|(), line| line.len() as i64)
        .to("out", Produced::with(i64(), string()));
    let driver = TopologyTestDriver::new(builder.build().unwrap());
    driver
        .create_input_topic("lines", serdes::i64(), string())
        .pipe_input(1, text("abc"), 0);
    let output = driver.create_output_topic("out", i64(), string());
    assert_eq!(output.read_key_values(), [(3, text("abc"))]);
}
