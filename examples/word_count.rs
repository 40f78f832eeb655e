//! Word count, the hello world of stream processing, on a real broker with exactly-once commits. `cargo run -p flumen-examples --bin word_count`

use std::collections::BTreeMap;
use std::time::Duration;

use flumen::client::{
    Admin, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig, ProducerRecord,
    TopicPartition,
};
use flumen::embedded::EmbeddedBroker;
use flumen::streams::{
    Consumed, Grouped, KafkaStreams, Materialized, Produced, StreamsBuilder, StreamsConfig,
    Topology, TopologyError, serdes,
};

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    builder
        .stream("lines", Consumed::values(serdes::string()))
        .flat_map_values(|line: String| {
            line.to_lowercase()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .group_by(
            |(), word| word.clone(),
            Grouped::with(serdes::string(), serdes::string()).named("words"),
        )
        .count(Materialized::as_("counts"))
        .to_stream()
        .to("counts", Produced::with(serdes::string(), serdes::i64()));
    builder.build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = EmbeddedBroker::start().await?;
    let client = broker.client().await?;
    Admin::new(&client)
        .ensure_topics(&[NewTopic::new("lines", 2), NewTopic::new("counts", 1)])
        .await?;

    let state = tempfile::tempdir()?;
    let mut config = StreamsConfig::new("word-count", &broker.bootstrap());
    config.state_dir = state.path().to_owned();
    let streams = KafkaStreams::start(topology()?, config).await?;

    let producer = Producer::new(&client, ProducerConfig::default()).await?;
    for line in [
        "the river runs",
        "the river and the sea",
        "and the river again",
    ] {
        producer
            .send(ProducerRecord::new("lines", line))
            .await?
            .await?;
    }

    // Updates arrive as they are committed; the last of a word is its count.
    let consumer = Consumer::new(&client, ConsumerConfig::default()).await?;
    let partition = TopicPartition {
        topic: "counts".to_owned(),
        partition: 0,
    };
    consumer.assign(vec![partition.clone()]).await?;
    consumer.seek_to_beginning(&partition)?;
    let expected = BTreeMap::from(
        [
            ("again", 1),
            ("and", 2),
            ("river", 3),
            ("runs", 1),
            ("sea", 1),
            ("the", 4),
        ]
        .map(|(w, n)| (w.to_owned(), n)),
    );
    let mut counts = BTreeMap::new();
    while counts != expected {
        for record in consumer.poll(Duration::from_secs(1)).await? {
            let word = String::from_utf8(record.key.expect("a word").to_vec())?;
            let count = record.value.expect("a count");
            counts.insert(word, i64::from_be_bytes(count.as_ref().try_into()?));
        }
    }
    for (word, count) in &counts {
        println!("{count} {word}");
    }
    streams.close().await?;
    broker.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use flumen::streams::TopologyTestDriver;

    use super::*;

    #[test]
    fn words_are_counted_without_a_broker() {
        let driver = TopologyTestDriver::new(topology().expect("distinct names"));
        let lines = driver.create_input_topic("lines", serdes::nothing(), serdes::string());
        let counts = driver.create_output_topic("counts", serdes::string(), serdes::i64());
        lines.pipe_input((), "to be or not to be".to_owned(), 0);
        let counts: BTreeMap<String, i64> = counts.read_key_values().into_iter().collect();
        assert_eq!(counts["be"], 2);
    }
}
