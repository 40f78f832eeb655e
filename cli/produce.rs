//! `flumen produce`: one record a line from standard input.

use std::io::BufRead;

use bytes::Bytes;
use clap::Args;
use flumen::client::{Acks, Compression, Producer, ProducerConfig, ProducerRecord};

use crate::Common;
use crate::error::{CliError, Exit};
use crate::topic::key_value;

#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// The topic
    topic: String,
    /// Write to this partition instead of choosing one by key
    #[arg(long, short)]
    partition: Option<i32>,
    /// What separates key and value in a line; without it a line is a value
    #[arg(long, short = 'K')]
    key_separator: Option<String>,
    /// A header as name=value for every record; may be repeated
    #[arg(long = "header", short = 'H', value_parser = key_value)]
    headers: Vec<(String, String)>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value = "none", value_parser = compression)]
    compression: Compression,
    /// 0, 1 or all
    #[arg(long, default_value = "all", value_parser = acks)]
    acks: Acks,
}

/// A codec by its name in Kafka's configuration.
pub(crate) fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("expected none, gzip, snappy, lz4 or zstd".to_owned()),
    }
}

/// Acknowledgements by their name in Kafka's configuration.
pub(crate) fn acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("expected 0, 1 or all".to_owned()),
    }
}

impl Produce {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let client = common.client().await?;
        let idempotent = self.acks == Acks::All;
        let config = ProducerConfig {
            acks: self.acks,
            compression: self.compression,
            idempotent,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(&client, config).await?;
        let headers: Vec<(String, Option<Bytes>)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), Some(Bytes::from(value.clone()))))
            .collect();
        let (mut line, mut count) = (Vec::new(), 0_u64);
        let mut input = std::io::stdin().lock();
        let mut last = None;
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.ends_with(b"\n") {
                line.pop();
            }
            let (key, value) = split(&line, self.key_separator.as_deref());
            let mut record = ProducerRecord::new(&self.topic, value);
            record.key = key;
            record.partition = self.partition;
            record.headers.clone_from(&headers);
            last = Some(producer.send(record).await?);
            count += 1;
        }
        producer.flush().await?;
        if let Some(delivery) = last {
            delivery.await?;
        }
        eprintln!("{count} records written to {}", self.topic);
        if count == 0 {
            return Err(CliError::new(Exit::Usage, "standard input was empty")
                .next("write one record a line, for example: echo hello | flumen produce TOPIC"));
        }
        Ok(())
    }
}

fn split(line: &[u8], separator: Option<&str>) -> (Option<Bytes>, Bytes) {
    let found = separator.filter(|s| !s.is_empty()).and_then(|separator| {
        let at = line
            .windows(separator.len())
            .position(|window| window == separator.as_bytes())?;
        Some((at, at + separator.len()))
    });
    match found {
        Some((key, value)) => (
            Some(Bytes::copy_from_slice(&line[..key])),
            Bytes::copy_from_slice(&line[value..]),
        ),
        None => (None, Bytes::copy_from_slice(line)),
    }
}
