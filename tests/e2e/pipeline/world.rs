//! The pipeline: its input, its processes, and what has to be true of it at the end.
//!
//! Owns [`World`]. The tests beside it decide who dies when. Nothing here knows how exactly-once is done: input lines and output rows are compared,
//! and the positions that the parts keep with each other's ends.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flumen_client::{Admin, Client, ClientConfig, Isolation, NewTopic, OffsetSpec, TopicPartition};

use super::application::{APPLICATION, Application, Entry, FOR_EVER, Recomputed, Total};
use crate::postgres::Postgres;
use crate::random::Random;
use crate::server::{PATIENCE, Server};
use crate::until;
use crate::worker::Worker;

const PARTITIONS: i32 = 3;
const ACCOUNTS: usize = 20;
/// The connectors: one source, two sinks.
pub(crate) const SOURCE: &str = "entries";
pub(crate) const SINKS: [&str; 2] = ["totals-table", "totals-file"];

/// The file that grows, and what has to come of it.
#[derive(Debug)]
pub(crate) struct Input {
    path: PathBuf,
    file: std::fs::File,
    /// The end of a line whose beginning is written.
    torn: Vec<u8>,
    lines: i64,
    expected: Recomputed,
}

impl Input {
    fn new(path: PathBuf) -> Input {
        let mut file = std::fs::File::create(&path).expect("a file");
        file.write_all(b"seq,account,amount\n").expect("a header");
        Input {
            path,
            file,
            torn: Vec::new(),
            lines: 0,
            expected: Recomputed::default(),
        }
    }

    /// Appends lines; the last one only in part, until the next call.
    pub(crate) fn write(&mut self, random: &mut Random, lines: usize) {
        let mut text = std::mem::take(&mut self.torn);
        for _ in 0..lines {
            self.lines += 1;
            let entry = Entry {
                seq: self.lines,
                account: format!("a{}", random.below(ACCOUNTS)),
                amount: random.below(1000) as i64 - 300,
            };
            text.extend(format!("{},{},{}\n", entry.seq, entry.account, entry.amount).bytes());
            self.expected.add(&entry);
        }
        self.torn = text.split_off(text.len() - random.below(4));
        self.file.write_all(&text).expect("appended");
    }

    /// Completes the last line.
    fn finish(&mut self) {
        let rest = std::mem::take(&mut self.torn);
        self.file.write_all(&rest).expect("appended");
    }

    fn length(&self) -> u64 {
        self.path.metadata().expect("a file").len()
    }
}

/// How long things may take before somebody gives them up, and how much fits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    /// Of the broker, with an open transaction of the application or of the source.
    pub(crate) transaction: Duration,
    /// Of the source, with a batch that is not acknowledged.
    pub(crate) delivery: Duration,
    /// `max.message.bytes` of the topics.
    pub(crate) batch_bytes: usize,
}

/// Nobody gives up anything while a test runs.
pub(crate) const PATIENT: Conditions = Conditions {
    transaction: FOR_EVER,
    delivery: FOR_EVER,
    batch_bytes: 1 << 20,
};

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct World {
    test: &'static str,
    conditions: Conditions,
    pub(crate) worker: Worker,
    pub(crate) application: Application,
    pub(crate) postgres: Postgres,
    pub(crate) server: Server,
    pub(crate) input: Input,
    output: PathBuf,
    pub(crate) folder: tempfile::TempDir,
    rows: Option<tokio_postgres::Client>,
}

impl World {
    /// Starts all parts; `None` where PostgreSQL is missing. `test` is the full name of the test.
    pub(crate) async fn start(test: &'static str, conditions: Conditions) -> Option<World> {
        let postgres = Postgres::start()?;
        let client = postgres.client().await;
        let table = "CREATE TABLE totals (account text, seq bigint, total bigint)";
        client.batch_execute(table).await.expect("a table");
        let server = Server::with(&[
            "log.segment.bytes=1048576",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms=200",
        ]);
        let address = server.address();
        let mut topics = ["entries", "totals"].map(|topic| NewTopic::new(topic, PARTITIONS));
        let batch_bytes = conditions.batch_bytes.to_string();
        topics = topics.map(|topic| topic.config("max.message.bytes", batch_bytes.clone()));
        let admin = Admin::new(&connect(&address).await);
        admin.ensure_topics(&topics).await.expect("topics");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let input = Input::new(folder.path().join("entries.csv"));
        let output = folder.path().join("totals.jsonl");
        let files = [input.path.as_path(), output.as_path()];
        let connectors = connectors(folder.path(), files, &postgres.url(), conditions);
        let log = folder.path().join("worker.log");
        let state = folder.path().join("state");
        Some(World {
            test,
            conditions,
            worker: Worker::start(&address, &connectors, &log),
            application: Application::start(test, &address, &state, conditions.transaction),
            postgres,
            server,
            input,
            output,
            folder,
            rows: Some(client),
        })
    }

    /// Another worker of the same group, which runs what the group's topics say.
    pub(crate) fn another_worker(&self, log: &str) -> Worker {
        let log = self.folder.path().join(log);
        Worker::start(&self.server.address(), &[], &log)
    }

    /// Another process of the application with its state in `folder`.
    pub(crate) fn another_application(&self, folder: &str) -> Application {
        let folder = self.folder.path().join(folder);
        let address = self.server.address();
        Application::start(self.test, &address, &folder, self.conditions.transaction)
    }

    /// Whether a transaction is open whose transactional id begins so.
    pub(crate) async fn has_open_transaction(&self, of: &str) -> bool {
        let admin = Admin::new(&connect(&self.server.address()).await);
        let open = admin.list_transactions(&["Ongoing"]).await;
        let mut open = open.expect("the broker answers").into_iter();
        open.any(|transaction| transaction.transactional_id.starts_with(of))
    }

    /// Rows in the sink's table so far; 0 while the database is away.
    pub(crate) async fn table_rows(&mut self) -> usize {
        if self
            .rows
            .as_ref()
            .is_none_or(tokio_postgres::Client::is_closed)
        {
            self.rows = Some(self.postgres.client().await);
        }
        let client = self.rows.as_ref().expect("just made");
        let counted = client.query_one("SELECT count(*) FROM totals", &[]).await;
        let counted = counted.map(|row| row.get::<_, i64>(0));
        counted.map_or(0, |rows| usize::try_from(rows).expect("not negative"))
    }

    /// Lines in the sink's file so far, committed or not.
    pub(crate) fn file_rows(&self) -> usize {
        let text = std::fs::read(&self.output).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count()
    }

    /// How many rows every sink has to have for what was written so far, but for a torn last line.
    pub(crate) fn due(&self) -> usize {
        self.input.expected.rows.len() - usize::from(!self.input.torn.is_empty())
    }

    /// Waits until both sinks have all rows of what was written so far.
    pub(crate) async fn drained(&mut self) {
        let due = self.due();
        let deadline = Instant::now() + PATIENCE * 2;
        loop {
            let found = (self.table_rows().await, self.file_rows());
            if found.0 >= due && found.1 >= due {
                return;
            }
            self.all_alive();
            assert!(Instant::now() < deadline, "{found:?} of {due} rows arrived");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Nothing has ended by itself.
    pub(crate) fn all_alive(&mut self) {
        assert!(self.server.is_alive(), "the broker has ended");
        assert!(!self.worker.has_ended(), "the worker has ended");
        assert!(!self.application.has_ended(), "the application has ended");
    }

    /// Lets everything arrive, compares all positions, ends the processes, and compares every row.
    pub(crate) async fn outcome_is_exact(mut self) {
        self.input.finish();
        self.drained().await;
        self.positions_agree().await;
        assert_eq!(self.worker.stop(), Some(0), "{}", self.worker.log());
        self.application.kill();
        let mut expected = std::mem::take(&mut self.input.expected.rows);
        expected.sort();
        let text = std::fs::read_to_string(&self.output).expect("the sink's file");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a row"));
        same_rows("file", lines.collect(), &expected);
        let client = self.postgres.client().await;
        let rows = client
            .query("SELECT account, seq, total FROM totals", &[])
            .await;
        let row = |row: tokio_postgres::Row| Total {
            account: row.get(0),
            seq: row.get(1),
            total: row.get(2),
        };
        let rows = rows.expect("the sink's table").into_iter().map(row);
        same_rows("table", rows.collect(), &expected);
    }

    /// Every part is where the one before it ends, and no transaction is open anywhere.
    async fn positions_agree(&self) {
        let admin = Admin::new(&connect(&self.server.address()).await);
        let all: Vec<TopicPartition> = admin
            .list_topics()
            .await
            .expect("topics")
            .iter()
            .flat_map(|topic| {
                let of = |p: &flumen_client::PartitionDescription| {
                    TopicPartition::new(&topic.name, p.partition)
                };
                topic.partitions.iter().map(of).collect::<Vec<_>>()
            })
            .collect();
        until("every topic is stable to its end", async || {
            let ends = ends(&admin, &all, Isolation::ReadUncommitted).await;
            let stable = ends_differ(&ends, &ends_of(&admin, &all).await);
            stable.map_or(Ok(()), Err)
        })
        .await;
        for sink in SINKS {
            let group = format!("connect-{sink}");
            until("a sink's group is at the end of its topic", async || {
                group_is_at_the_end(&admin, &group, "totals").await
            })
            .await;
        }
        until("the application is at the end of its input", async || {
            group_is_at_the_end(&admin, APPLICATION, "entries").await
        })
        .await;
        until("the source is at the end of its file", async || {
            let offsets = self.worker.get(&format!("/connectors/{SOURCE}/offsets"));
            let offsets = offsets.ok_or("no answer")?;
            let position = offsets["offsets"][0]["offset"]["position"].as_u64();
            let length = self.input.length();
            (position == Some(length))
                .then_some(())
                .ok_or(format!("{offsets}, the file has {length} bytes"))
        })
        .await;
        until(
            "every connector is there, and all its tasks run",
            async || {
                for connector in [SOURCE].into_iter().chain(SINKS) {
                    let tasks = self.worker.tasks(connector);
                    if tasks != ["RUNNING"] {
                        return Err(format!("{connector}: {tasks:?}"));
                    }
                }
                Ok(())
            },
        )
        .await;
    }
}

async fn connect(address: &str) -> Client {
    let client = Client::connect(ClientConfig::new(address)).await;
    client.expect("the broker answers")
}

async fn ends(
    admin: &Admin,
    partitions: &[TopicPartition],
    isolation: Isolation,
) -> BTreeMap<TopicPartition, i64> {
    let ends = admin
        .list_offsets(partitions, OffsetSpec::Latest(isolation))
        .await;
    let ends = ends.expect("offsets").into_iter();
    ends.map(|(partition, end)| (partition, end.offset))
        .collect()
}

async fn ends_of(admin: &Admin, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, i64> {
    ends(admin, partitions, Isolation::ReadCommitted).await
}

fn ends_differ(
    ends: &BTreeMap<TopicPartition, i64>,
    stable: &BTreeMap<TopicPartition, i64>,
) -> Option<String> {
    let open = ends.iter().find(|(of, end)| stable.get(of) < Some(end))?;
    Some(format!(
        "{} ends at {}, stable to {:?}",
        open.0,
        open.1,
        stable.get(open.0)
    ))
}

/// The group has committed the end of every partition of the topic that has records.
async fn group_is_at_the_end(admin: &Admin, group: &str, topic: &str) -> Result<(), String> {
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|p| TopicPartition::new(topic, p))
        .collect();
    let ends = ends(admin, &partitions, Isolation::ReadUncommitted).await;
    let committed = admin
        .group_offsets(group)
        .await
        .map_err(|e| e.to_string())?;
    match ends.iter().find(|(of, end)| committed.get(of) != Some(end)) {
        None => Ok(()),
        Some((of, end)) => Err(format!(
            "{of} ends at {end}, committed: {:?}",
            committed.get(of)
        )),
    }
}

/// Both are the same multiset; says which rows are missing or too many if not.
fn same_rows(sink: &str, mut found: Vec<Total>, expected: &[Total]) {
    found.sort();
    if found == expected {
        return;
    }
    let mut balance: BTreeMap<&Total, i64> = BTreeMap::new();
    expected
        .iter()
        .for_each(|row| *balance.entry(row).or_default() -= 1);
    found
        .iter()
        .for_each(|row| *balance.entry(row).or_default() += 1);
    balance.retain(|_, count| *count != 0);
    let some: Vec<_> = balance.iter().take(10).collect();
    panic!(
        "the {sink} differs from the recomputation in {} of {} rows (-1: missing): {some:?}",
        balance.len(),
        expected.len()
    );
}

/// One `.properties` file per connector.
fn connectors(
    folder: &Path,
    [input, output]: [&Path; 2],
    postgres: &str,
    conditions: Conditions,
) -> Vec<PathBuf> {
    let string = "org.apache.kafka.connect.storage.StringConverter";
    let source = format!(
        "name={SOURCE}\nconnector.class=FileStreamSource\nfile={}\nmode=tail\nformat=csv\n\
         csv.columns=seq:int64,account:string,amount:int64\nkey.field=account\ntopic=entries\n\
         poll.interval.ms=20\nkey.converter={string}\n\
         producer.override.transaction.timeout.ms={}\nproducer.override.delivery.timeout.ms={}\n",
        input.display(),
        conditions.transaction.as_millis(),
        conditions.delivery.as_millis()
    );
    let sink = |name: &str| {
        format!(
            "name={name}\ntopics=totals\nkey.converter={string}\nerrors.retry.delay.max.ms=1000\n"
        )
    };
    let table = format!(
        "{}connector.class=PostgresSink\nconnection.url={postgres}\ntable.name.format=totals\n\
         insert.mode=insert\npk.mode=none\nauto.create=false\n",
        sink(SINKS[0])
    );
    let file = format!(
        "{}connector.class=FileStreamSink\nfile={}\n",
        sink(SINKS[1]),
        output.display()
    );
    let write = |(name, text): (&str, String)| {
        let path = folder.join(format!("{name}.properties"));
        std::fs::write(&path, text).expect("written");
        path
    };
    let all = [(SOURCE, source), (SINKS[0], table), (SINKS[1], file)];
    all.into_iter().map(write).collect()
}
