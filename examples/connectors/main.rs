//! The workloads of the comparison with Kafka Connect: a file into a topic, a topic into PostgreSQL. One worker, one task, exactly-once.
//!
//! ```text
//! cargo build --release -p flumen && cargo run --release -p flumen-examples --bin connectors -- --bootstrap localhost:9092
//!     [--tests file-source,sink-insert,sink-upsert] [--lines 3000000] [--line-bytes 200] [--rows 500000] [--rounds 1]
//! ```
//! `file-source` reads lines into a topic of one partition. `sink-insert` writes rows of five columns, JSON with its schema (about 530 bytes a
//! record), into a table it makes, with a primary key; `sink-upsert` the same with every id twice. PostgreSQL is a private cluster, made for the
//! run, with fsync on. The worker is the binary `flumen` beside this program.
//!
//! One line of TSV per test: rates and the worker's CPU count from the first progress seen to the last row; what came out is compared with what
//! went in.
#![allow(
    clippy::disallowed_methods,
    reason = "a program is the driver of its libraries"
)]

mod input;
#[path = "../../streams/examples/flow/measure.rs"]
mod measure;
#[path = "../flights/postgres.rs"]
mod postgres;
mod worker;

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use flumen::client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, Isolation, OffsetSpec, Poll,
    TopicPartition,
};

use postgres::PrivatePostgres;
use worker::{Worker, cpu_of_family};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Connect against any Kafka-compatible cluster, measured.
#[derive(Debug, Parser)]
struct Options {
    /// Addresses of brokers
    #[arg(long)]
    bootstrap: String,
    /// What to measure
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "file-source,sink-insert,sink-upsert"
    )]
    tests: Vec<String>,
    /// Lines of the file
    #[arg(long, default_value_t = 3_000_000)]
    lines: u64,
    /// Bytes of a line, without its end
    #[arg(long, default_value_t = 200)]
    line_bytes: usize,
    /// Rows of the topic
    #[arg(long, default_value_t = 500_000)]
    rows: u64,
    /// How often each test runs
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// The worker's binary; by default the one beside this program
    #[arg(long)]
    flumen: Option<PathBuf>,
}

/// What all tests share.
struct Bench {
    options: Options,
    flumen: PathBuf,
    client: Client,
    folder: tempfile::TempDir,
    postgres: Option<PrivatePostgres>,
    brokers: Vec<String>,
    runs: u32,
}

/// A test at work, from the start of its worker.
struct Run {
    worker: Worker,
    began: Instant,
    broker: Option<f64>,
    postgres: Option<f64>,
}

/// Progress when it was first seen: when, how many, and the worker's CPU by then.
#[derive(Clone, Copy)]
struct First {
    at: Instant,
    count: u64,
    cpu: f64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let beside = std::env::current_exe()?.with_file_name("flumen");
    let mut bench = Bench {
        flumen: options.flumen.clone().unwrap_or(beside),
        client: Client::connect(ClientConfig::new(&options.bootstrap)).await?,
        folder: tempfile::tempdir()?,
        postgres: None,
        brokers: measure::listening(&options.bootstrap),
        runs: 0,
        options,
    };
    println!(
        "test\trows\trows_per_s\tMB_per_s\ts_start_to_done\tworker_start_cpu_s\tworker_cpu_s_per_M\tpostgres_cpu_s_per_M\tbroker_cpu_s_per_M\tworker_peak_rss_MB"
    );
    for _ in 0..bench.options.rounds {
        for test in bench.options.tests.clone() {
            bench.runs += 1;
            match test.as_str() {
                "file-source" => bench.file_source().await?,
                "sink-insert" => bench.sink("insert").await?,
                "sink-upsert" => bench.sink("upsert").await?,
                other => return Err(format!("there is no test {other}").into()),
            }
        }
    }
    Ok(())
}

impl Bench {
    fn name(&self, of: &str) -> String {
        format!("connectors-{of}-{}-{}", std::process::id(), self.runs)
    }

    async fn file_source(&mut self) -> Result<(), Failure> {
        let (lines, line_bytes) = (self.options.lines, self.options.line_bytes);
        let path = self.folder.path().join("lines.txt");
        if !path.exists() {
            eprintln!("writing {lines} lines");
            input::write_lines(&path, lines, line_bytes)?;
        }
        let topic = self.name("lines");
        input::create_topic(&self.client, &topic).await?;
        let strings = "org.apache.kafka.connect.storage.StringConverter";
        let run = self.start(&[
            ("name", self.name("source")),
            (
                "connector.class",
                "org.apache.kafka.connect.file.FileStreamSourceConnector".to_owned(),
            ),
            ("file", path.to_string_lossy().into_owned()),
            ("topic", topic.clone()),
            ("value.converter", strings.to_owned()),
        ])?;
        let (admin, partition) = (Admin::new(&self.client), TopicPartition::new(&topic, 0));
        // Markers of transactions have offsets too: few, and counted out below.
        let end = || async {
            let end = OffsetSpec::Latest(Isolation::ReadCommitted);
            let ends = admin
                .list_offsets(std::slice::from_ref(&partition), end)
                .await?;
            Ok(ends
                .values()
                .map(|end| u64::try_from(end.offset).unwrap_or(0))
                .sum())
        };
        let bytes = lines * line_bytes as u64;
        self.finish("file-source", run, (lines, bytes), end).await?;
        let found = self.count(&topic, lines).await?;
        if found != lines {
            return Err(format!("{found} records are in the topic, not {lines}").into());
        }
        Ok(admin.delete_topics(&[&topic]).await.map(drop)?)
    }

    /// Records that a reader of committed ones finds.
    async fn count(&self, topic: &str, expected: u64) -> Result<u64, Failure> {
        let consumer = Consumer::new(&self.client, ConsumerConfig::default()).await?;
        consumer.assign(vec![TopicPartition::new(topic, 0)]).await?;
        let (mut found, mut idle) = (0, 0);
        while idle < 10 {
            match consumer.poll_batches(Duration::from_millis(200)).await? {
                Poll::Records(pieces) => {
                    found += pieces
                        .iter()
                        .map(|piece| piece.record_count() as u64)
                        .sum::<u64>()
                }
                _ if found >= expected => idle = 10,
                _ => idle += 1,
            }
        }
        Ok(found)
    }

    async fn sink(&mut self, mode: &str) -> Result<(), Failure> {
        let rows = self.options.rows;
        let ids = if mode == "insert" { rows } else { rows / 2 };
        let topic = self.name("rows");
        eprintln!("loading {rows} rows");
        let bytes = input::load_rows(&self.client, &topic, rows, ids).await?;
        if self.postgres.is_none() {
            self.postgres = PrivatePostgres::start(self.folder.path(), false).await?;
        }
        let postgres = self
            .postgres
            .as_ref()
            .ok_or("no PostgreSQL server: apt-get install postgresql")?;
        let database = postgres.connect().await?;
        database
            .batch_execute("DROP TABLE IF EXISTS rows, _connect_offsets")
            .await?;
        let connector = self.name("sink");
        let url = format!(
            "postgres://postgres@127.0.0.1:{}/postgres",
            self.postgres.as_ref().map_or(0, |postgres| postgres.port)
        );
        let run = self.start(&[
            ("name", connector),
            (
                "connector.class",
                "flumen.connect.postgres.PostgresSinkConnector".to_owned(),
            ),
            ("topics", topic.clone()),
            ("connection.url", url),
            ("insert.mode", mode.to_owned()),
            ("pk.mode", "record_value".to_owned()),
            ("pk.fields", "id".to_owned()),
            ("auto.create", "true".to_owned()),
            ("table.name.format", "rows".to_owned()),
            (
                "value.converter",
                "org.apache.kafka.connect.json.JsonConverter".to_owned(),
            ),
            ("value.converter.schemas.enable", "true".to_owned()),
        ])?;
        // The sink's own offset moves with its rows. No table yet: nothing is written yet.
        let next = || async {
            let sql = "SELECT next_offset FROM _connect_offsets";
            let row = database.query_opt(sql, &[]).await.ok().flatten();
            Ok(row.map_or(0, |row| u64::try_from(row.get::<_, i64>(0)).unwrap_or(0)))
        };
        self.finish(&format!("sink-{mode}"), run, (rows, bytes), next)
            .await?;
        let sql = "SELECT count(*), count(distinct id) FROM rows";
        let counted = database.query_one(sql, &[]).await?;
        let counted: (i64, i64) = (counted.get(0), counted.get(1));
        let expected = i64::try_from(ids)?;
        if counted != (expected, expected) {
            return Err(format!("{counted:?} rows and ids are in the table, not {ids}").into());
        }
        let deleted = Admin::new(&self.client).delete_topics(&[&topic]).await;
        Ok(deleted.map(drop)?)
    }

    fn start(&self, connector: &[(&str, String)]) -> Result<Run, Failure> {
        let broker = measure::cpu_of_all(&self.brokers)?;
        let postgres = self.postgres_cpu()?;
        let began = measure::now();
        let group = self.name("group");
        let worker = Worker::start(
            &self.flumen,
            (&self.options.bootstrap, &group),
            self.folder.path(),
            connector,
        )?;
        Ok(Run {
            worker,
            began,
            broker,
            postgres,
        })
    }

    fn postgres_cpu(&self) -> Result<Option<f64>, Failure> {
        let port = self.postgres.as_ref().map(|postgres| postgres.port);
        let server = port.and_then(|port| measure::listening(&format!(":{port}")).pop());
        server.map(|server| cpu_of_family(&server)).transpose()
    }

    /// Waits until `now` says that all of `rows` are there, and prints the line.
    async fn finish<F: Future<Output = Result<u64, Failure>>>(
        &self,
        test: &str,
        mut run: Run,
        (rows, bytes): (u64, u64),
        now: impl Fn() -> F,
    ) -> Result<(), Failure> {
        let mut first: Option<First> = None;
        let (last, count) = loop {
            let (count, at) = (now().await?, measure::now());
            if count > 0 && first.is_none() {
                let cpu = run.worker.cpu()?;
                first = Some(First { at, count, cpu });
            }
            if count >= rows {
                break (at, count);
            }
            run.worker.check()?;
            if at - run.began > Duration::from_secs(300) {
                return Err(run
                    .worker
                    .complaint(&format!("{count} of {rows} after 300 s")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let first = first.ok_or("no rows were asked for")?;
        let moved = (count - first.count) as f64;
        let rate = moved / (last - first.at).as_secs_f64().max(1e-9);
        let millions = rows as f64 / 1e6;
        let per_million = |before: Option<f64>, after: Option<f64>| match (before, after) {
            (Some(before), Some(after)) => format!("{:.2}", (after - before) / millions),
            _ => "-".to_owned(),
        };
        println!(
            "{test}\t{rows}\t{rate:.0}\t{:.1}\t{:.2}\t{:.2}\t{:.2}\t{}\t{}\t{:.0}",
            rate * bytes as f64 / rows as f64 / 1e6,
            (last - run.began).as_secs_f64(),
            first.cpu,
            (run.worker.cpu()? - first.cpu) / moved * 1e6,
            per_million(run.postgres, self.postgres_cpu()?),
            per_million(run.broker, measure::cpu_of_all(&self.brokers)?),
            run.worker.peak_memory_mb()?,
        );
        Ok(())
    }
}
