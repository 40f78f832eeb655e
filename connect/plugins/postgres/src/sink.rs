//! The Postgres sink: records as rows, each exactly once, whatever is killed on either side.
//!
//! Owns the task and the order of its work:
//!
//! 1. statements and their bytes are made from the records (`plan.rs`): what no table would take
//!    is known before anything is sent;
//! 2. `BEGIN`;
//! 3. the offsets of the batches move from start to end where the epoch is ours (`claims.rs`): this
//!    takes the row locks and fences;
//! 4. the rows (`writer.rs`);
//! 5. `COMMIT`.
//!
//! Rows that Postgres refuses are searched for by halves. When the connection breaks, nobody knows
//! whether a COMMIT took place: the next call connects again, sees whether the partitions are still
//! ours, and reads the answer in `next_offset`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use flumen_connect::config::{ConfigDef, Finding, Settings};
use flumen_connect::error::{RejectedRecord, TaskError};
use flumen_connect::record::{SinkBatch, SinkRecord, TopicPartition};
use flumen_connect::sink::{
    AssignedPartition, Close, Guarantee, SinkConnector, SinkContext, SinkTask, StartAt, Written,
};
use tokio_postgres::Client;

use crate::catalogue::Catalogue;
use crate::claims::{Claimant, Claims};
use crate::failure::{Class, class_of, message, task_error};
use crate::options::{Options, config_def};
use crate::plan::{Refused, Statement, plan};
use crate::session::Session;
use crate::table::Table;
use crate::writer::Writer;

/// Topics into tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostgresSink;

#[async_trait]
impl SinkConnector for PostgresSink {
    fn config(&self) -> ConfigDef {
        config_def()
    }

    /// Contradictions are errors. A database that does not answer is a warning: the task waits for
    /// it.
    async fn validate(&self, settings: &Settings) -> Vec<Finding> {
        let options = Options::new(settings);
        let mut findings = options.contradictions();
        if findings.is_empty()
            && let Err(e) = Session::connect(&options, "validation").await
        {
            let fatal = matches!(e, TaskError::Fatal(_));
            let finding = if fatal {
                Finding::error
            } else {
                Finding::warning
            };
            findings.push(finding("connection.url".to_owned(), e.to_string()));
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
            catalogue: Catalogue::default(),
        })
    }

    async fn alter_offsets(
        &self,
        settings: &Settings,
        connector: &str,
        offsets: &BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<(), String> {
        let options = Options::new(settings);
        let session = Session::connect(&options, connector).await;
        let client = &session.as_ref().map_err(ToString::to_string)?.client;
        let claimant = Claimant::new(&options, connector, "offsets altered over REST");
        let made = claimant.create_table(client).await;
        made.map_err(|e| e.to_string())?;
        let altered = claimant.alter(client, offsets).await;
        altered.map_err(|e| message(&e))
    }
}

/// The task.
struct PostgresSinkTask {
    options: Options,
    claimant: Option<Claimant>,
    claims: Claims,
    /// `None` before `open`, and whenever the state of the connection is in doubt: after an error,
    /// while a call uses it (so also when that is dropped).
    session: Option<(Session, Writer)>,
    catalogue: Catalogue,
}

#[async_trait]
impl SinkTask for PostgresSinkTask {
    async fn open(
        &mut self,
        context: SinkContext,
        partitions: &[AssignedPartition],
    ) -> Result<BTreeMap<TopicPartition, StartAt>, TaskError> {
        self.session = None;
        self.catalogue.forget();
        let session = Session::connect(&self.options, &context.connector).await?;
        let claimant = Claimant::new(&self.options, &context.connector, &context.owner);
        claimant.create_table(&session.client).await?;
        self.claims = claimant.claim(&self.options, &session, partitions).await?;
        self.claimant = Some(claimant);
        self.session = Some((session, Writer::default()));
        let starts = self.claims.iter();
        Ok(starts
            .map(|(of, claim)| (of.clone(), StartAt::Offset(claim.next_offset)))
            .collect())
    }

    async fn write(&mut self, batches: &[SinkBatch]) -> Result<Written, TaskError> {
        let session = self
            .session
            .take()
            .filter(|(session, _)| !session.client.is_closed());
        let (session, mut writer) = match session {
            Some(open) => open,
            None => {
                let session = self.reconnect().await?;
                if self.is_committed(batches)? {
                    self.session = Some((session, Writer::default()));
                    return Ok(Written::Durable);
                }
                (session, Writer::default())
            }
        };
        let written = self
            .transactions(&session.client, &mut writer, batches)
            .await;
        match &written {
            Ok(()) => {
                for batch in batches {
                    if let Some(claim) = self.claims.get_mut(&batch.topic_partition) {
                        claim.next_offset = batch.next_offset;
                    }
                }
                self.session = Some((session, writer));
            }
            // A connection that cannot roll back is dropped: then Postgres does.
            Err(_) => {
                if session.client.batch_execute("ROLLBACK").await.is_ok() {
                    self.session = Some((session, writer));
                }
            }
        }
        written.map(|()| Written::Durable)
    }

    async fn close(&mut self, _why: Close) {
        self.session = None;
    }
}

/// What stopped a transaction.
enum Stop {
    /// Rows are wrong; which, is to be found.
    Data,
    /// A table is not what we think.
    Schema(TaskError),
    Task(TaskError),
}

impl Stop {
    fn of(doing: &str, error: &tokio_postgres::Error) -> Stop {
        match class_of(error) {
            Class::Data => Stop::Data,
            Class::Schema => Stop::Schema(task_error(doing, error)),
            Class::Gone | Class::Passing | Class::Fatal => Stop::Task(task_error(doing, error)),
        }
    }
}

/// The records of a call in one row, and the tables they go to.
struct Work<'a> {
    batches: &'a [SinkBatch],
    records: Vec<&'a SinkRecord>,
    /// Per batch: its table, and the index of its first record.
    tables: Vec<(Arc<Table>, usize)>,
}

impl Work<'_> {
    /// Statements for records `range`, in order.
    fn plan(
        &self,
        options: &Options,
        range: &std::ops::Range<usize>,
    ) -> Result<Vec<Statement>, Refused> {
        let (mut statements, mut refused) = (Vec::new(), Refused::default());
        let mut by_table: Vec<(&Table, Vec<(usize, &SinkRecord)>)> = Vec::new();
        for (batch, (table, first)) in self.batches.iter().zip(&self.tables) {
            let mine = range.start.max(*first)..range.end.min(first + batch.records.len());
            let mine = mine.map(|at| (at, self.records[at]));
            match by_table
                .iter_mut()
                .find(|(known, _)| known.name == table.name)
            {
                Some((_, records)) => records.extend(mine),
                None => by_table.push((table, mine.collect())),
            }
        }
        for (table, records) in by_table
            .into_iter()
            .filter(|(_, records)| !records.is_empty())
        {
            match plan(options, table, records) {
                Ok(planned) => statements.extend(planned),
                Err(these) => {
                    refused.unknown_field |= these.unknown_field;
                    refused.records.extend(these.records);
                }
            }
        }
        if refused.records.is_empty() {
            Ok(statements)
        } else {
            Err(refused)
        }
    }

    /// Record numbers back to batch and record.
    fn rejected(&self, mut refused: Vec<(usize, String)>) -> TaskError {
        refused.sort_by_key(|(at, _)| *at);
        let place = |(at, reason): (usize, String)| {
            let batch = self.tables.iter().rposition(|(_, first)| *first <= at);
            let batch = batch.expect("the first batch begins at 0");
            let record = at - self.tables[batch].1;
            RejectedRecord {
                batch,
                record,
                reason,
            }
        };
        TaskError::Records(refused.into_iter().map(place).collect())
    }
}

impl PostgresSinkTask {
    /// A new connection, with our claims if they are still ours.
    async fn reconnect(&mut self) -> Result<Session, TaskError> {
        self.catalogue.forget();
        let claimant = self
            .claimant
            .as_ref()
            .ok_or_else(|| TaskError::fatal("written before open"))?;
        let session = Session::connect(&self.options, &claimant.sink).await?;
        self.claims = claimant
            .read_again(&self.options, &session, &self.claims)
            .await?;
        Ok(session)
    }

    /// Whether the lost connection had committed these batches.
    fn is_committed(&self, batches: &[SinkBatch]) -> Result<bool, TaskError> {
        let next = |batch: &SinkBatch| {
            self.claims
                .get(&batch.topic_partition)
                .map(|c| c.next_offset)
        };
        if batches
            .iter()
            .all(|batch| next(batch) == Some(batch.start_offset))
        {
            return Ok(false);
        }
        match batches
            .iter()
            .find(|batch| next(batch) != Some(batch.next_offset))
        {
            None => Ok(true),
            // A failover to a copy that lags loses rows and offsets together: whoever opens again
            // replays from there.
            Some(batch) => Err(TaskError::fatal(format!(
                "partition {}: the database went back or was changed: offset {:?} comes next there, we were at {}; restart the task to go on from there",
                batch.topic_partition,
                next(batch).unwrap_or_default(),
                batch.start_offset
            ))),
        }
    }

    /// The transaction, again where a table was not what it was taken for, or rows must be searched
    /// for.
    async fn transactions(
        &mut self,
        client: &Client,
        writer: &mut Writer,
        batches: &[SinkBatch],
    ) -> Result<(), TaskError> {
        let mut looked_again = false;
        loop {
            let work = self.work(client, batches).await?;
            let all = 0..work.records.len();
            let statements = match work.plan(&self.options, &all) {
                Ok(statements) => statements,
                Err(refused) if refused.unknown_field && !looked_again => {
                    looked_again = true;
                    self.catalogue.forget();
                    continue;
                }
                Err(refused) => return Err(work.rejected(refused.records)),
            };
            let stop = match self
                .transaction(client, writer, (batches, &statements))
                .await
            {
                Ok(()) => return Ok(()),
                Err(stop) => stop,
            };
            let rolled_back = client.batch_execute("ROLLBACK").await;
            match stop {
                Stop::Task(error) => return Err(error),
                Stop::Schema(_) if !looked_again => {
                    looked_again = true;
                    self.catalogue.forget();
                    *writer = Writer::default();
                }
                Stop::Schema(error) => return Err(error),
                Stop::Data => {
                    rolled_back.map_err(|e| task_error("rolling back", &e))?;
                    return self.search(client, writer, &work).await;
                }
            }
        }
    }

    /// Looks up the tables of `batches`.
    async fn work<'a>(
        &mut self,
        client: &Client,
        batches: &'a [SinkBatch],
    ) -> Result<Work<'a>, TaskError> {
        let (mut tables, mut records) = (Vec::new(), Vec::new());
        for batch in batches {
            let topic = &batch.topic_partition.topic;
            let same = batches
                .iter()
                .filter(|other| other.topic_partition.topic == *topic);
            let same = same.flat_map(|batch| &batch.records);
            if batch.records.is_empty() {
                tables.push((
                    Arc::new(Table {
                        name: String::new(),
                        columns: Vec::new(),
                    }),
                    records.len(),
                ));
                continue;
            }
            let table = self
                .catalogue
                .table(client, &self.options, topic, same)
                .await?;
            tables.push((table, records.len()));
            records.extend(&batch.records);
        }
        Ok(Work {
            batches,
            records,
            tables,
        })
    }

    async fn transaction(
        &self,
        client: &Client,
        writer: &mut Writer,
        (batches, statements): (&[SinkBatch], &[Statement]),
    ) -> Result<(), Stop> {
        self.begin(client, batches, "BEGIN")
            .await
            .map_err(Stop::Task)?;
        let ran = writer.run(client, statements).await;
        ran.map_err(|e| Stop::of("writing rows", &e))?;
        let committed = client.batch_execute("COMMIT").await;
        committed.map_err(|e| Stop::of("committing", &e))
    }

    /// Opens a transaction and moves the offsets in it.
    async fn begin(
        &self,
        client: &Client,
        batches: &[SinkBatch],
        begin: &str,
    ) -> Result<(), TaskError> {
        let claimant = self
            .claimant
            .as_ref()
            .ok_or_else(|| TaskError::fatal("written before open"))?;
        let begun = client.batch_execute(begin).await;
        begun.map_err(|e| task_error("beginning a transaction", &e))?;
        claimant.advance(client, &self.claims, batches).await
    }

    /// Writes the records by halves until the refused ones are found; commits if there is none
    /// (rows were only the same to ON CONFLICT).
    async fn search(
        &self,
        client: &Client,
        writer: &mut Writer,
        work: &Work<'_>,
    ) -> Result<(), TaskError> {
        // A constraint that waits for the COMMIT could not be searched for.
        let begin = "BEGIN; SET CONSTRAINTS ALL IMMEDIATE";
        self.begin(client, work.batches, begin).await?;
        let found = writer.search(client, work.records.len(), |range| {
            work.plan(&self.options, &range)
        });
        let refused = found
            .await
            .map_err(|e| task_error("looking for the rows that are refused", &e))?;
        if refused.is_empty() {
            let committed = client.batch_execute("COMMIT").await;
            return committed.map_err(|e| task_error("committing", &e));
        }
        Err(work.rejected(refused))
    }
}

impl fmt::Debug for PostgresSinkTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSinkTask")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}
