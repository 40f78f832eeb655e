//! `flumen transaction list|describe|hanging|abort`.

use clap::Subcommand;
use flumen::client::{Admin, ProducerDescription, TopicPartition};
use serde::Serialize;

use crate::Common;
use crate::error::{CliError, Exit};
use crate::output::Rows;

/// Longest timeout a broker allows a transaction by default (`transaction.max.timeout.ms`).
const OLDEST_MINUTES: u64 = 15;

#[derive(Debug, Subcommand)]
pub(crate) enum Transaction {
    /// List transactional ids, their producers and states
    List {
        /// Only these states, as Ongoing; may be repeated
        #[arg(long = "state", short)]
        states: Vec<String>,
    },
    /// Show one transaction
    Describe {
        /// The transactional id
        id: String,
    },
    /// Find transactions that are open in a topic and that no coordinator will end
    Hanging {
        /// The topic
        topic: String,
        /// Only those whose last record is so many minutes old
        #[arg(long, default_value_t = OLDEST_MINUTES)]
        minutes: u64,
    },
    /// Abort a hanging transaction in one partition
    Abort {
        /// The topic
        topic: String,
        /// The partition
        partition: i32,
        /// Where the transaction begins, as `hanging` shows it
        #[arg(long)]
        start_offset: i64,
        /// Do it; without this nothing is changed
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Serialize)]
struct Listed {
    transactional_id: String,
    producer_id: i64,
    state: String,
}

impl Rows for Vec<Listed> {
    fn header(&self) -> Vec<&'static str> {
        vec!["TRANSACTIONAL ID", "PRODUCER", "STATE"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |t: &Listed| {
            let (id, state) = (t.transactional_id.clone(), t.state.clone());
            vec![id, t.producer_id.to_string(), state]
        };
        self.iter().map(row).collect()
    }
    fn empty(&self) -> &'static str {
        "no transactions"
    }
}

#[derive(Debug, Serialize)]
struct Described {
    transactional_id: String,
    state: String,
    producer_id: i64,
    producer_epoch: i16,
    timeout_ms: i32,
    started: Option<String>,
    partitions: Vec<String>,
}

impl Rows for Described {
    fn header(&self) -> Vec<&'static str> {
        vec![
            "STATE",
            "PRODUCER",
            "EPOCH",
            "TIMEOUT MS",
            "STARTED",
            "PARTITIONS",
        ]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        vec![vec![
            self.state.clone(),
            self.producer_id.to_string(),
            self.producer_epoch.to_string(),
            self.timeout_ms.to_string(),
            self.started.clone().unwrap_or_else(|| "-".to_owned()),
            self.partitions.join(" "),
        ]]
    }
    fn empty(&self) -> &'static str {
        "no transaction"
    }
}

#[derive(Debug, Serialize)]
struct Hanging {
    topic: String,
    partition: i32,
    producer_id: i64,
    producer_epoch: i32,
    start_offset: i64,
    last_record: Option<String>,
}

impl Rows for Vec<Hanging> {
    fn header(&self) -> Vec<&'static str> {
        vec![
            "TOPIC",
            "PARTITION",
            "PRODUCER",
            "EPOCH",
            "BEGINS AT",
            "LAST RECORD",
        ]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |h: &Hanging| {
            vec![
                h.topic.clone(),
                h.partition.to_string(),
                h.producer_id.to_string(),
                h.producer_epoch.to_string(),
                h.start_offset.to_string(),
                h.last_record.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        };
        self.iter().map(row).collect()
    }
    fn empty(&self) -> &'static str {
        "no transaction hangs"
    }
}

/// RFC 3339, or nothing for what never was.
fn time(ms: i64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(ms).ok();
    at.filter(|_| ms >= 0).map(|at| at.to_string())
}

impl Transaction {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let admin = Admin::new(&common.client().await?);
        match self {
            Transaction::List { states } => {
                let states: Vec<&str> = states.iter().map(String::as_str).collect();
                let found = admin.list_transactions(&states).await?.into_iter();
                let listed: Vec<Listed> = found
                    .map(|found| Listed {
                        transactional_id: found.transactional_id,
                        producer_id: found.producer_id,
                        state: found.state,
                    })
                    .collect();
                common.output.print(&listed);
            }
            Transaction::Describe { id } => {
                let found = admin.describe_transaction(&id).await?;
                let partitions = found.partitions.iter().map(ToString::to_string);
                common.output.print(&Described {
                    transactional_id: id,
                    partitions: partitions.collect(),
                    state: found.state,
                    producer_id: found.producer_id,
                    producer_epoch: found.producer_epoch,
                    timeout_ms: found.timeout_ms,
                    started: time(found.start_ms),
                });
            }
            Transaction::Hanging { topic, minutes } => {
                common
                    .output
                    .print(&hanging(&admin, &topic, minutes).await?);
            }
            Transaction::Abort {
                topic,
                partition,
                start_offset,
                yes,
            } => {
                let at = TopicPartition::new(topic, partition);
                abort(&admin, &at, start_offset, yes).await?;
            }
        }
        Ok(())
    }
}

/// Open in a partition, old, and not ongoing for any coordinator.
async fn hanging(admin: &Admin, topic: &str, minutes: u64) -> Result<Vec<Hanging>, CliError> {
    let described = admin.describe_topic(topic).await?;
    let partitions = described.partitions.iter();
    let partitions: Vec<TopicPartition> = partitions
        .map(|found| TopicPartition::new(topic, found.partition))
        .collect();
    let oldest_ms = i64::try_from(minutes.saturating_mul(60_000)).unwrap_or(i64::MAX);
    let before = jiff::Timestamp::now()
        .as_millisecond()
        .saturating_sub(oldest_ms);
    let mut found = Vec::new();
    let ongoing = ["Ongoing", "PrepareCommit", "PrepareAbort"];
    let known: Vec<i64> = admin
        .list_transactions(&ongoing)
        .await?
        .iter()
        .map(|listed| listed.producer_id)
        .collect();
    for (at, producers) in admin.describe_producers(&partitions).await? {
        for producer in producers {
            let Some(start_offset) = producer.transaction_start else {
                continue;
            };
            if producer.last_timestamp > before || known.contains(&producer.producer_id) {
                continue;
            }
            found.push(Hanging {
                topic: at.topic.clone(),
                partition: at.partition,
                producer_id: producer.producer_id,
                producer_epoch: producer.producer_epoch,
                start_offset,
                last_record: time(producer.last_timestamp),
            });
        }
    }
    Ok(found)
}

async fn abort(
    admin: &Admin,
    at: &TopicPartition,
    start_offset: i64,
    yes: bool,
) -> Result<(), CliError> {
    let described = admin.describe_producers(std::slice::from_ref(at)).await?;
    let begins = |producer: &&ProducerDescription| producer.transaction_start == Some(start_offset);
    let Some(producer) = described.values().flatten().find(begins) else {
        let what = format!("partition {at}: no open transaction begins at offset {start_offset}");
        let next = format!(
            "`flumen transaction hanging {}` shows those that do",
            at.topic
        );
        return Err(CliError::new(Exit::NotFound, what).next(next));
    };
    if !yes {
        let what = format!(
            "partition {at}: the transaction of producer {} from offset {start_offset} would be aborted; nothing was done",
            producer.producer_id
        );
        return Err(CliError::new(Exit::Usage, what).next("add --yes to abort it"));
    }
    admin.abort_transaction(at, producer).await?;
    eprintln!("partition {at}: aborted what began at offset {start_offset}");
    Ok(())
}
