//! A worker of connect: a file that grows becomes a topic, and the topic a file, each line once.
//!
//! The files are real ones and outlive the host. The judgement at the end is this host's own: topic and file are a beginning of what was
//! written to the source file, and the stored position of the source is where the topic ends.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flumen_client::{Client, ClientError};
use flumen_connect::registry::Registry;
use flumen_connect::worker::{Worker, WorkerConfig};
use flumen_connect_file::{Threads, register_with};

use super::Stage;
use super::topology::committed;
use crate::dice::Dice;
use crate::recorder::Journal;

const TOPIC: &str = "lines";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Most lines that come at a time.
    lines: u64,
}

impl Options {
    pub(crate) fn of(dice: &mut Dice) -> Options {
        Options {
            lines: *dice.pick(&[2, 10]),
        }
    }
}

pub(crate) async fn run(stage: Stage, options: Options) -> turmoil::Result {
    let client = stage.client().await;
    let folder = stage.folder();
    let mut dice = stage.dice("lines");
    while !stage.stops() {
        let journal = stage.process();
        match start(&stage, &folder).await {
            Ok(worker) => {
                work(&stage, &options, &journal, &folder, &mut dice).await;
                for name in worker.connectors() {
                    let status = worker.status(&name);
                    journal.note(format_args!("connect: {name} at the end: {status:?}"));
                }
                worker.shutdown().await;
            }
            Err(error) => journal.note(format_args!("no worker yet: {error}")),
        }
        stage.pause(Duration::from_millis(200)).await;
    }
    let flaw = loop {
        match audit(&client, &folder).await {
            Ok(flaw) => break flaw,
            Err(error) => stage.recorder.note(format_args!("not audited: {error}")),
        }
    };
    if let Some(flaw) = flaw {
        stage.recorder.flaw(format!("connectors: {flaw}"));
    }
    Ok(())
}

async fn start(stage: &Stage, folder: &Path) -> Result<Worker, String> {
    let mut config = WorkerConfig::new(super::BROKER);
    config.client = stage.client_config();
    config.topics.offsets_partitions = 1;
    config.topics.status_partitions = 1;
    let registry = register_with(Registry::new(), Threads::Waiting);
    let worker = Worker::start(config, registry).await;
    let worker = worker.map_err(|error| error.to_string())?;
    let timeout = stage.plan.transaction_timeout.as_millis();
    let text = "org.apache.kafka.connect.storage.StringConverter";
    let path = |name: &str| folder.join(name).display().to_string();
    let source = [
        ("connector.class", "FileStreamSource".to_owned()),
        ("file", path("in")),
        ("topic", TOPIC.to_owned()),
        ("topic.creation.default.partitions", "1".to_owned()),
        ("topic.creation.default.replication.factor", "1".to_owned()),
        ("topic.creation.default.segment.bytes", "65536".to_owned()),
        (
            "producer.override.transaction.timeout.ms",
            timeout.to_string(),
        ),
        ("poll.interval.ms", "50".to_owned()),
        ("value.converter", text.to_owned()),
    ];
    let sink = [
        ("connector.class", "FileStreamSink".to_owned()),
        ("file", path("out")),
        ("topics", TOPIC.to_owned()),
        ("value.converter", text.to_owned()),
    ];
    for (name, props) in [("source", &source[..]), ("sink", &sink[..])] {
        let props = props
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        let put = worker.put_config(name, props.collect()).await;
        put.map_err(|error| error.to_string())?;
    }
    Ok(worker)
}

/// Lines come, and are seen to arrive.
async fn work(stage: &Stage, options: &Options, journal: &Journal, folder: &Path, dice: &mut Dice) {
    let mut arrived = lines(&folder.join("out")).len();
    let mut next = lines(&folder.join("in")).len();
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("in"));
    let mut file = file.unwrap();
    while !stage.stops() {
        let mut more = String::new();
        for _ in 0..dice.below(options.lines) {
            more += &format!("line {next}\n");
            next += 1;
        }
        file.write_all(more.as_bytes()).unwrap();
        stage.pause(Duration::from_millis(100)).await;
        let now = lines(&folder.join("out")).len();
        if now > arrived {
            arrived = now;
            journal.moved();
        }
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What is not as it was written.
async fn audit(client: &Client, folder: &Path) -> Result<Option<String>, ClientError> {
    let (written, arrived) = (lines(&folder.join("in")), lines(&folder.join("out")));
    if client.partitions_of(TOPIC).await.is_err() && written.is_empty() {
        return Ok(None);
    }
    let mut sent = Vec::new();
    for record in committed(client, TOPIC, 0).await? {
        sent.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
    }
    if let Some(flaw) = differs("topic", &sent, &written) {
        return Ok(Some(flaw));
    }
    if let Some(flaw) = differs("file", &arrived, &sent) {
        return Ok(Some(flaw));
    }
    let positions = committed(client, "connect-offsets", 0).await?;
    let position = positions.last().and_then(|record| record.value.clone());
    let position = position.map_or(0, |value| {
        let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
        value["position"].as_u64().unwrap()
    });
    let bytes: usize = sent.iter().map(|line| line.len() + 1).sum();
    Ok((position != bytes as u64)
        .then(|| format!("the source is at byte {position}, the topic has {bytes} bytes")))
}

/// Where `copy` is not a beginning of `original`.
fn differs(name: &str, copy: &[String], original: &[String]) -> Option<String> {
    let same = copy
        .iter()
        .zip(original)
        .take_while(|(a, b)| a == b)
        .count();
    (same < copy.len()).then(|| {
        let around = |of: &[String]| {
            of[same.min(of.len())..]
                .iter()
                .take(3)
                .cloned()
                .collect::<Vec<_>>()
        };
        format!(
            "{name}: after {same} lines comes {:?}, not {:?}",
            around(copy),
            around(original)
        )
    })
}
