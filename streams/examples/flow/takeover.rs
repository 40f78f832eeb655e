//! How long an application with a large store is away when its process is killed and started again.

mod application;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flumen_client::{
    Admin, Client, ClientConfig, Compression, Consumer, ConsumerConfig, OffsetReset, Poll,
    Producer, ProducerConfig, ProducerRecord, RecordBlock, TopicPartition, partition_for_key,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::input::{self, JavaRandom};
use crate::{Arguments, Failure, measure};

const PARTITIONS: i32 = 4;
const VALUE_BYTES: usize = 1000;
const UPDATE_EVERY: Duration = Duration::from_millis(5);

struct Options {
    bootstrap: String,
    keys: u64,
    same: bool,
    rounds: u32,
    state_dir: PathBuf,
}

impl Options {
    fn new(mut arguments: Arguments) -> Result<Options, Failure> {
        let options = Options {
            bootstrap: arguments.bootstrap()?,
            keys: arguments.take("mb", "1024").parse::<u64>()? * 1000,
            same: arguments.take("where", "same") == "same",
            rounds: arguments.take("rounds", "1").parse()?,
            state_dir: arguments.state_dir().into(),
        };
        arguments.none_left()?;
        Ok(options)
    }
}

/// The application's process and what it says. Killed when dropped.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(of: [&str; 4]) -> Result<Process, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command
            .arg("takeover-child")
            .args(of)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Process { child, lines })
    }

    /// Waits for a line that begins with `word`; its numbers.
    fn says(&mut self, word: &str) -> Result<Vec<u64>, Failure> {
        for line in self.lines.by_ref() {
            let line = line?;
            if let Some(numbers) = line.strip_prefix(word) {
                let numbers = numbers.split_whitespace().map(str::parse);
                return Ok(numbers.collect::<Result<_, _>>()?);
            }
        }
        Err(format!("the application ended without {word:?}").into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every key once, with a value of random bytes.
#[expect(clippy::disallowed_methods, reason = "a record has a timestamp")]
async fn fill(client: &Client, topic: &str, keys: u64) -> Result<(), Failure> {
    let producer = Producer::new(client, ProducerConfig::default()).await?;
    let mut random = JavaRandom::new(42);
    let mut value = [0; VALUE_BYTES];
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    for first in (0..keys).step_by(400) {
        let mut blocks: Vec<RecordBlock> = (0..PARTITIONS)
            .map(|_| RecordBlock::new(Compression::None))
            .collect();
        for number in first..keys.min(first + 400) {
            let key = format!("key-{number}");
            random.fill(&mut value);
            let partition = partition_for_key(key.as_bytes(), PARTITIONS);
            let block = &mut blocks[usize::try_from(partition)?];
            block.push(now_ms, Some(key.as_bytes()), Some(&value), &[]);
        }
        for (partition, block) in (0..).zip(blocks).filter(|(_, block)| !block.is_empty()) {
            drop(producer.send_batch(topic, partition, block).await?);
        }
    }
    Ok(producer.close().await?)
}

/// Updates of random keys, for ever.
async fn update(client: Client, topic: String, keys: u64) -> Result<(), Failure> {
    let config = ProducerConfig {
        linger: Duration::ZERO,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&client, config).await?;
    let mut random = JavaRandom::new(43);
    let mut due = tokio::time::interval(UPDATE_EVERY);
    loop {
        let mut value = vec![0; VALUE_BYTES];
        random.fill(&mut value);
        let key = format!("key-{}", random.below(i32::try_from(keys)?));
        let record = ProducerRecord::new(&topic, Bytes::from(value)).key(key);
        drop(producer.send(record).await?);
        due.tick().await;
    }
}

/// When outputs became visible.
type Arrivals = Arc<watch::Sender<Vec<Instant>>>;

/// Notes every arrival in the output from now on, for ever.
async fn watch_outputs(client: Client, topic: String, arrivals: Arrivals) -> Result<(), Failure> {
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Latest,
        fetch_max_wait: Duration::from_millis(10),
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(&client, config).await?;
    let partitions = (0..PARTITIONS).map(|partition| TopicPartition::new(&topic, partition));
    consumer.assign(partitions.collect()).await?;
    loop {
        if let Poll::Records(pieces) = consumer.poll_batches(Duration::from_secs(1)).await?
            && pieces.iter().any(|piece| piece.record_count() > 0)
        {
            arrivals.send_modify(|seen| seen.push(measure::now()));
        }
    }
}

/// Waits until outputs have arrived for a second since `since`; without a pause of a second.
async fn flows_since(arrivals: &Arrivals, since: Instant) -> Result<(), Failure> {
    let mut seen = arrivals.subscribe();
    let flows = |seen: &Vec<Instant>| {
        let mut later = seen.iter().filter(|at| **at > since);
        let first = later.next();
        first.is_some_and(|first| later.any(|at| *at > *first + Duration::from_secs(1)))
    };
    let patience = Duration::from_secs(300);
    tokio::time::timeout(patience, seen.wait_for(flows)).await??;
    Ok(())
}

/// What goes on beside the application. Ended when dropped.
struct Beside(Vec<JoinHandle<Result<(), Failure>>>);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark spawns, and empties a folder"
)]
async fn round(options: &Options, client: &Client, number: u32) -> Result<(), Failure> {
    let id = format!("takeover-{}-{number}", std::process::id());
    let (input, output) = (format!("{id}-in"), format!("{id}-in-out"));
    let admin = Admin::new(client);
    let topics = [
        input::topic(&input, PARTITIONS),
        input::topic(&output, PARTITIONS),
    ];
    admin.ensure_topics(&topics).await?;
    fill(client, &input, options.keys).await?;
    let state_dir = options.state_dir.to_string_lossy();
    let of = [&*options.bootstrap, &id, &input, &state_dir];
    let began = measure::now();
    let mut first = Process::start(of)?;
    first.says("running")?;
    while first.says("read")?[0] < options.keys {}
    let filled = began.elapsed();
    let arrivals = Arrivals::default();
    let watching = watch_outputs(client.clone(), output.clone(), Arc::clone(&arrivals));
    let updating = update(client.clone(), input.clone(), options.keys);
    let beside = Beside(vec![tokio::spawn(watching), tokio::spawn(updating)]);
    flows_since(&arrivals, began).await?;

    let killed = measure::now();
    drop(first);
    if !options.same {
        std::fs::remove_dir_all(options.state_dir.join(&id))?;
    }
    let mut second = Process::start(of)?;
    let restored = tokio::task::spawn_blocking(move || {
        let restored = second.says("running");
        (second, restored, measure::now())
    });
    let (second, restored, running) = restored.await?;
    let restored = restored?;
    flows_since(&arrivals, running).await?;
    drop((beside, second));
    let around: Vec<Instant> = arrivals.borrow().clone();
    let silence = around
        .windows(2)
        .filter(|pair| pair[1] > killed)
        .map(|pair| pair[1] - pair[0])
        .max()
        .ok_or("nothing arrived")?;
    println!(
        "{}\t{}\t{:.1}\t{:.2}\t{:.2}\t{}\t{:.1}\t{}",
        options.keys / 1000,
        if options.same { "same" } else { "fresh" },
        filled.as_secs_f64(),
        silence.as_secs_f64(),
        (running - killed).as_secs_f64(),
        restored[0],
        restored[1] as f64 / 1e6,
        restored[2],
    );
    clean_up(&admin, &id, &options.state_dir).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark leaves no files behind"
)]
async fn clean_up(admin: &Admin, id: &str, state_dir: &Path) -> Result<(), Failure> {
    let topics = admin.list_topics().await?;
    let mine = topics.iter().map(|topic| topic.name.as_str());
    let mine: Vec<&str> = mine.filter(|name| name.starts_with(id)).collect();
    admin.delete_topics(&mine).await?;
    Ok(std::fs::remove_dir_all(state_dir.join(id))?)
}

/// The application's process.
pub(crate) async fn child(args: &[String]) -> Result<(), Failure> {
    let [bootstrap, id, input, state_dir] = args else {
        return Err("called by the benchmark only".into());
    };
    application::run([bootstrap, id, input, state_dir]).await
}

/// Runs the rounds that were asked for.
pub(crate) async fn run(args: &[String]) -> Result<(), Failure> {
    let options = Options::new(Arguments::parse(args)?)?;
    let client = Client::connect(ClientConfig::new(&options.bootstrap)).await?;
    println!(
        "store_MB\twhere\tfill_s\toutage_s\tkill_to_running_s\trestored_records\trestored_MB\tstores_from_nothing"
    );
    for number in 0..options.rounds {
        round(&options, &client, number).await?;
    }
    Ok(())
}
