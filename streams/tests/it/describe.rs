//! The description, in the layout of Kafka Streams, and the internal topics.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_streams::serde::{i64, string, windowed};
use flumen_streams::{
    Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows, Topology,
};

fn delays() -> Topology {
    let builder = StreamsBuilder::new();
    let flights = builder.stream("flights", Consumed::values(i64()));
    let by_carrier = flights
        .filter(|_, delay| *delay >= 0)
        .select_key(|_, _| "AA".to_owned());
    let grouped = by_carrier.group_by_key(Grouped::with(string(), i64()).named("by-carrier"));
    let hours =
        TimeWindows::of_size_and_grace(Duration::from_secs(3600), Duration::from_secs(86_400));
    let table = grouped
        .windowed_by(hours)
        .count(Materialized::as_("delays"));
    table.to_stream().to(
        "carrier-delays",
        Produced::with(windowed(string(), hours.size_ms()), i64()),
    );
    builder.build().unwrap()
}

#[test]
fn a_repartition_cuts_the_topology_in_two() {
    insta::assert_snapshot!(delays().describe(), @r"");
}

#[test]
fn branches_and_merges_are_drawn_with_all_their_edges() {
    let builder = StreamsBuilder::new();
    let numbers = builder.stream("numbers", Consumed::with(string(), i64()));
    let mut split = numbers.split();
    let odd = split.branch(|_, number| number % 2 == 1);
    let even = split.default_branch();
    odd.merge(&even).to("all", Produced::with(string(), i64()));
    odd.to("odd", Produced::with(string(), i64()));
    insta::assert_snapshot!(builder.build().unwrap().describe(), @r"");
}

#[test]
fn internal_topics_have_kafkas_names_and_never_lose_records_by_time() {
    let topics = delays().internal_topics("demo", &BTreeMap::from([("flights".to_owned(), 6)]));
    let drawn: Vec<_> = topics
        .iter()
        .map(|topic| format!("{} {} {:?}", topic.name, topic.partitions, topic.configs))
        .collect();
    insta::assert_snapshot!(drawn.join("\n"), @r"");
}

#[test]
fn a_topology_knows_its_topics() {
    let topology = delays();
    assert_eq!(
        topology.source_topics().into_iter().collect::<Vec<_>>(),
        ["flights"]
    );
    assert_eq!(
        topology.sink_topics().into_iter().collect::<Vec<_>>(),
        ["carrier-delays"]
    );
    assert_eq!(
        topology.task_counts(&BTreeMap::from([("flights".to_owned(), 6)])),
        [6, 6]
    );
}
