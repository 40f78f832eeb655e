//! `flumen bench produce|consume|e2e`: how fast this cluster is for this client.
//!
//! Prints records, bytes, seconds and latencies. It makes its topic if there is none and leaves it: the figures of a run can be looked at afterwards.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, Subcommand};
use flumen::client::{
    Acks, Admin, Client, Compression, Consumer, ConsumerConfig, Isolation, NewTopic, OffsetSpec,
    Poll, Producer, ProducerConfig, ProducerRecord, RecordBlock, TopicPartition,
};
use serde::Serialize;

use crate::Common;
use crate::error::{CliError, Exit};
use crate::output::Rows;
use crate::produce::{acks, compression};

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Write records as fast as they are acknowledged
    Produce(Produce),
    /// Read a topic from its beginning to its end
    Consume(Consume),
    /// Send one record, wait until a consumer has it, repeat
    E2e(EndToEnd),
}

#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// The topic
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Partitions, if the topic must be made
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Number of records
    #[arg(long, short = 'n', default_value_t = 1_000_000)]
    records: u64,
    /// Bytes of a record's value
    #[arg(long, short, default_value_t = 1024)]
    size: usize,
    /// Records of one batch
    #[arg(long, default_value_t = 200)]
    batch: u64,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value = "none", value_parser = compression)]
    compression: Compression,
    /// 0, 1 or all
    #[arg(long, default_value = "all", value_parser = acks)]
    acks: Acks,
    /// A configuration of the topic, if it must be made, as name=value
    #[arg(long = "config", value_parser = crate::topic::key_value)]
    configs: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// The topic
    #[arg(long, default_value = "bench")]
    topic: String,
}

#[derive(Debug, Args)]
pub(crate) struct EndToEnd {
    /// The topic; one partition is used
    #[arg(long, default_value = "bench-e2e")]
    topic: String,
    /// Number of records measured, after a tenth of them to warm up
    #[arg(long, short = 'n', default_value_t = 5_000)]
    records: u64,
    /// Bytes of a record's value
    #[arg(long, short, default_value_t = 100)]
    size: usize,
}

/// One run.
#[derive(Debug, Serialize)]
struct Figures {
    bench: &'static str,
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    megabytes_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Figures {
    fn new(
        bench: &'static str,
        records: u64,
        bytes: u64,
        took: Duration,
        mut latencies: Vec<Duration>,
    ) -> Figures {
        let seconds = took.as_secs_f64();
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = (latencies.len().saturating_sub(1)) as f64 * share;
            latencies
                .get(index as usize)
                .map_or(0.0, |d| d.as_secs_f64() * 1e3)
        };
        let latency_ms = (!latencies.is_empty()).then(|| Latency {
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        });
        Figures {
            bench,
            records,
            bytes,
            seconds,
            records_per_second: records as f64 / seconds,
            megabytes_per_second: bytes as f64 / seconds / 1e6,
            latency_ms,
        }
    }
}

impl Rows for Figures {
    fn header(&self) -> Vec<&'static str> {
        vec![
            "BENCH",
            "RECORDS",
            "SECONDS",
            "RECORDS/S",
            "MB/S",
            "P50 MS",
            "P99 MS",
            "MAX MS",
        ]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let latency = |of: fn(&Latency) -> f64| {
            self.latency_ms
                .as_ref()
                .map_or("-".to_owned(), |l| format!("{:.2}", of(l)))
        };
        vec![vec![
            self.bench.to_owned(),
            self.records.to_string(),
            format!("{:.2}", self.seconds),
            format!("{:.0}", self.records_per_second),
            format!("{:.1}", self.megabytes_per_second),
            latency(|l| l.p50),
            latency(|l| l.p99),
            latency(|l| l.max),
        ]]
    }
    fn empty(&self) -> &'static str {
        "nothing was measured"
    }
}

impl Bench {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let client = common.client().await?;
        let figures = match self {
            Bench::Produce(bench) => bench.run(&client).await?,
            Bench::Consume(bench) => bench.run(&client).await?,
            Bench::E2e(bench) => bench.run(&client).await?,
        };
        common.output.print(&figures);
        Ok(())
    }
}

impl Produce {
    async fn run(self, client: &Client) -> Result<Figures, CliError> {
        let topic = NewTopic {
            configs: self.configs.into_iter().collect(),
            ..NewTopic::new(&self.topic, self.partitions)
        };
        Admin::new(client).ensure_topics(&[topic]).await?;
        let idempotent = self.acks == Acks::All;
        let config = ProducerConfig {
            acks: self.acks,
            compression: self.compression,
            idempotent,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(client, config).await?;
        let partitions = client.partitions_of(&self.topic).await?;
        let value = payload(self.size);
        let started = Instant::now();
        let (mut sent, mut deliveries) = (0, Vec::new());
        for partition in (0..partitions).cycle() {
            if sent == self.records {
                break;
            }
            let mut block = RecordBlock::new(self.compression);
            for _ in 0..self.batch.clamp(1, self.records - sent) {
                block.push(0, None, Some(&value), &[]);
                sent += 1;
            }
            let begun = Instant::now();
            let delivery = producer.send_batch(&self.topic, partition, block).await?;
            deliveries.push(tokio::spawn(async move {
                delivery.await.map(|_| begun.elapsed())
            }));
        }
        producer.flush().await?;
        let took = started.elapsed();
        let mut latencies = Vec::new();
        for delivery in deliveries {
            latencies.push(delivery.await.expect("a delivery task does not panic")?);
        }
        Ok(Figures::new(
            "produce",
            sent,
            sent * self.size as u64,
            took,
            latencies,
        ))
    }
}

impl Consume {
    async fn run(self, client: &Client) -> Result<Figures, CliError> {
        let admin = Admin::new(client);
        let partitions = admin.describe_topic(&self.topic).await?.partitions;
        let partitions: Vec<TopicPartition> = partitions
            .iter()
            .map(|p| TopicPartition {
                topic: self.topic.clone(),
                partition: p.partition,
            })
            .collect();
        let mut ends = admin
            .list_offsets(&partitions, OffsetSpec::Latest(Isolation::ReadCommitted))
            .await?;
        ends.retain(|_, end| end.offset > 0);
        let consumer = Consumer::new(client, ConsumerConfig::default()).await?;
        consumer.assign(partitions.clone()).await?;
        for at in &partitions {
            consumer.seek_to_beginning(at)?;
        }
        let started = Instant::now();
        let (mut records, mut bytes) = (0, 0);
        while !ends.is_empty() {
            if let Poll::Records(fetched) = consumer.poll_batches(Duration::from_secs(1)).await? {
                for part in fetched {
                    for batch in &part.batches {
                        records += u64::from(batch.header().record_count.unsigned_abs());
                        bytes += batch.bytes().len() as u64;
                    }
                    if ends
                        .get(&part.partition)
                        .is_some_and(|end| part.next_offset >= end.offset)
                    {
                        ends.remove(&part.partition);
                    }
                }
            }
        }
        Ok(Figures::new(
            "consume",
            records,
            bytes,
            started.elapsed(),
            Vec::new(),
        ))
    }
}

impl EndToEnd {
    async fn run(self, client: &Client) -> Result<Figures, CliError> {
        Admin::new(client)
            .ensure_topics(&[NewTopic::new(&self.topic, 1)])
            .await?;
        let at = TopicPartition {
            topic: self.topic.clone(),
            partition: 0,
        };
        let producer = Producer::new(
            client,
            ProducerConfig {
                linger: Duration::ZERO,
                ..ProducerConfig::default()
            },
        )
        .await?;
        let consumer = Consumer::new(client, ConsumerConfig::default()).await?;
        consumer.assign(vec![at.clone()]).await?;
        consumer.seek_to_end(&at)?;
        let value = payload(self.size);
        let mut latencies = Vec::new();
        let mut started = Instant::now();
        let warm_up = self.records / 10;
        for n in 0..self.records + warm_up {
            if n == warm_up {
                started = Instant::now();
            }
            let begun = Instant::now();
            let record = ProducerRecord {
                partition: Some(0),
                ..ProducerRecord::new(&self.topic, value.clone())
            };
            let delivery = producer.send(record).await?;
            let mut arrived = 0;
            while arrived == 0 {
                arrived = consumer.poll(Duration::from_secs(10)).await?.len();
                if begun.elapsed() > Duration::from_secs(30) {
                    return Err(CliError::new(
                        Exit::Unreachable,
                        format!(
                            "a record sent to {} did not come back within 30 s",
                            self.topic
                        ),
                    ));
                }
            }
            delivery.await?;
            if n >= warm_up {
                latencies.push(begun.elapsed());
            }
        }
        Ok(Figures::new(
            "e2e",
            self.records,
            self.records * self.size as u64,
            started.elapsed(),
            latencies,
        ))
    }
}

/// Bytes that do not compress to nothing.
fn payload(size: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'a' + (state % 26) as u8
    };
    (0..size).map(letter).collect::<Vec<u8>>().into()
}
