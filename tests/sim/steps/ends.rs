//! What stops an application of streams, what it says then, and what only makes it begin anew.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use flumen_client::{
    Admin, Client, NewTopic, Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use flumen_streams::{KafkaStreams, PositionLost, StreamsConfig, StreamsError, StreamsMetrics};

use super::tripwire::Tripwire;
use super::{CHANGELOG, Spill, broker, client_config, streams_config, topology};

/// A broker, and one host that does everything else.
fn directed<F: Future<Output = ()> + 'static>(play: impl FnOnce(Stage) -> F + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let mut sim = turmoil::Builder::new()
        .rng_seed(1)
        .simulation_duration(Duration::from_secs(120))
        .tick_duration(super::TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(1))
        .build();
    broker(&mut sim, &folder.path().join("log"));
    let path = folder.path().to_owned();
    sim.client("app", async move {
        play(Stage::new(path).await).await;
        Ok(())
    });
    sim.run().unwrap();
}

struct Stage {
    client: Client,
    producer: Producer,
    config: StreamsConfig,
}

impl Stage {
    async fn new(folder: PathBuf) -> Stage {
        let client = loop {
            match Client::connect(client_config(3)).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let topics = [
            NewTopic::new("lines", 1),
            NewTopic::new("counts", 1),
            NewTopic::new("echo", 1).config("max.message.bytes", "500"),
        ];
        Admin::new(&client).ensure_topics(&topics).await.unwrap();
        let producer = Producer::new(&client, ProducerConfig::default());
        Stage {
            producer: producer.await.unwrap(),
            client,
            config: streams_config(&folder, Spill::EveryCommit, &Tripwire::new(None)),
        }
    }

    async fn write(&self, line: &str) {
        let record = ProducerRecord::new("lines", line.to_owned());
        let delivery = self.producer.send(record).await.unwrap();
        delivery.await.unwrap();
    }

    /// Runs the application until it has read so many lines and words, and closes it.
    async fn run_until_read(&self, records: u64) -> KafkaStreams {
        let streams = KafkaStreams::start(topology(), self.config.clone());
        let streams = streams.await.unwrap();
        while StreamsMetrics::get(&streams.metrics().engine.records_in) < records {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        streams
    }

    /// Starts the application; the words with which it stops by itself.
    async fn stops(&self) -> StreamsError {
        let streams = KafkaStreams::start(topology(), self.config.clone());
        let ended = streams.await.unwrap().stopped().await;
        ended.expect_err("it stops by itself")
    }

    async fn delete_records(&self, topic: &str, before: i64) {
        let before = BTreeMap::from([(TopicPartition::new(topic, 0), before)]);
        let admin = Admin::new(&self.client);
        admin.delete_records(&before).await.unwrap();
    }
}

#[test]
fn a_position_that_is_gone_stops_the_application_which_names_the_way_out() {
    directed(|mut stage| async move {
        stage.write("a").await;
        stage.write("b").await;
        stage.run_until_read(4).await.close().await.unwrap();
        for line in ["c", "d", "e"] {
            stage.write(line).await;
        }
        stage.delete_records("lines", 4).await;
        let stopped = stage.stops().await;
        assert_eq!(
            stopped.to_string(),
            "lines-0: offset 2 was to be read next, the log has [4, 5): 2 records are lost; \
             choose PositionLost::ResetToEarliest or ResetToLatest to go on without them"
        );
        stage.config.position_lost = PositionLost::ResetToEarliest;
        let streams = stage.run_until_read(2).await;
        let skipped = StreamsMetrics::get(&streams.metrics().skipped_records);
        assert_eq!(skipped, 2);
        streams.close().await.unwrap();
    });
}

/// As Kafka Streams: the log is the truth, so a store whose position it does not have begins anew. There is a warning, and the counter.
#[test]
fn a_store_whose_changelog_was_made_anew_begins_anew() {
    directed(|stage| async move {
        stage.write("a a a").await;
        let streams = stage.run_until_read(4).await;
        let wiped = |streams: &KafkaStreams| StreamsMetrics::get(&streams.metrics().full_restores);
        assert_eq!(wiped(&streams), 0);
        streams.close().await.unwrap();
        let admin = Admin::new(&stage.client);
        admin.delete_topics(&[CHANGELOG]).await.unwrap();
        stage.write("a").await;
        let streams = stage.run_until_read(2).await;
        assert_eq!(wiped(&streams), 1);
        streams.close().await.unwrap();
    });
}

#[test]
fn an_output_that_the_broker_will_never_take_stops_the_application() {
    directed(|stage| async move {
        stage.write("short").await;
        stage.write(&"long ".repeat(200)).await;
        let stopped = stage.stops().await.to_string();
        assert!(stopped.contains("echo-0"), "{stopped}");
        assert!(stopped.contains("MESSAGE_TOO_LARGE"), "{stopped}");
    });
}
