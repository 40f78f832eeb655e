//! A source connector of one's own, stopped half-way and started again: every number once. `cargo run -p flumen-examples --bin custom_connector`
//!
//! The source counts. Its position is "the next number"; records and position enter one transaction, so a restart goes on exactly behind what was committed.
#![allow(
    clippy::disallowed_methods,
    reason = "a program is the driver of its libraries"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flumen::client::{Admin, Client, Consumer, ConsumerConfig, NewTopic, TopicPartition};
use flumen::connect::config::{ConfigDef, ConfigKey, Kind, Props, Settings};
use flumen::connect::error::TaskError;
use flumen::connect::record::{Boundary, Data, SourceBatch, SourcePosition, SourceRecord};
use flumen::connect::registry::Registry;
use flumen::connect::source::{Budget, Guarantee, SourceConnector, SourceContext, SourceTask};
use flumen::connect::value::Value;
use flumen::connect::worker::{Worker, WorkerConfig};
use flumen::embedded::EmbeddedBroker;

/// The kind of connector: its options, its promise, its tasks.
struct CounterSource;

#[async_trait]
impl SourceConnector for CounterSource {
    fn config(&self) -> ConfigDef {
        ConfigDef::new([
            ConfigKey::required("topic", Kind::String, "Where the numbers go."),
            ConfigKey::required("up.to", Kind::Long, "The number it stops before."),
        ])
    }

    async fn task_configs(
        &self,
        settings: &Settings,
        _max_tasks: usize,
    ) -> Result<Vec<Props>, TaskError> {
        Ok(vec![settings.props().clone()])
    }

    fn guarantees(&self, _: &Settings) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn task(&self, settings: &Settings) -> Box<dyn SourceTask> {
        Box::new(CounterTask {
            topic: settings.str("topic").into(),
            up_to: settings.int("up.to"),
            next: 0,
        })
    }
}

struct CounterTask {
    topic: Arc<str>,
    up_to: i64,
    next: i64,
}

#[async_trait]
impl SourceTask for CounterTask {
    async fn open(
        &mut self,
        _: SourceContext,
        restored: Vec<SourcePosition>,
    ) -> Result<(), TaskError> {
        let next = restored
            .first()
            .and_then(|position| position.offset.get("next")?.as_i64());
        self.next = next.unwrap_or(0);
        Ok(())
    }

    async fn poll(&mut self, budget: Budget) -> Result<SourceBatch, TaskError> {
        if self.next == self.up_to {
            tokio::time::sleep(budget.max_wait).await;
            return Ok(SourceBatch::default());
        }
        let upto = self.up_to.min(self.next + 10);
        let record =
            |n| SourceRecord::new(Arc::clone(&self.topic), Data::schemaless(Value::Int64(n)));
        let records: Vec<SourceRecord> = (self.next..upto).map(record).collect();
        self.next = upto;
        let position = SourcePosition {
            partition: BTreeMap::from([("counter".to_owned(), 1.into())]),
            offset: BTreeMap::from([("next".to_owned(), upto.into())]),
        };
        Ok(SourceBatch {
            bytes: records.len() * 8,
            records,
            positions: vec![position],
            boundary: Boundary::Here,
            ..SourceBatch::default()
        })
    }
}

async fn worker(broker: &EmbeddedBroker) -> Result<Worker, Box<dyn std::error::Error>> {
    let registry = Registry::new().source("CounterSource", &[], CounterSource);
    Ok(Worker::start(WorkerConfig::new(&broker.bootstrap()), registry).await?)
}

/// The committed numbers of the topic, at least `count` of them.
async fn numbers(client: &Client, count: usize) -> Result<Vec<i64>, Box<dyn std::error::Error>> {
    let consumer = Consumer::new(client, ConsumerConfig::default()).await?;
    let partition = TopicPartition {
        topic: "numbers".to_owned(),
        partition: 0,
    };
    consumer.assign(vec![partition.clone()]).await?;
    consumer.seek_to_beginning(&partition)?;
    let mut numbers = Vec::new();
    while numbers.len() < count {
        for record in consumer.poll(Duration::from_secs(1)).await? {
            numbers.push(String::from_utf8_lossy(&record.value.unwrap_or_default()).parse()?);
        }
    }
    Ok(numbers)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = EmbeddedBroker::start().await?;
    let client = broker.client().await?;
    Admin::new(&client)
        .create_topic(&NewTopic::new("numbers", 1))
        .await?;

    let config = [
        ("connector.class", "CounterSource"),
        ("topic", "numbers"),
        ("up.to", "1000"),
        (
            "value.converter",
            "org.apache.kafka.connect.json.JsonConverter",
        ),
        ("value.converter.schemas.enable", "false"),
    ];
    let config: Props = config
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let first = worker(&broker).await?;
    first.create("counter", config).await?;
    let seen = numbers(&client, 50).await?.len();
    first.shutdown().await;

    // The connector's configuration and position are in topics: another worker goes on behind the last commit.
    let second = worker(&broker).await?;
    let all = numbers(&client, 1000).await?;
    assert_eq!(
        all,
        (0..1000).collect::<Vec<_>>(),
        "each number once, in order"
    );
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 1000);
    println!(
        "stopped after {seen} numbers, started again, {} numbers in the topic, each once",
        all.len()
    );
    second.shutdown().await;
    broker.stop().await;
    Ok(())
}
