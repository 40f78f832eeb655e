//! The description, in the layout of Kafka Streams, and the internal topics.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_streams::serdes::{i64, string, windowed};
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
    insta::assert_snapshot!(delays().describe(), @r"
    Topologies:
       Sub-topology: 0
        Source: KSTREAM-SOURCE-0000000000 (topics: [flights])
          --> KSTREAM-FILTER-0000000001
        Processor: KSTREAM-FILTER-0000000001 (stores: [])
          --> KSTREAM-KEY-SELECT-0000000002
          <-- KSTREAM-SOURCE-0000000000
        Processor: KSTREAM-KEY-SELECT-0000000002 (stores: [])
          --> by-carrier-repartition-sink
          <-- KSTREAM-FILTER-0000000001
        Sink: by-carrier-repartition-sink (topic: by-carrier-repartition)
          <-- KSTREAM-KEY-SELECT-0000000002

      Sub-topology: 1
        Source: by-carrier-repartition-source (topics: [by-carrier-repartition])
          --> KSTREAM-AGGREGATE-0000000003
        Processor: KSTREAM-AGGREGATE-0000000003 (stores: [delays])
          --> KTABLE-TOSTREAM-0000000004
          <-- by-carrier-repartition-source
        Processor: KTABLE-TOSTREAM-0000000004 (stores: [])
          --> KSTREAM-SINK-0000000005
          <-- KSTREAM-AGGREGATE-0000000003
        Sink: KSTREAM-SINK-0000000005 (topic: carrier-delays)
          <-- KTABLE-TOSTREAM-0000000004
    ");
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
    insta::assert_snapshot!(builder.build().unwrap().describe(), @r"
    Topologies:
       Sub-topology: 0
        Source: KSTREAM-SOURCE-0000000000 (topics: [numbers])
          --> KSTREAM-BRANCH-0000000001
        Processor: KSTREAM-BRANCH-0000000001 (stores: [])
          --> KSTREAM-BRANCHCHILD-0000000002, KSTREAM-BRANCHCHILD-0000000003
          <-- KSTREAM-SOURCE-0000000000
        Processor: KSTREAM-BRANCHCHILD-0000000002 (stores: [])
          --> KSTREAM-MERGE-0000000004, KSTREAM-SINK-0000000006
          <-- KSTREAM-BRANCH-0000000001
        Processor: KSTREAM-BRANCHCHILD-0000000003 (stores: [])
          --> KSTREAM-MERGE-0000000004
          <-- KSTREAM-BRANCH-0000000001
        Processor: KSTREAM-MERGE-0000000004 (stores: [])
          --> KSTREAM-SINK-0000000005
          <-- KSTREAM-BRANCHCHILD-0000000002, KSTREAM-BRANCHCHILD-0000000003
        Sink: KSTREAM-SINK-0000000005 (topic: all)
          <-- KSTREAM-MERGE-0000000004
        Sink: KSTREAM-SINK-0000000006 (topic: odd)
          <-- KSTREAM-BRANCHCHILD-0000000002
    ");
}

#[test]
fn internal_topics_have_kafkas_names_and_never_lose_records_by_time() {
    let topics = delays().internal_topics("demo", &BTreeMap::from([("flights".to_owned(), 6)]));
    let drawn: Vec<_> = topics
        .iter()
        .map(|topic| format!("{} {} {:?}", topic.name, topic.partitions, topic.configs))
        .collect();
    insta::assert_snapshot!(drawn.join("\n"), @r#"
    demo-by-carrier-repartition 6 {"cleanup.policy": "delete", "retention.bytes": "-1", "retention.ms": "-1"}
    demo-delays-changelog 6 {"cleanup.policy": "compact"}
    "#);
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
