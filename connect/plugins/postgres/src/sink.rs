//! The Postgres sink: records as rows, each exactly once, whatever is killed on either side.
//!
//! Owns the task and the order of a transaction:
//!
//! 1. `BEGIN`; 2. the offsets of the batch move from start to end where the epoch is ours (`claims.rs`): this takes the row locks and fences;
//! 3. the rows (`writer.rs`); 4. `COMMIT`.
//!
//! When the connection breaks in 4, nobody knows whether it took place: the next call claims again, if nobody else has, and reads the answer in `next_offset`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use flumen_connect::config::{ConfigDef, Finding, Settings};
use flumen_connect::error::{RejectedRecord, TaskError};
use flumen_connect::record::{SinkBatch, TopicPartition};
use flumen_connect::sink::{
    AssignedPartition, Close, Guarantee, SinkConnector, SinkContext, SinkTask, StartAt, Written,
};

use crate::claims::{Claimant, Claims};
use crate::options::{Options, config_def};
use crate::session::{Class, Session, class, message, task_error};
use crate::writer::{Item, WriteError, Writer};

/// Topics into tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostgresSink;

#[async_trait]
impl SinkConnector for PostgresSink {
    fn config(&self) -> ConfigDef {
        config_def()
    }

    async fn validate(&self, settings: &Settings) -> Vec<Finding> {
        let options = Options::new(settings);
        let mut findings: Vec<Finding> = options
            .contradictions()
            .into_iter()
            .map(|(key, message)| Finding::error(key, message))
            .collect();
        if let Err(e) = Session::connect(&options, "validation").await {
            let message = format!("{e}; the task will try again");
            findings.push(Finding::warning("connection.url", message));
        }
        findings
    }

    fn guarantees(&self, _settings: &Settings) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn task(&self, settings: &Settings) -> Box<dyn SinkTask> {
        Box::new(PostgresSinkTask {
            options: Options::new(settings),
            claimant: None,
            claims: Claims::new(),
            session: None,
            writer: Writer::default(),
        })
    }

    async fn alter_offsets(
        &self,
        settings: &Settings,
        connector: &str,
        offsets: &BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<(), String> {
        let options = Options::new(settings);
        let session = Session::connect(&options, connector)
            .await
            .map_err(|e| e.to_string())?;
        let claimant = Claimant::new(&options, connector, "offsets altered over REST");
        claimant
            .create_table(&session.client)
            .await
            .map_err(|e| e.to_string())?;
        claimant
            .alter(&session.client, offsets)
            .await
            .map_err(|e| message(&e))
    }
}

/// The task.
struct PostgresSinkTask {
    options: Options,
    claimant: Option<Claimant>,
    claims: Claims,
    /// `None` before `open` and after the connection broke.
    session: Option<Session>,
    writer: Writer,
}

#[async_trait]
impl SinkTask for PostgresSinkTask {
    async fn open(
        &mut self,
        context: SinkContext,
        partitions: &[AssignedPartition],
    ) -> Result<BTreeMap<TopicPartition, StartAt>, TaskError> {
        self.writer.forget();
        let session = Session::connect(&self.options, &context.connector).await?;
        let claimant = Claimant::new(&self.options, &context.connector, &context.owner);
        claimant.create_table(&session.client).await?;
        self.claims = claimant.claim(&self.options, &session, partitions).await?;
        self.claimant = Some(claimant);
        self.session = Some(session);
        Ok(self
            .claims
            .iter()
            .map(|(partition, claim)| (partition.clone(), StartAt::Offset(claim.next_offset)))
            .collect())
    }

    async fn write(&mut self, batches: &[SinkBatch]) -> Result<Written, TaskError> {
        if self
            .session
            .as_ref()
            .is_none_or(|session| session.client.is_closed())
            && self.reconnect(batches).await?
        {
            return Ok(Written::Durable);
        }
        let session = self.session.take().expect("connected above");
        let written = self.transaction(&session, batches).await;
        match written {
            Ok(()) => {
                for batch in batches {
                    let claim = self
                        .claims
                        .get_mut(&batch.topic_partition)
                        .expect("moved in the table, so claimed");
                    claim.next_offset = batch.next_offset;
                }
                self.session = Some(session);
                Ok(Written::Durable)
            }
            Err(error) => {
                self.writer.forget();
                // A connection that cannot roll back is dropped: then Postgres does.
                if session.client.batch_execute("ROLLBACK").await.is_ok() {
                    self.session = Some(session);
                }
                Err(error)
            }
        }
    }

    async fn close(&mut self, _why: Close) {
        self.session = None;
    }
}

impl PostgresSinkTask {
    /// A new connection, with our claims if they are still ours. `true`: `batches` are in the table already, the lost connection had committed them.
    async fn reconnect(&mut self, batches: &[SinkBatch]) -> Result<bool, TaskError> {
        self.session = None;
        self.writer.forget();
        let claimant = self
            .claimant
            .as_ref()
            .ok_or_else(|| TaskError::fatal("written before open"))?;
        let session = Session::connect(&self.options, &claimant.sink).await?;
        self.claims = claimant.claim_again(&session.client, &self.claims).await?;
        self.session = Some(session);
        let next = |batch: &SinkBatch| {
            self.claims
                .get(&batch.topic_partition)
                .map(|claim| claim.next_offset)
        };
        let committed = batches
            .iter()
            .filter(|batch| next(batch) == Some(batch.next_offset))
            .count();
        if committed > 0
            && committed < batches.len()
            && batches.iter().any(|batch| {
                next(batch) != Some(batch.next_offset) && batch.start_offset != batch.next_offset
            })
        {
            return Err(TaskError::fatal(
                "a part of one transaction is in the table: the offsets table was changed",
            ));
        }
        Ok(committed == batches.len())
    }

    async fn transaction(
        &mut self,
        session: &Session,
        batches: &[SinkBatch],
    ) -> Result<(), TaskError> {
        let client = &session.client;
        let claimant = self
            .claimant
            .as_ref()
            .ok_or_else(|| TaskError::fatal("written before open"))?;
        let begin = "BEGIN; SET CONSTRAINTS ALL IMMEDIATE";
        client
            .batch_execute(begin)
            .await
            .map_err(|e| task_error("beginning a transaction", &e))?;
        claimant.advance(client, &self.claims, batches).await?;
        let items: Vec<Item<'_>> = batches
            .iter()
            .flat_map(|batch| {
                batch.records.iter().map(|record| Item {
                    topic: &batch.topic_partition.topic,
                    record,
                })
            })
            .collect();
        let error = match self.writer.write(client, &self.options, &items).await {
            Ok(()) => {
                return client
                    .batch_execute("COMMIT")
                    .await
                    .map_err(|e| commit_error(session, &e));
            }
            Err(error) => error,
        };
        match error {
            WriteError::Rows(rows) => Err(rejected(batches, rows)),
            WriteError::Table(why) => Err(TaskError::fatal(why)),
            WriteError::Postgres(doing, e) if class(&e) == Class::Data => {
                self.writer.forget();
                let again = format!("ROLLBACK; {begin}");
                client
                    .batch_execute(&again)
                    .await
                    .map_err(|e| task_error("beginning a transaction", &e))?;
                match self.writer.offenders(client, &self.options, &items).await {
                    Ok(rows) if rows.is_empty() => Err(TaskError::retry(
                        Duration::from_millis(200),
                        format!(
                            "{doing}: {} (gone when the rows were written by halves)",
                            message(&e)
                        ),
                    )),
                    Ok(rows) | Err(WriteError::Rows(rows)) => Err(rejected(batches, rows)),
                    Err(WriteError::Postgres(doing, e)) => Err(task_error(&doing, &e)),
                    Err(WriteError::Table(why)) => Err(TaskError::fatal(why)),
                }
            }
            WriteError::Postgres(doing, e) => Err(task_error(&doing, &e)),
        }
    }
}

/// A COMMIT that failed: by a closed connection the outcome is unknown, by an answer it is a rollback.
fn commit_error(session: &Session, error: &tokio_postgres::Error) -> TaskError {
    if session.client.is_closed() || error.code().is_none() {
        return TaskError::retry(
            Duration::from_millis(200),
            format!("the connection broke while committing: {}", message(error)),
        );
    }
    task_error("committing", error)
}

/// Item numbers back to batch and record.
fn rejected(batches: &[SinkBatch], mut rows: Vec<(usize, String)>) -> TaskError {
    rows.sort_by_key(|(at, _)| *at);
    rows.dedup_by_key(|(at, _)| *at);
    let place = |mut at: usize| {
        for (batch, records) in batches.iter().enumerate() {
            if at < records.records.len() {
                return (batch, at);
            }
            at -= records.records.len();
        }
        unreachable!("items are the batches' records")
    };
    let rows = rows.into_iter().map(|(at, reason)| {
        let (batch, record) = place(at);
        RejectedRecord {
            batch,
            record,
            reason,
        }
    });
    TaskError::Records(rows.collect())
}

impl fmt::Debug for PostgresSinkTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSinkTask")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}
