//! The application under measurement, in a process of its own: its CPU time and memory are nobody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flumen_streams::{
    Consumed, Grouped, KStream, KafkaStreams, Materialized, ProcessingGuarantee, Produced,
    StreamsBuilder, StreamsConfig, StreamsMetrics, TimeWindows, Topology, serdes,
};
use tokio::sync::Notify;

use super::Options;
use crate::Failure;
use crate::measure::{cpu_seconds, now, peak_memory_mb};

/// What the process says of itself, in one line.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) per_second_first_to_last: f64,
    pub(crate) per_second_start_to_closed: f64,
    pub(crate) ms_start_to_first: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_memory_mb: f64,
}

impl Outcome {
    fn print(&self) {
        let Outcome {
            per_second_first_to_last: steady,
            per_second_start_to_closed: whole,
            ms_start_to_first: first,
            cpu_seconds: cpu,
            peak_memory_mb: memory,
        } = self;
        println!("{steady} {whole} {first} {cpu} {memory}");
    }

    pub(crate) fn parse(line: &str) -> Result<Outcome, Failure> {
        let numbers = line.split_whitespace().map(str::parse::<f64>);
        let numbers: Vec<f64> = numbers.collect::<Result<_, _>>()?;
        let [steady, whole, first, cpu, memory] = numbers[..] else {
            return Err(format!("the application said {line:?}").into());
        };
        Ok(Outcome {
            per_second_first_to_last: steady,
            per_second_start_to_closed: whole,
            ms_start_to_first: first,
            cpu_seconds: cpu,
            peak_memory_mb: memory,
        })
    }
}

/// When the first and the last record entered the topology.
struct Seen {
    began: Instant,
    count: AtomicU64,
    first_micros: AtomicU64,
    last_micros: AtomicU64,
    stop_at: u64,
    done: Notify,
}

impl Seen {
    fn one(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count == 1 {
            self.first_micros.store(self.micros(), Ordering::Relaxed);
        }
        if count == self.stop_at {
            self.last_micros.store(self.micros(), Ordering::Relaxed);
            self.done.notify_one();
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn outcome(&self) -> Result<Outcome, Failure> {
        let closed = self.micros();
        let first = self.first_micros.load(Ordering::Relaxed);
        let last = self.last_micros.load(Ordering::Relaxed);
        let per_second = |micros: u64| self.stop_at as f64 / (micros.max(1) as f64 / 1e6);
        Ok(Outcome {
            per_second_first_to_last: per_second(last.saturating_sub(first)),
            per_second_start_to_closed: per_second(closed),
            ms_start_to_first: first as f64 / 1e3,
            cpu_seconds: cpu_seconds("self")?,
            peak_memory_mb: peak_memory_mb("self")?,
        })
    }
}

/// Which application: `id WORKLOAD INPUT OUTPUT STATE-DIR`.
pub(crate) struct Application<'a> {
    pub(crate) id: &'a str,
    pub(crate) workload: &'a str,
    pub(crate) input: &'a str,
    pub(crate) output: &'a str,
    pub(crate) state_dir: &'a str,
}

/// Runs until every record was seen, closes, and prints the outcome.
pub(crate) async fn run(options: &Options, application: &Application<'_>) -> Result<(), Failure> {
    let mut config = StreamsConfig::new(application.id, &options.bootstrap);
    config.state_dir = application.state_dir.into();
    config.engines = options.engines;
    config.commit_interval = Some(Duration::from_millis(options.commit_ms));
    if options.at_least_once {
        config.guarantee = ProcessingGuarantee::AtLeastOnce;
    }
    let zero = AtomicU64::default;
    let seen = Arc::new(Seen {
        began: now(),
        count: zero(),
        first_micros: zero(),
        last_micros: zero(),
        stop_at: options.records,
        done: Notify::new(),
    });
    let topology = topology(application, Arc::clone(&seen))?;
    let mut streams = KafkaStreams::start(topology, config).await?;
    let by_itself = tokio::select! {
        biased;
        stopped = streams.stopped() => Some(stopped),
        () = seen.done.notified() => None,
    };
    if let Some(stopped) = by_itself {
        stopped?;
        return Err("it stopped before all records were seen".into());
    }
    report(streams.metrics());
    streams.close().await?;
    seen.outcome()?.print();
    Ok(())
}

fn topology(application: &Application<'_>, seen: Arc<Seen>) -> Result<Topology, Failure> {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::with(serdes::string(), serdes::bytes());
    let records = builder.stream(application.input, consumed);
    let records = records.peek(move |_, _| seen.one());
    match application.workload {
        "stateless" => stateless(&records, application.output),
        "windowed" => windowed(&records, application.output),
        "rekeyed" => rekeyed(&records, application.output),
        other => {
            return Err(
                format!("no workload is called {other}: stateless, windowed, rekeyed").into(),
            );
        }
    }
    Ok(builder.build()?)
}

/// A copy with one bit changed, and a filter that all pass.
fn stateless(records: &KStream<String, Bytes>, output: &str) {
    let flipped = records.map_values(|value| {
        let mut copy = value.to_vec();
        copy[0] ^= 1;
        Bytes::from(copy)
    });
    flipped
        .filter(|_, value| value[1] != 7)
        .to(output, Produced::with(serdes::string(), serdes::bytes()));
}

/// Counts per key in windows of 10 s with 5 s grace, written as 8 bytes under the plain key.
fn windowed(records: &KStream<String, Bytes>, output: &str) {
    let windows = TimeWindows::of_size_and_grace(Duration::from_secs(10), Duration::from_secs(5));
    let grouped = records.group_by_key(Grouped::with(serdes::string(), serdes::bytes()));
    let counts = grouped
        .windowed_by(windows)
        .count(Materialized::as_("counts"));
    counts
        .to_stream()
        .map(|key, count| (key.key, count))
        .to(output, Produced::with(serdes::string(), serdes::i64()));
}

/// Counts by the last two characters of the key, through a repartition topic.
fn rekeyed(records: &KStream<String, Bytes>, output: &str) {
    let ending = |key: &String, _: &Bytes| key[key.len().saturating_sub(2)..].to_owned();
    let counts = records
        .group_by(ending, Grouped::with(serdes::string(), serdes::bytes()))
        .count(Materialized::as_("endings"));
    counts
        .to_stream()
        .map_values(|count| count.to_string())
        .to(output, Produced::with(serdes::string(), serdes::string()));
}

fn report(metrics: &StreamsMetrics) {
    let get = StreamsMetrics::get;
    let commits = get(&metrics.commits);
    let mean = get(&metrics.commit_micros) / commits.max(1);
    let (late, out) = (
        get(&metrics.engine.dropped_late),
        get(&metrics.engine.records_out),
    );
    let spills = get(&metrics.spills);
    eprintln!("  {commits} commits of {mean} us, {out} records out, {late} late, {spills} spills");
}
