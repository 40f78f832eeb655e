//! Who owns which partition, and how far its rows are: one table in the target itself.
//!
//! Owns the statements on `_connect_offsets`; `sink.rs` calls them. A row per sink, topic and
//! partition holds `epoch`, which every claim raises, and `next_offset`. A batch moves
//! `next_offset` from its start to its end in the transaction of its rows, and only where the epoch
//! is ours: whoever was overtaken changes no row.
//!
//! 1. [`Claimant::claim`] when a task opens: takes each row's lock in sorted order, so it waits for
//!    a transaction of the earlier owner, raises the epoch and reads the truth;
//! 2. [`Claimant::advance`] first in each transaction;
//! 3. [`Claimant::read_again`] after a lost connection: is it still ours, and did the unanswered
//!    COMMIT take place? The epoch is not raised there: a COMMIT is sent only after `advance` was
//!    answered, so a transaction that could still commit holds the row's lock, and the read waits
//!    for it. (Were it raised and that answer lost too, we would fence ourselves.)

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_connect::error::TaskError;
use flumen_connect::record::{SinkBatch, TopicId, TopicPartition};
use flumen_connect::sink::AssignedPartition;
use tokio_postgres::{Client, Error, Row};

use crate::catalogue;
use crate::failure::{message, task_error};
use crate::options::Options;
use crate::session::{self, Session};
use crate::table::table_name;

/// After so long a claim looks who stands in its way.
const PATIENCE: Duration = Duration::from_millis(500);
/// The epoch of a new row: microseconds since 1970. So a row that was deleted by hand and made
/// again is above all that its earlier owners hold.
const FIRST_EPOCH: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// What we hold of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) epoch: i64,
    pub(crate) next_offset: i64,
}

/// Our claims, by partition.
pub(crate) type Claims = BTreeMap<TopicPartition, Claim>;

/// Who claims what where.
#[derive(Debug, Clone)]
pub(crate) struct Claimant {
    /// The connector.
    pub(crate) sink: String,
    /// Worker and process, for whoever is fenced.
    owner: String,
    /// The offsets table, quoted.
    table: String,
}

impl Claimant {
    pub(crate) fn new(options: &Options, sink: &str, owner: &str) -> Claimant {
        Claimant {
            sink: sink.to_owned(),
            owner: owner.to_owned(),
            table: table_name(&options.offsets_table, ""),
        }
    }

    /// Makes the offsets table where it is missing.
    pub(crate) async fn create_table(&self, client: &Client) -> Result<(), TaskError> {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} (sink text NOT NULL, topic text NOT NULL, topic_id uuid, part int NOT NULL, epoch bigint NOT NULL, \
             next_offset bigint NOT NULL, owner text, updated timestamptz, PRIMARY KEY (sink, topic, part))",
            self.table
        );
        catalogue::create(client, &self.table, &sql).await
    }

    /// Claims the partitions. An owner that stopped inside its transaction is ended: it would only
    /// be waited for, and will be fenced anyway.
    ///
    /// # Errors
    /// [`TaskError::Fatal`]: the table contradicts the topic; nothing is claimed then.
    /// [`TaskError::Retry`]: claim again, from the start.
    pub(crate) async fn claim(
        &self,
        options: &Options,
        session: &Session,
        partitions: &[AssignedPartition],
    ) -> Result<Claims, TaskError> {
        let claim = self.claim_rows(&session.client, partitions);
        self.impatient(options, session, claim).await
    }

    /// Waits for `work`; whatever of this sink blocks it is ended now and then.
    async fn impatient<T>(
        &self,
        options: &Options,
        session: &Session,
        work: impl Future<Output = Result<T, TaskError>>,
    ) -> Result<T, TaskError> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = session::sleep(PATIENCE) => self.end_blockers(options, session.pid).await,
            }
        }
    }

    async fn claim_rows(
        &self,
        client: &Client,
        partitions: &[AssignedPartition],
    ) -> Result<Claims, TaskError> {
        let doing = |e: &Error| task_error(&format!("claiming partitions in {}", self.table), e);
        let mut sorted: Vec<&AssignedPartition> = partitions.iter().collect();
        sorted.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
        let sql = format!(
            "INSERT INTO {0} AS o (sink, topic, topic_id, part, epoch, next_offset, owner, updated) \
             VALUES ($1, $2, $3::text::uuid, $4, {FIRST_EPOCH}, $5, $6, now()) \
             ON CONFLICT (sink, topic, part) DO UPDATE SET epoch = o.epoch + 1, owner = $6, updated = now(), \
             topic_id = coalesce(o.topic_id, EXCLUDED.topic_id) RETURNING epoch, next_offset, topic_id::text",
            self.table
        );
        let claimed = async {
            client.batch_execute("BEGIN").await.map_err(|e| doing(&e))?;
            let statement = client.prepare(&sql).await.map_err(|e| doing(&e))?;
            let mut claims = Claims::new();
            for partition in sorted {
                let of = &partition.topic_partition;
                let topic_id = partition.topic_id.map(uuid);
                let start = partition.group_offset.unwrap_or(partition.log_start_offset);
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] = [
                    &self.sink,
                    &of.topic,
                    &topic_id,
                    &of.partition,
                    &start,
                    &self.owner,
                ];
                let row = client.query_one(&statement, &parameters).await;
                let row = row.map_err(|e| doing(&e))?;
                let claim = Claim {
                    epoch: row.get(0),
                    next_offset: row.get(1),
                };
                let stored: Option<String> = row.get(2);
                check(partition, claim, stored.as_deref(), topic_id.as_deref())
                    .map_err(TaskError::fatal)?;
                let _ = claims.insert(of.clone(), claim);
            }
            client
                .batch_execute("COMMIT")
                .await
                .map_err(|e| doing(&e))?;
            Ok(claims)
        };
        let claimed = claimed.await;
        if claimed.is_err() {
            let _ = client.batch_execute("ROLLBACK").await;
        }
        claimed
    }

    /// Ends connections of this sink that hold locks which `pid` waits for.
    async fn end_blockers(&self, options: &Options, pid: i32) {
        let sql = "SELECT a.pid, pg_terminate_backend(a.pid) FROM unnest(pg_blocking_pids($1)) AS b(pid) \
                   JOIN pg_stat_activity a ON a.pid = b.pid WHERE a.application_name = $2";
        let name = session::application_name(&self.sink);
        let ended = async {
            let other = Session::connect(options, "fencing").await;
            let other = other.map_err(|e| e.to_string())?;
            let rows = other.client.query(sql, &[&pid, &name]).await;
            rows.map_err(|e| message(&e))
        };
        let sink = &self.sink;
        match ended.await {
            Ok(rows) => rows.iter().for_each(|row| {
                let pid: i32 = row.get(0);
                tracing::warn!(
                    "sink {sink}: ended connection {pid} of an earlier owner that held our partitions"
                );
            }),
            Err(why) => {
                tracing::debug!("sink {sink}: cannot end the connection of an earlier owner: {why}");
            }
        }
    }

    /// After a lost connection: the claims as they are now, if they are still ours.
    ///
    /// # Errors
    /// [`TaskError::Fenced`]: somebody else claimed. [`TaskError::Fatal`]: a row is gone.
    pub(crate) async fn read_again(
        &self,
        options: &Options,
        session: &Session,
        claims: &Claims,
    ) -> Result<Claims, TaskError> {
        let sql = format!("{} ORDER BY topic, part FOR UPDATE", self.select());
        let (topics, parts) = (topics(claims), parts(claims));
        let read = async {
            let rows = session
                .client
                .query(&sql, &[&self.sink, &topics, &parts])
                .await;
            rows.map_err(|e| task_error(&format!("reading {}", self.table), &e))
        };
        let rows = self.impatient(options, session, read).await?;
        self.compare(claims, &rows)
    }

    /// Moves the offsets of `batches`, in the open transaction: takes the row locks before any
    /// work, and fences.
    ///
    /// # Errors
    /// [`TaskError::Fenced`], naming who claimed; [`TaskError::Fatal`] when the batches do not
    /// begin where the table stands.
    pub(crate) async fn advance(
        &self,
        client: &Client,
        claims: &Claims,
        batches: &[SinkBatch],
    ) -> Result<(), TaskError> {
        let doing = |e: &Error| task_error(&format!("moving offsets in {}", self.table), e);
        let sql = format!(
            "UPDATE {} o SET next_offset = u.next, updated = now() FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[]) \
             AS u(topic, part, start, next, epoch) WHERE o.sink = $1 AND o.topic = u.topic AND o.part = u.part AND o.epoch = u.epoch AND o.next_offset = u.start",
            self.table
        );
        let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for batch in batches {
            let of = &batch.topic_partition;
            let claim = claims
                .get(of)
                .ok_or_else(|| TaskError::fatal(format!("partition {of} was never claimed")))?;
            if claim.next_offset != batch.start_offset {
                return Err(TaskError::fatal(format!(
                    "partition {of}: offset {} comes next, the batch begins at {}",
                    claim.next_offset, batch.start_offset
                )));
            }
            columns.0.push(of.topic.as_str());
            columns.1.push(of.partition);
            columns.2.push(batch.start_offset);
            columns.3.push(batch.next_offset);
            columns.4.push(claim.epoch);
        }
        let (topics, parts, starts, nexts, epochs) = columns;
        let moved = client
            .execute(
                &sql,
                &[&self.sink, &topics, &parts, &starts, &nexts, &epochs],
            )
            .await;
        if moved.map_err(|e| doing(&e))? == batches.len() as u64 {
            return Ok(());
        }
        let ours = claims
            .iter()
            .filter(|(of, _)| batches.iter().any(|b| b.topic_partition == **of));
        let ours: Claims = ours.map(|(of, claim)| (of.clone(), *claim)).collect();
        let (topics, parts) = (self::topics(&ours), self::parts(&ours));
        let rows = client
            .query(&self.select(), &[&self.sink, &topics, &parts])
            .await;
        let found = self.compare(&ours, &rows.map_err(|e| doing(&e))?)?;
        let moved = found
            .iter()
            .find(|(of, claim)| ours.get(*of) != Some(*claim));
        Err(TaskError::fatal(match moved {
            Some((of, claim)) => format!(
                "partition {of}: {} says that {} comes next, we were at {}: somebody changed it",
                self.table, claim.next_offset, ours[of].next_offset
            ),
            None => format!("{} counts rows that are not there", self.table),
        }))
    }

    fn select(&self) -> String {
        format!(
            "SELECT topic, part, epoch, next_offset, owner, updated::text FROM {} \
             WHERE sink = $1 AND (topic, part) IN (SELECT * FROM unnest($2::text[], $3::int[]))",
            self.table
        )
    }

    /// The rows as claims, unless somebody else has one of them.
    fn compare(&self, claims: &Claims, rows: &[Row]) -> Result<Claims, TaskError> {
        let mut found = Claims::new();
        for row in rows {
            let of = TopicPartition::new(row.get::<_, String>(0), row.get(1));
            let claim = Claim {
                epoch: row.get(2),
                next_offset: row.get(3),
            };
            if claims
                .get(&of)
                .is_some_and(|ours| ours.epoch != claim.epoch)
            {
                let owner: Option<String> = row.get(4);
                let since: Option<String> = row.get(5);
                return Err(TaskError::Fenced(format!(
                    "partition {of} of sink {} is owned by {} since {}",
                    self.sink,
                    owner.unwrap_or_default(),
                    since.unwrap_or_default()
                )));
            }
            let _ = found.insert(of, claim);
        }
        match claims.keys().find(|of| !found.contains_key(of)) {
            None => Ok(found),
            Some(of) => Err(TaskError::fatal(format!(
                "partition {of}: its row in {} is gone: somebody deleted it while the connector ran",
                self.table
            ))),
        }
    }

    /// Sets offsets from outside, for a stopped connector: `None` forgets the partition, so that it
    /// begins anew. Fences whoever may still run: a row that is set gets a higher epoch, one that
    /// is made again too.
    pub(crate) async fn alter(
        &self,
        client: &Client,
        offsets: &BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<(), Error> {
        let set = format!(
            "INSERT INTO {0} AS o (sink, topic, part, epoch, next_offset, owner, updated) VALUES ($1, $2, $3, {FIRST_EPOCH}, $4, $5, now()) \
             ON CONFLICT (sink, topic, part) DO UPDATE SET epoch = o.epoch + 1, next_offset = $4, topic_id = NULL, owner = $5, updated = now()",
            self.table
        );
        let forget = format!(
            "DELETE FROM {} WHERE sink = $1 AND topic = $2 AND part = $3",
            self.table
        );
        client.batch_execute("BEGIN").await?;
        for (of, offset) in offsets {
            let (topic, part) = (&of.topic, &of.partition);
            let _ = match offset {
                Some(offset) => {
                    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                        [&self.sink, topic, part, offset, &self.owner];
                    client.execute(&set, &parameters).await?
                }
                None => client.execute(&forget, &[&self.sink, topic, part]).await?,
            };
        }
        client.batch_execute("COMMIT").await
    }
}

fn topics(claims: &Claims) -> Vec<&str> {
    claims.keys().map(|of| of.topic.as_str()).collect()
}

fn parts(claims: &Claims) -> Vec<i32> {
    claims.keys().map(|of| of.partition).collect()
}

/// Whether what the target says can be true of the topic as it is.
fn check(
    partition: &AssignedPartition,
    claim: Claim,
    stored: Option<&str>,
    now: Option<&str>,
) -> Result<(), String> {
    let name = &partition.topic_partition;
    if let (Some(stored), Some(now)) = (stored, now)
        && stored != now
    {
        return Err(format!(
            "partition {name}: the topic was deleted and made again (id {stored}, now {now}); the table holds the old one's rows. Delete the connector's offsets to begin anew"
        ));
    }
    if claim.next_offset > partition.log_end_offset {
        return Err(format!(
            "partition {name}: the table holds rows up to offset {}, the topic ends at {}: it lost records or is another cluster's. Alter the connector's offsets to go on",
            claim.next_offset, partition.log_end_offset
        ));
    }
    Ok(())
}

/// A topic's id as Postgres prints a uuid.
fn uuid(id: TopicId) -> String {
    let hex: String = id.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_contradicts_the_topic_stops_the_task() {
        let partition = AssignedPartition {
            topic_partition: TopicPartition::new("flights", 3),
            topic_id: Some(TopicId([7; 16])),
            log_start_offset: 0,
            log_end_offset: 10,
            group_offset: None,
        };
        let at = |next_offset| Claim {
            epoch: 1,
            next_offset,
        };
        let id = uuid(TopicId([7; 16]));
        assert_eq!(id, "07070707-0707-0707-0707-070707070707");
        assert_eq!(check(&partition, at(10), Some(&id), Some(&id)), Ok(()));
        assert_eq!(check(&partition, at(0), None, Some(&id)), Ok(()));
        let beyond = check(&partition, at(11), Some(&id), Some(&id)).unwrap_err();
        assert!(
            beyond.contains("flights-3") && beyond.contains("ends at 10"),
            "{beyond}"
        );
        let other = check(&partition, at(1), Some("00"), Some(&id)).unwrap_err();
        assert!(other.contains("deleted and made again"), "{other}");
    }
}
