//! A database that is slow or away, and a connector that fails for ever: the other connectors go on, memory stays bounded, the log tells it now and then.

use flumen_client::{
    Admin, Client, ClientConfig, NewTopic, Producer, ProducerConfig, ProducerRecord,
};
use std::path::{Path, PathBuf};

use crate::postgres::Postgres;
use crate::random;
use crate::server::Server;
use crate::streams::runtime;
use crate::until;
use crate::worker::Worker;

/// One broker, one database, one worker, and a topic of JSON rows that both sinks read.
struct World {
    server: Server,
    postgres: Postgres,
    producer: Producer,
    worker: Worker,
    output: PathBuf,
    written: usize,
    _folder: tempfile::TempDir,
}

impl World {
    /// `None` where PostgreSQL is missing. `more` are further connectors: name and properties.
    async fn start(more: &[(&str, String)]) -> Option<World> {
        let postgres = Postgres::start()?;
        let table = "CREATE TABLE rows (n bigint, filling text)";
        let client = postgres.client().await;
        client.batch_execute(table).await.expect("a table");
        let server = Server::start();
        let client = Client::connect(ClientConfig::new(&server.address())).await;
        let client = client.expect("the broker answers");
        let topic = NewTopic::new("rows", 3);
        let admin = Admin::new(&client);
        admin.ensure_topics(&[topic]).await.expect("a topic");
        let producer = Producer::new(&client, ProducerConfig::default()).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = folder.path().join("rows.jsonl");
        let table = sink("PostgresSink", &[("connection.url", &postgres.url())])
            + "table.name.format=rows\ninsert.mode=insert\npk.mode=none\n";
        let file = sink("FileStreamSink", &[("file", &output.display().to_string())]);
        let mut connectors = vec![("table", table), ("file", file)];
        connectors.extend(more.iter().cloned());
        let connectors: Vec<PathBuf> = connectors
            .iter()
            .map(|(name, properties)| write(folder.path(), name, properties))
            .collect();
        let log = folder.path().join("worker.log");
        Some(World {
            worker: Worker::start(&server.address(), &connectors, &log),
            server,
            postgres,
            producer: producer.expect("a producer"),
            output,
            written: 0,
            _folder: folder,
        })
    }

    /// Writes rows with `bytes` of filling each.
    async fn write(&mut self, rows: usize, bytes: usize) {
        let filling = "x".repeat(bytes);
        for _ in 0..rows {
            let row = format!("{{\"n\":{},\"filling\":\"{filling}\"}}", self.written);
            self.written += 1;
            let sent = self.producer.send(ProducerRecord::new("rows", row)).await;
            drop(sent.expect("room"));
        }
        self.producer.flush().await.expect("acknowledged");
    }

    async fn file_has_everything(&self) {
        until("the file has every row", async || {
            let text = std::fs::read(&self.output).unwrap_or_default();
            let lines = text.iter().filter(|byte| **byte == b'\n').count();
            (lines == self.written)
                .then_some(())
                .ok_or(format!("{lines} lines"))
        })
        .await;
    }

    /// Every row once.
    async fn table_has_everything(&self) {
        let client = self.postgres.client().await;
        until("the table has every row", async || {
            let counted = client.query_one("SELECT count(*), count(DISTINCT n) FROM rows", &[]);
            let row = counted.await.map_err(|e| e.to_string())?;
            let found: (i64, i64) = (row.get(0), row.get(1));
            let all = i64::try_from(self.written).expect("small");
            (found == (all, all))
                .then_some(())
                .ok_or(format!("{found:?} of {all}"))
        })
        .await;
    }

    fn says(&self, part: &str) -> usize {
        let log = self.worker.log();
        log.lines().filter(|line| line.contains(part)).count()
    }
}

/// The properties that all sinks of this file have, and some more.
fn sink(class: &str, more: &[(&str, &str)]) -> String {
    let mut properties = format!(
        "connector.class={class}\ntopics=rows\n\
         key.converter=org.apache.kafka.connect.storage.StringConverter\n\
         errors.retry.delay.max.ms=200\nrestart.backoff.ms=1\nrestart.backoff.max.ms=20\n"
    );
    for (name, value) in more {
        properties += &format!("{name}={value}\n");
    }
    properties
}

fn write(folder: &Path, name: &str, properties: &str) -> PathBuf {
    let path = folder.join(format!("{name}.properties"));
    std::fs::write(&path, format!("name={name}\n{properties}")).expect("written");
    path
}

#[test]
fn while_the_database_is_away_the_rest_goes_on_and_its_rows_wait_in_the_topic() {
    let mut random = random::seeded("while_the_database_is_away");
    runtime().block_on(async {
        let Some(mut world) = World::start(&[]).await else {
            return;
        };
        world.write(100, 10).await;
        world.file_has_everything().await;
        world.table_has_everything().await;
        let before = world.worker.memory();
        world.postgres.crash();
        // Three times what the sink may hold.
        for _ in 0..80 {
            world.write(10, 90_000 + random.below(10_000)).await;
        }
        world.file_has_everything().await;
        until("the sink has tried some time", async || {
            let waits = world.says("writing the same batch again") >= 4;
            waits.then_some(()).ok_or(world.worker.log())
        })
        .await;
        let after = world.worker.memory();
        let grown = after.saturating_sub(before) >> 20;
        assert!(
            grown < 150,
            "{grown} MiB more, while 76 MiB wait in the topic"
        );
        assert_eq!(world.worker.tasks("table"), ["RUNNING"]);
        let told = world.says("writing the same batch again");
        assert!(told <= 10, "{}", world.worker.log());
        world.postgres.resume();
        world.table_has_everything().await;
        assert_eq!(world.worker.tasks("table"), ["RUNNING"]);
        assert_eq!(
            world.says("writing again after"),
            1,
            "{}",
            world.worker.log()
        );
        assert_eq!(world.worker.stop(), Some(0));
    });
}

#[test]
fn a_database_that_answers_slowly_holds_up_nobody_else() {
    runtime().block_on(async {
        let Some(mut world) = World::start(&[]).await else {
            return;
        };
        world.write(100, 10).await;
        world.table_has_everything().await;
        // Somebody else has the table: every statement of the sink waits.
        let other = world.postgres.client().await;
        let lock = "BEGIN; LOCK TABLE rows IN ACCESS EXCLUSIVE MODE";
        other.batch_execute(lock).await.expect("locked");
        for _ in 0..20 {
            world.write(50, 1_000).await;
            world.file_has_everything().await;
        }
        let rows = other.query_one("SELECT count(*) FROM rows", &[]).await;
        assert_eq!(rows.expect("counted").get::<_, i64>(0), 100);
        assert_eq!(world.worker.tasks("table"), ["RUNNING"]);
        other.batch_execute("COMMIT").await.expect("let go");
        world.table_has_everything().await;
        assert!(
            world.worker.log().lines().count() < 10,
            "{}",
            world.worker.log()
        );
    });
}

#[test]
fn a_connector_that_fails_for_ever_is_shown_as_failed_and_told_ever_more_rarely() {
    runtime().block_on(async {
        let broken = |postgres: &str| {
            sink("PostgresSink", &[("connection.url", postgres)])
                + "table.name.format=nowhere\ninsert.mode=insert\npk.mode=none\n"
        };
        let Some(postgres) = Postgres::start() else {
            return;
        };
        let more = [("broken", broken(&postgres.url()))];
        let Some(mut world) = World::start(&more).await else {
            return;
        };
        world.write(10, 10).await;
        until("it has failed many times", async || {
            world.write(10, 10).await;
            let often = world.worker.log().contains("attempt=64");
            often.then_some(()).ok_or(world.worker.log())
        })
        .await;
        let told = world.says("task=\"broken-0\"");
        assert!(told <= 20, "{told} lines:\n{}", world.worker.log());
        until("its status says why", async || {
            let tasks = world.worker.tasks("broken");
            let named = |task: &String| task.starts_with("FAILED") && task.contains("nowhere");
            tasks
                .iter()
                .all(named)
                .then_some(())
                .ok_or(format!("{tasks:?}"))
        })
        .await;
        world.file_has_everything().await;
        world.table_has_everything().await;
        for healthy in ["table", "file"] {
            assert_eq!(world.worker.tasks(healthy), ["RUNNING"]);
        }
        // What it lacked is there: it recovers by itself.
        let client = postgres.client().await;
        let table = "CREATE TABLE nowhere (n bigint, filling text)";
        client.batch_execute(table).await.expect("a table");
        until("it has every row", async || {
            let counted = client.query_one("SELECT count(*) FROM nowhere", &[]).await;
            let rows: i64 = counted.map_err(|e| e.to_string())?.get(0);
            (rows == world.written as i64)
                .then_some(())
                .ok_or(format!("{rows} rows"))
        })
        .await;
        assert_eq!(world.worker.tasks("broken"), ["RUNNING"]);
        assert!(world.server.is_alive());
    });
}
