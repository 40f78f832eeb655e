//! A transfer of money is one transaction over two topics: either both accounts change, or neither. `cargo run -p flumen-examples --bin transfer_money`
//!
//! One transfer is committed and one is aborted half-way; a reader of committed records sees the first whole and nothing of the second.

use std::time::Duration;

use flumen::client::{
    Admin, Client, ClientError, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig,
    ProducerRecord, TopicPartition,
};
use flumen::embedded::EmbeddedBroker;

/// Takes from one topic and gives to the other; `crash` stops between the two.
async fn transfer(
    producer: &Producer,
    who: &str,
    amount: i64,
    crash: bool,
) -> Result<(), ClientError> {
    let entry = |topic: &str, amount: i64| {
        let mut record = ProducerRecord::new(topic, amount.to_string());
        record.key = Some(who.to_owned().into());
        record
    };
    producer.begin_transaction()?;
    drop(producer.send(entry("withdrawals", -amount)).await?);
    if crash {
        return producer.abort_transaction().await;
    }
    // The commit waits for both records and fails if one was refused.
    drop(producer.send(entry("deposits", amount)).await?);
    producer.commit_transaction().await
}

/// The sum over a topic's committed records.
async fn sum(client: &Client, topic: &str, expected_records: usize) -> Result<i64, ClientError> {
    let consumer = Consumer::new(client, ConsumerConfig::default()).await?;
    let partition = TopicPartition {
        topic: topic.to_owned(),
        partition: 0,
    };
    consumer.assign(vec![partition.clone()]).await?;
    consumer.seek_to_beginning(&partition)?;
    let mut amounts: Vec<i64> = Vec::new();
    while amounts.len() < expected_records {
        let records = consumer.poll(Duration::from_secs(1)).await?;
        let amount = |value: &[u8]| {
            String::from_utf8_lossy(value)
                .parse::<i64>()
                .expect("this example writes numbers")
        };
        amounts.extend(
            records
                .iter()
                .map(|record| amount(record.value.as_deref().unwrap_or_default())),
        );
    }
    Ok(amounts.iter().sum())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = EmbeddedBroker::start().await?;
    let client = broker.client().await?;
    Admin::new(&client)
        .ensure_topics(&[
            NewTopic::new("withdrawals", 1),
            NewTopic::new("deposits", 1),
        ])
        .await?;

    let producer = Producer::new(&client, ProducerConfig::transactional("bank")).await?;
    producer.init_transactions().await?;
    transfer(&producer, "alice", 100, false).await?;
    transfer(&producer, "bob", 500, true).await?;
    transfer(&producer, "carol", 30, false).await?;

    let (out, into) = (
        sum(&client, "withdrawals", 2).await?,
        sum(&client, "deposits", 2).await?,
    );
    println!("withdrawn {out}, deposited {into}");
    assert_eq!((out, into), (-130, 130), "no money is made or lost");
    broker.stop().await;
    Ok(())
}
