//! How long an application with a large store is away when its process is killed and started again on the folder it left.
//!
//! ```text
//! cargo run --release -p flumen-streams --example takeover -- BOOTSTRAP STATE-DIR [MIB]
//! ```
//! Fills a store with so many MiB (1024) of values of 1 KiB, each under a key of its own, through a running application; kills that process with
//! SIGKILL in the middle of its commits, starts it again, and prints what the new one replayed of the changelog and how long it took from the start
//! of the process until all its tasks ran, and until the first new record was committed. Uses topics and an application of its own: begin with
//! an empty state folder and a cluster that has not seen it.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flumen_client::{
    Admin, Client, ClientConfig, NewTopic, Producer, ProducerConfig, ProducerRecord,
};
use flumen_streams::{
    Consumed, Grouped, KafkaStreams, Materialized, StreamsBuilder, StreamsConfig, StreamsMetrics,
    Topology, serdes,
};

const INPUT: &str = "takeover-input";
const PARTITIONS: i32 = 4;
const VALUE_BYTES: usize = 1024;
const CHILD: &str = "--child";

fn topology() -> Result<Topology, Box<dyn Error>> {
    let builder = StreamsBuilder::new();
    builder
        .stream(INPUT, Consumed::with(serdes::bytes(), serdes::bytes()))
        .group_by_key(Grouped::with(serdes::bytes(), serdes::bytes()))
        .reduce(|_, new| new, Materialized::with("latest", serdes::bytes()));
    Ok(builder.build()?)
}

/// Says what it does in lines until it is killed: `running RECORDS BYTES WIPED`, and `read N` after commits.
#[expect(
    clippy::disallowed_methods,
    reason = "counters are looked at from time to time"
)]
async fn child(bootstrap: &str, state_dir: &str) -> Result<(), Box<dyn Error>> {
    let mut config = StreamsConfig::new("takeover", bootstrap);
    config.state_dir = state_dir.into();
    let mut streams = KafkaStreams::start(topology()?, config).await?;
    if streams.running().await {
        let get = |counter| StreamsMetrics::get(counter);
        let metrics = streams.metrics();
        println!(
            "running {} {} {}",
            get(&metrics.restored_records),
            get(&metrics.restored_bytes),
            get(&metrics.full_restores)
        );
    }
    let mut committed = 0;
    loop {
        tokio::select! {
            biased;
            ended = streams.stopped() => return Ok(ended?),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        let metrics = streams.metrics();
        // In this order: what was read before a commit that is counted may be part of it, what is read after it is not.
        let read = StreamsMetrics::get(&metrics.engine.records_in);
        let commits = StreamsMetrics::get(&metrics.commits);
        if commits > committed {
            committed = commits;
            println!("read {read}");
        }
    }
}

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(bootstrap: &str, state_dir: &str) -> Result<Process, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([CHILD, bootstrap, state_dir]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Process { child, lines })
    }

    /// Waits for a line that begins with `word`; its numbers.
    fn says(&mut self, word: &str) -> Result<Vec<u64>, Box<dyn Error>> {
        for line in self.lines.by_ref() {
            let line = line?;
            if let Some(numbers) = line.strip_prefix(word) {
                let numbers = numbers.split_whitespace().map(str::parse);
                return Ok(numbers.collect::<Result<_, _>>()?);
            }
        }
        Err(format!("the application ended without {word:?}").into())
    }

    fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

/// Writes values `from..upto` and waits until they are acknowledged.
async fn write(producer: &Producer, from: u64, upto: u64) -> Result<(), Box<dyn Error>> {
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    for number in from..upto {
        let record = ProducerRecord::new(INPUT, value.clone());
        drop(
            producer
                .send(record.key(number.to_be_bytes().to_vec()))
                .await?,
        );
    }
    Ok(producer.flush().await?)
}

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [CHILD, bootstrap, state_dir] = args[..] {
        return child(bootstrap, state_dir).await;
    }
    let [bootstrap, state_dir, ref rest @ ..] = args[..] else {
        return Err("takeover BOOTSTRAP STATE-DIR [MIB]".into());
    };
    let mib: u64 = rest.first().map_or(Ok(1024), |mib| mib.parse())?;
    let records = mib * (1 << 20) / VALUE_BYTES as u64;
    let client = Client::connect(ClientConfig::new(bootstrap)).await?;
    let topic = NewTopic::new(INPUT, PARTITIONS);
    Admin::new(&client).ensure_topics(&[topic]).await?;
    let producer = Producer::new(&client, ProducerConfig::default()).await?;

    let mut first = Process::start(bootstrap, state_dir)?;
    first.says("running")?;
    let began = Instant::now();
    write(&producer, 0, records).await?;
    while first.says("read")?[0] < records {}
    println!(
        "{mib} MiB in {records} records filled in {:.1?}",
        began.elapsed()
    );
    // Commits go on until the end: the last ones are in the changelog and not in RocksDB.
    write(&producer, 0, 5_000).await?;
    first.kill()?;

    let killed = Instant::now();
    let mut second = Process::start(bootstrap, state_dir)?;
    let restored = second.says("running")?;
    let running = killed.elapsed();
    write(&producer, 0, 1).await?;
    second.says("read")?;
    let working = killed.elapsed();
    second.kill()?;
    let (replayed, bytes, wiped) = (restored[0], restored[1], restored[2]);
    println!(
        "replayed {replayed} records, {bytes} bytes of the changelog; {wiped} stores from nothing; running after {running:.2?}, first commit after {working:.2?}"
    );
    assert_eq!(wiped, 0, "a store was restored from nothing");
    assert!(replayed < records / 2, "more than a tail was replayed");
    Ok(())
}
