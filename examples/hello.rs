//! Produce and consume in ten lines. `cargo run -p flumen-examples --bin hello`

use std::time::Duration;

use flumen::client::{Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerRecord};
use flumen::embedded::EmbeddedBroker;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = EmbeddedBroker::start().await?;
    let client = broker.client().await?;

    let producer = Producer::new(&client, ProducerConfig::default()).await?;
    let written = producer
        .send(ProducerRecord::new("greetings", "hello"))
        .await?
        .await?;
    assert_eq!(written.offset, 0, "on disk, at offset 0");

    let consumer = Consumer::new(&client, ConsumerConfig::group("readers")).await?;
    consumer.subscribe(&["greetings"]).await?;
    let mut records = Vec::new();
    while records.is_empty() {
        records = consumer.poll(Duration::from_secs(1)).await?;
    }
    assert_eq!(records[0].value.as_deref(), Some(&b"hello"[..]));

    println!(
        "{}-{} offset {}: hello",
        records[0].topic, records[0].partition, records[0].offset
    );
    consumer.close().await;
    broker.stop().await;
    Ok(())
}
