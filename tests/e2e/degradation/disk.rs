//! A disk that is full: writes are refused, reads go on; once there is space again everything is as before, without a restart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use flumen_client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig,
    ProducerRecord, TopicPartition,
};

use crate::server::{PATIENCE, Server, run};
use crate::streams::runtime;

/// A small file system in memory, taken away when dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and a line that says so, where nothing can be mounted.
    pub(crate) fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).expect("a folder");
        let size = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let mounted = run(&mut mount, b"");
        if !mounted.ok {
            let why = mounted.stderr.trim();
            eprintln!("skipped: a small tmpfs cannot be mounted here ({why})");
            return None;
        }
        Some(SmallDisk(at.to_owned()))
    }

    fn grow(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]);
        let grown = run(mount.arg(&self.0), b"");
        assert!(grown.ok, "{}", grown.stderr);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn count(text: &str, part: &str) -> usize {
    text.lines().filter(|line| line.contains(part)).count()
}

/// A record of `size` bytes that begins with its number.
fn numbered(number: usize, size: usize) -> ProducerRecord {
    let mut value = format!("{number} ").into_bytes();
    value.resize(size, b'.');
    ProducerRecord::new("t", value).partition(0)
}

/// The numbers of all committed records.
async fn stored(client: &Client) -> Vec<usize> {
    let consumer = Consumer::new(client, ConsumerConfig::default()).await;
    let consumer = consumer.expect("a consumer");
    let partition = TopicPartition::new("t", 0);
    consumer
        .assign(vec![partition.clone()])
        .await
        .expect("assigned");
    let ends = consumer.end_offsets(std::slice::from_ref(&partition)).await;
    let end = ends.expect("offsets")[&partition];
    let (mut numbers, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while consumer.position(&partition).await.is_ok_and(|at| at < end) {
        assert!(Instant::now() < deadline, "{} of {end} read", numbers.len());
        let records = consumer
            .poll(Duration::from_millis(200))
            .await
            .expect("records");
        numbers.extend(records.into_iter().map(|record| {
            let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
            let number = value.split(' ').next().map(str::parse::<usize>);
            number.expect("a word").expect("a number")
        }));
    }
    consumer.close().await;
    numbers
}

#[test]
fn a_full_disk_is_told_once_and_everything_goes_on_when_there_is_space() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let Some(disk) = SmallDisk::mount(&data, "16m") else {
        return;
    };
    let settings = [
        "log.segment.bytes=1048576",
        "log.index.size.max.bytes=65536",
    ];
    let mut server = Server::on(folder, data, &settings);
    runtime().block_on(async {
        let client = Client::connect(ClientConfig::new(&server.address())).await;
        let client = client.expect("the broker answers");
        let admin = Admin::new(&client);
        admin
            .ensure_topics(&[NewTopic::new("t", 1)])
            .await
            .expect("a topic");
        let impatient = ProducerConfig {
            linger: Duration::ZERO,
            delivery_timeout: Duration::from_millis(200),
            ..ProducerConfig::default()
        };
        let producer = Producer::new(&client, impatient).await.expect("a producer");
        let send = async |number, size| {
            let sent = producer.send(numbered(number, size)).await.expect("room");
            sent.await
        };
        let mut written = Vec::new();
        while send(written.len(), 400_000).await.is_ok() {
            written.push(written.len());
            assert!(written.len() < 100, "16 MiB cannot hold this");
        }
        // What is large does not fit, what is small does: the log does not say so each time.
        let full = written.len();
        let mut refused = 0;
        for number in full..full + 40 {
            let size = if number % 2 == 0 { 400_000 } else { 10 };
            match send(number, size).await {
                Ok(_) => written.push(number),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= 20, "{refused} refused");
        assert_eq!(stored(&client).await, written, "reads go on");
        let log = server.log();
        let told = count(&log, "records cannot be written");
        assert!((1..=3).contains(&told), "{told} times:\n{log}");

        disk.grow("64m");
        let deadline = Instant::now() + PATIENCE;
        while send(1_000, 400_000).await.is_err() {
            assert!(Instant::now() < deadline, "{}", server.log());
        }
        written.push(1_000);
        assert_eq!(stored(&client).await, written);
        assert!(server.is_alive(), "without a restart");
    });
    let log = server.log();
    assert!(count(&log, "records can be written again") <= 3, "{log}");
    assert!(log.lines().count() < 20, "{log}");
}

#[test]
fn a_transaction_outlives_a_full_disk_or_is_aborted_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let Some(disk) = SmallDisk::mount(&data, "16m") else {
        return;
    };
    let settings = [
        "log.segment.bytes=1048576",
        "log.index.size.max.bytes=65536",
    ];
    let mut server = Server::on(folder, data, &settings);
    runtime().block_on(async {
        let client = Client::connect(ClientConfig::new(&server.address())).await;
        let client = client.expect("the broker answers");
        let admin = Admin::new(&client);
        admin
            .ensure_topics(&[NewTopic::new("t", 1)])
            .await
            .expect("a topic");
        let mut config = ProducerConfig::transactional("tx");
        config.delivery_timeout = Duration::from_millis(500);
        let (mut written, mut next, mut grown) = (Vec::new(), 0_usize, false);
        let mut producer: Option<Producer> = None;
        let deadline = Instant::now() + PATIENCE * 2;
        // Ten transactions after there is space again, whatever happened to those before.
        let mut after = 0;
        while after < 10 {
            assert!(Instant::now() < deadline, "{}", server.log());
            let current = match producer.take() {
                Some(producer) => producer,
                None => {
                    let fresh = Producer::new(&client, config.clone()).await.expect("made");
                    fresh.init_transactions().await.expect("an id");
                    fresh
                }
            };
            let numbers = next..next + 4;
            next += 4;
            current.begin_transaction().expect("begun");
            for number in numbers.clone() {
                let size = if grown { 1_000 } else { 300_000 };
                drop(current.send(numbered(number, size)).await);
            }
            match current.commit_transaction().await {
                Ok(()) => {
                    written.extend(numbers);
                    after += usize::from(grown);
                    producer = Some(current);
                }
                Err(_) => {
                    if !grown {
                        assert_eq!(stored(&client).await, written, "reads go on");
                        disk.grow("64m");
                        grown = true;
                    }
                    if current.abort_transaction().await.is_ok() {
                        producer = Some(current);
                    }
                }
            }
        }
        assert!(grown, "16 MiB cannot hold this");
        assert_eq!(stored(&client).await, written);
        assert!(server.is_alive(), "without a restart");
    });
}
