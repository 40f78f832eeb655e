//! `flumen consume`: a topic to standard output, from anywhere, in kcat's formats or as JSON lines.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use flumen::client::{
    Admin, Client, Consumer, ConsumerConfig, ConsumerRecord, Isolation, OffsetAndMetadata,
    OffsetReset, OffsetSpec, TopicPartition,
};

use crate::Common;
use crate::error::{CliError, Exit};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// The topic
    topic: String,
    /// Read from the first record instead of waiting for new ones
    #[arg(long)]
    from_beginning: bool,
    /// Read only this partition
    #[arg(long, short)]
    partition: Option<i32>,
    /// Start at this offset of the partition
    #[arg(long, requires = "partition", conflicts_with = "from_beginning")]
    offset: Option<i64>,
    /// Read as a member of this group and commit what was printed
    #[arg(long, short = 'G', conflicts_with_all = ["partition", "offset"])]
    group: Option<String>,
    /// Stop after so many records
    #[arg(long, short = 'c', value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop at the end of the topic, as it was when reading began
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// Show records of open and aborted transactions too
    #[arg(long)]
    read_uncommitted: bool,
    /// %t topic, %p partition, %o offset, %T timestamp in ms, %k key, %s value, %h headers; \n and \t
    #[arg(long, short = 'f', default_value = "%s\\n")]
    format: String,
}

impl Consume {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let client = common.client().await?;
        let isolation = if self.read_uncommitted {
            Isolation::ReadUncommitted
        } else {
            Isolation::ReadCommitted
        };
        let reset = if self.from_beginning || self.group.is_some() {
            OffsetReset::Earliest
        } else {
            OffsetReset::Latest
        };
        let config = ConsumerConfig {
            group_id: self.group.clone(),
            isolation,
            auto_offset_reset: reset,
            ..ConsumerConfig::default()
        };
        let consumer = Consumer::new(&client, config).await?;
        let partitions = self.partitions(&client).await?;
        let mut ends = Ends::default();
        if self.exit_at_end {
            ends = Ends::of(&client, &partitions, isolation).await?;
        }
        if self.group.is_some() {
            consumer.subscribe(&[&self.topic]).await?;
        } else {
            consumer.assign(partitions.clone()).await?;
            for at in &partitions {
                match self.offset {
                    Some(offset) => consumer.seek(at, offset)?,
                    None if self.from_beginning => consumer.seek_to_beginning(at)?,
                    None => consumer.seek_to_end(at)?,
                }
            }
        }
        let outcome = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Ok(()),
            outcome = self.print(&consumer, common.output, ends) => outcome,
        };
        consumer.close().await;
        outcome
    }

    async fn partitions(&self, client: &Client) -> Result<Vec<TopicPartition>, CliError> {
        let topic = Admin::new(client).describe_topic(&self.topic).await?;
        let wanted = topic
            .partitions
            .iter()
            .map(|p| p.partition)
            .filter(|p| self.partition.is_none_or(|only| only == *p));
        let wanted: Vec<TopicPartition> = wanted
            .map(|partition| TopicPartition {
                topic: self.topic.clone(),
                partition,
            })
            .collect();
        if let (Some(partition), true) = (self.partition, wanted.is_empty()) {
            let what = format!("topic {} has no partition {partition}", self.topic);
            return Err(CliError::new(Exit::NotFound, what)
                .next("`flumen topic describe NAME` shows what is there"));
        }
        Ok(wanted)
    }

    async fn print(
        &self,
        consumer: &Consumer,
        output: Output,
        mut ends: Ends,
    ) -> Result<(), CliError> {
        let mut printed = 0;
        let mut out = std::io::BufWriter::new(std::io::stdout());
        loop {
            if self.exit_at_end && ends.all_reached(consumer).await? {
                out.flush()?;
                return Ok(());
            }
            let records = consumer.poll(Duration::from_millis(200)).await?;
            // What was fetched and not printed is not done: the next member shall get it.
            let mut printed_to = BTreeMap::new();
            for record in &records {
                if self.exit_at_end && !ends.is_before_end(record) {
                    continue;
                }
                self.write(&mut out, record, output)?;
                printed += 1;
                let at = TopicPartition::new(&*record.topic, record.partition);
                let next = OffsetAndMetadata::new(record.offset + 1);
                let _ = printed_to.insert(at, next);
                if self.count == Some(printed) {
                    break;
                }
            }
            out.flush()?;
            if self.group.is_some() && !printed_to.is_empty() {
                let offsets: Vec<_> = printed_to.into_iter().collect();
                consumer.commit(&offsets).await?;
            }
            if self.count == Some(printed) {
                return Ok(());
            }
        }
    }

    fn write(
        &self,
        out: &mut impl Write,
        record: &ConsumerRecord,
        output: Output,
    ) -> std::io::Result<()> {
        if output == Output::Json {
            let text =
                |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
            let headers: Vec<_> = record.headers.iter().map(|(name, value)| serde_json::json!({ "name": text(Some(name)), "value": text(value) })).collect();
            let line = serde_json::json!({
                "topic": &*record.topic, "partition": record.partition, "offset": record.offset, "timestamp": record.timestamp,
                "key": text(record.key.as_deref()), "value": text(record.value.as_deref()), "headers": headers,
            });
            return writeln!(out, "{line}");
        }
        let mut characters = self.format.chars();
        while let Some(c) = characters.next() {
            match (c, c == '%' || c == '\\') {
                (_, false) => write!(out, "{c}")?,
                (kind, true) => match (kind, characters.next()) {
                    ('%', Some('t')) => write!(out, "{}", record.topic)?,
                    ('%', Some('p')) => write!(out, "{}", record.partition)?,
                    ('%', Some('o')) => write!(out, "{}", record.offset)?,
                    ('%', Some('T')) => write!(out, "{}", record.timestamp)?,
                    ('%', Some('k')) => out.write_all(record.key.as_deref().unwrap_or_default())?,
                    ('%', Some('s' | 'v')) => {
                        out.write_all(record.value.as_deref().unwrap_or_default())?
                    }
                    ('%', Some('h')) => write_headers(out, record)?,
                    ('\\', Some('n')) => writeln!(out)?,
                    ('\\', Some('t')) => write!(out, "\t")?,
                    (_, Some(other)) => write!(out, "{other}")?,
                    (_, None) => {}
                },
            }
        }
        Ok(())
    }
}

fn write_headers(out: &mut impl Write, record: &ConsumerRecord) -> std::io::Result<()> {
    for (at, (name, value)) in record.headers.iter().enumerate() {
        out.write_all(if at == 0 { b"" } else { b"," })?;
        out.write_all(name)?;
        out.write_all(b"=")?;
        out.write_all(value.unwrap_or_default())?;
    }
    Ok(())
}

/// Where each partition ended when reading began.
#[derive(Debug, Default)]
struct Ends(Vec<(TopicPartition, i64)>);

impl Ends {
    async fn of(
        client: &Client,
        partitions: &[TopicPartition],
        isolation: Isolation,
    ) -> Result<Ends, CliError> {
        let found = Admin::new(client)
            .list_offsets(partitions, OffsetSpec::Latest(isolation))
            .await?;
        Ok(Ends(
            found
                .into_iter()
                .map(|(at, end)| (at, end.offset))
                .collect(),
        ))
    }

    fn is_before_end(&self, record: &ConsumerRecord) -> bool {
        self.0
            .iter()
            .any(|(at, end)| at.partition == record.partition && record.offset < *end)
    }

    async fn all_reached(&mut self, consumer: &Consumer) -> Result<bool, CliError> {
        // A member of a group has only its share of the partitions, and none before it has joined.
        let mine = consumer.assignment();
        if mine.is_empty() && !self.0.is_empty() {
            return Ok(false);
        }
        for (at, end) in self.0.iter().filter(|(at, _)| mine.contains(at)) {
            if *end > 0 && consumer.position(at).await? < *end {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
