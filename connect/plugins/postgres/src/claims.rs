//! Who owns which partition, and how far its rows are: one table in the target itself.
//!
//! Owns the statements on `_connect_offsets`. A row per sink, topic and partition holds `epoch` (raised by every claim) and `next_offset`. A batch moves
//! `next_offset` from its start to its end in the transaction of its rows, and only where the epoch is ours: whoever was overtaken changes no row.
//! Source: the protocol of `docs/adr` on the Postgres sink; the idea is Kafka's producer epoch, kept in the database.

use std::collections::BTreeMap;
use std::time::Duration;

use flumen_connect::error::TaskError;
use flumen_connect::record::{SinkBatch, TopicId, TopicPartition};
use flumen_connect::sink::AssignedPartition;
use tokio_postgres::Client;

use crate::options::Options;
use crate::session::{self, Session, message, task_error};
use crate::table::table_name;

/// After so long a claim looks who stands in its way.
const PATIENCE: Duration = Duration::from_millis(500);

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
    pub(crate) owner: String,
    /// The offsets table, quoted.
    pub(crate) table: String,
}

impl Claimant {
    pub(crate) fn new(options: &Options, sink: &str, owner: &str) -> Claimant {
        Claimant {
            sink: sink.to_owned(),
            owner: owner.to_owned(),
            table: table_name(&options.offsets_table, ""),
        }
    }

    /// Makes the offsets table. Two workers that do so at once collide in the catalogue: then it is there.
    pub(crate) async fn create_table(&self, client: &Client) -> Result<(), TaskError> {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} (sink text NOT NULL, topic text NOT NULL, topic_id uuid, part int NOT NULL, epoch bigint NOT NULL, \
             next_offset bigint NOT NULL, owner text, updated timestamptz, PRIMARY KEY (sink, topic, part))",
            self.table
        );
        match client.batch_execute(&sql).await {
            Err(e)
                if e.code()
                    .is_some_and(|code| ["23505", "42P07"].contains(&code.code())) =>
            {
                Ok(())
            }
            other => other.map_err(|e| task_error(&format!("making table {}", self.table), &e)),
        }
    }

    /// Claims the partitions, in sorted order: takes each row's lock, so it waits for a transaction of the earlier owner and then reads the truth. An owner
    /// that stopped inside its transaction is ended: it could not commit any more, and would only be waited for.
    pub(crate) async fn claim(
        &self,
        options: &Options,
        session: &Session,
        partitions: &[AssignedPartition],
    ) -> Result<Claims, TaskError> {
        let claim = self.claim_rows(&session.client, partitions);
        tokio::pin!(claim);
        loop {
            tokio::select! {
                biased;
                claims = &mut claim => return claims,
                () = session::sleep(PATIENCE) => self.end_blockers(options, session.pid).await,
            }
        }
    }

    async fn claim_rows(
        &self,
        client: &Client,
        partitions: &[AssignedPartition],
    ) -> Result<Claims, TaskError> {
        let doing = |e: &tokio_postgres::Error| {
            task_error(&format!("claiming partitions in {}", self.table), e)
        };
        let mut sorted: Vec<&AssignedPartition> = partitions.iter().collect();
        sorted.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
        let sql = format!(
            "INSERT INTO {0} AS o (sink, topic, topic_id, part, epoch, next_offset, owner, updated) VALUES ($1, $2, $3::text::uuid, $4, 1, $5, $6, now()) \
             ON CONFLICT (sink, topic, part) DO UPDATE SET epoch = o.epoch + 1, owner = $6, updated = now(), topic_id = coalesce(o.topic_id, EXCLUDED.topic_id) \
             RETURNING epoch, next_offset, topic_id::text",
            self.table
        );
        client.batch_execute("BEGIN").await.map_err(|e| doing(&e))?;
        let claimed = async {
            let statement = client.prepare(&sql).await.map_err(|e| doing(&e))?;
            let mut claims = Claims::new();
            for partition in sorted {
                let TopicPartition {
                    topic,
                    partition: number,
                } = &partition.topic_partition;
                let topic_id = partition.topic_id.map(uuid);
                let start = partition.group_offset.unwrap_or(partition.log_start_offset);
                let row = client
                    .query_one(
                        &statement,
                        &[&self.sink, topic, &topic_id, number, &start, &self.owner],
                    )
                    .await
                    .map_err(|e| doing(&e))?;
                let claim = Claim {
                    epoch: row.get(0),
                    next_offset: row.get(1),
                };
                let stored: Option<String> = row.get(2);
                check(partition, claim, stored.as_deref(), topic_id.as_deref())
                    .map_err(TaskError::fatal)?;
                let _ = claims.insert(partition.topic_partition.clone(), claim);
            }
            client
                .batch_execute("COMMIT")
                .await
                .map_err(|e| doing(&e))?;
            Ok(claims)
        }
        .await;
        if claimed.is_err() {
            let _ = client.batch_execute("ROLLBACK").await;
        }
        claimed
    }

    /// Ends connections of this sink's kind that hold locks the claim waits for.
    async fn end_blockers(&self, options: &Options, pid: i32) {
        let sql = "SELECT a.pid, a.application_name, pg_terminate_backend(a.pid) FROM unnest(pg_blocking_pids($1)) AS b(pid) \
                   JOIN pg_stat_activity a ON a.pid = b.pid WHERE a.application_name = $2";
        let name = session::application_name(&self.sink);
        let ended = async {
            let other = Session::connect(options, &format!("{} (fencing)", self.sink))
                .await
                .map_err(|e| e.to_string())?;
            other
                .client
                .query(sql, &[&pid, &name])
                .await
                .map_err(|e| message(&e))
        };
        match ended.await {
            Ok(rows) => rows.iter().for_each(|row| {
                tracing::warn!(
                    pid = row.get::<_, i32>(0),
                    sink = self.sink,
                    "ended the connection of an earlier owner that held our partitions"
                )
            }),
            Err(why) => tracing::warn!(
                sink = self.sink,
                "cannot end the connection of an earlier owner: {why}"
            ),
        }
    }

    /// After a lost connection: the claims again, but only those that nobody took meanwhile. Tells whether an unanswered commit took place.
    pub(crate) async fn claim_again(
        &self,
        client: &Client,
        claims: &Claims,
    ) -> Result<Claims, TaskError> {
        let sql = format!(
            "UPDATE {} SET epoch = epoch + 1, owner = $5, updated = now() WHERE sink = $1 AND topic = $2 AND part = $3 AND epoch = $4 RETURNING epoch, next_offset",
            self.table
        );
        let doing = |e: &tokio_postgres::Error| {
            task_error(&format!("claiming partitions in {} again", self.table), e)
        };
        let mut again = Claims::new();
        for (partition, claim) in claims {
            let row = client
                .query_opt(
                    &sql,
                    &[
                        &self.sink,
                        &partition.topic,
                        &partition.partition,
                        &claim.epoch,
                        &self.owner,
                    ],
                )
                .await
                .map_err(|e| doing(&e))?;
            let Some(row) = row else {
                return Err(self.fenced(client, claims).await);
            };
            let _ = again.insert(
                partition.clone(),
                Claim {
                    epoch: row.get(0),
                    next_offset: row.get(1),
                },
            );
        }
        Ok(again)
    }

    /// Moves the offsets of `batches`, in the open transaction: takes the row locks before any work, and fences.
    pub(crate) async fn advance(
        &self,
        client: &Client,
        claims: &Claims,
        batches: &[SinkBatch],
    ) -> Result<(), TaskError> {
        let sql = format!(
            "UPDATE {} o SET next_offset = u.next, updated = now() FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[]) \
             AS u(topic, part, start, next, epoch) WHERE o.sink = $1 AND o.topic = u.topic AND o.part = u.part AND o.epoch = u.epoch AND o.next_offset = u.start",
            self.table
        );
        let epochs: Option<Vec<i64>> = batches
            .iter()
            .map(|batch| claims.get(&batch.topic_partition).map(|claim| claim.epoch))
            .collect();
        let epochs = epochs
            .ok_or_else(|| TaskError::fatal("a batch of a partition that was never claimed"))?;
        let topics: Vec<&str> = batches
            .iter()
            .map(|batch| batch.topic_partition.topic.as_str())
            .collect();
        let parts: Vec<i32> = batches
            .iter()
            .map(|batch| batch.topic_partition.partition)
            .collect();
        let starts: Vec<i64> = batches.iter().map(|batch| batch.start_offset).collect();
        let nexts: Vec<i64> = batches.iter().map(|batch| batch.next_offset).collect();
        let moved = client
            .execute(
                &sql,
                &[&self.sink, &topics, &parts, &starts, &nexts, &epochs],
            )
            .await;
        let moved =
            moved.map_err(|e| task_error(&format!("moving offsets in {}", self.table), &e))?;
        if moved == batches.len() as u64 {
            Ok(())
        } else {
            Err(self.fenced(client, claims).await)
        }
    }

    /// Why fewer rows moved than there are batches: who has them now.
    async fn fenced(&self, client: &Client, claims: &Claims) -> TaskError {
        let sql = format!(
            "SELECT topic, part, epoch, next_offset, owner, updated::text FROM {} WHERE sink = $1",
            self.table
        );
        let rows = match client.query(&sql, &[&self.sink]).await {
            Ok(rows) => rows,
            Err(e) => return task_error(&format!("reading {}", self.table), &e),
        };
        for row in rows {
            let partition = TopicPartition {
                topic: row.get(0),
                partition: row.get(1),
            };
            let Some(claim) = claims.get(&partition) else {
                continue;
            };
            let (epoch, next): (i64, i64) = (row.get(2), row.get(3));
            let owner: Option<String> = row.get(4);
            if epoch != claim.epoch {
                return TaskError::Fenced(format!(
                    "partition {partition} was claimed by {} at {} (epoch {epoch}, ours was {})",
                    owner.unwrap_or_default(),
                    row.get::<_, Option<String>>(5).unwrap_or_default(),
                    claim.epoch
                ));
            }
            if next != claim.next_offset {
                return TaskError::fatal(format!(
                    "partition {partition}: {} says {next} comes next, we were at {}: somebody changed it",
                    self.table, claim.next_offset
                ));
            }
        }
        TaskError::fatal(format!(
            "rows of {} are gone: somebody deleted them while the connector ran",
            self.table
        ))
    }

    /// Sets offsets from outside, for a stopped connector: `None` forgets the partition. Fences whoever may still run.
    pub(crate) async fn alter(
        &self,
        client: &Client,
        offsets: &BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<(), tokio_postgres::Error> {
        let set = format!(
            "INSERT INTO {0} AS o (sink, topic, part, epoch, next_offset, owner, updated) VALUES ($1, $2, $3, 1, $4, $5, now()) \
             ON CONFLICT (sink, topic, part) DO UPDATE SET epoch = o.epoch + 1, next_offset = $4, owner = $5, updated = now()",
            self.table
        );
        let forget = format!(
            "DELETE FROM {} WHERE sink = $1 AND topic = $2 AND part = $3",
            self.table
        );
        for (partition, offset) in offsets {
            let TopicPartition { topic, partition } = partition;
            let _ = match offset {
                Some(offset) => {
                    client
                        .execute(&set, &[&self.sink, topic, partition, offset, &self.owner])
                        .await?
                }
                None => {
                    client
                        .execute(&forget, &[&self.sink, topic, partition])
                        .await?
                }
            };
        }
        Ok(())
    }
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
            "{name}: the topic was deleted and made again (id {stored}, now {now}); the table holds the old one's rows. Delete the connector's offsets to begin anew"
        ));
    }
    if claim.next_offset > partition.log_end_offset {
        return Err(format!(
            "{name}: the table holds rows up to offset {}, the topic ends at {}: it lost records or is another cluster's. Alter the connector's offsets to go on",
            claim.next_offset, partition.log_end_offset
        ));
    }
    Ok(())
}

/// A topic's id as Postgres prints a uuid.
fn uuid(id: TopicId) -> String {
    let hex: String = id.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
