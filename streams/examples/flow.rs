//! The workloads of the comparison with Kafka Streams, against any Kafka-compatible cluster.
//!
//! ```text
//! cargo run --release -p flumen-streams --example flow -- BOOTSTRAP APPLICATION STATE-DIR stateless|windowed|rekeyed INPUT OUTPUT [--records N] [--engines N] [--alo]
//! ```
//! `stateless` copies the value, flips a bit and filters; `windowed` counts per key in windows of 10 s with 5 s grace and writes the count as 8 bytes
//! under the plain key; `rekeyed` counts by the last two characters of the key, through a repartition topic. The topics exist. With `--records` it stops when it has seen so many, and prints the rate from the first to the last and the CPU it took;
//! without, it runs until it is interrupted.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flumen_streams::{
    Consumed, Grouped, KStream, KafkaStreams, Materialized, ProcessingGuarantee, Produced,
    StreamsBuilder, StreamsConfig, StreamsMetrics, TimeWindows, Topology, serdes,
};
use tokio::sync::Notify;

/// When the first and the last record were seen.
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

    /// Prints the rates; returns the number of records.
    fn report(&self, workload: &str) -> u64 {
        let all = self.micros();
        let first = self.first_micros.load(Ordering::Relaxed);
        let last = self.last_micros.load(Ordering::Relaxed);
        let count = self.count.load(Ordering::Relaxed);
        let per_second = |micros: u64| count as f64 / (micros.max(1) as f64 / 1e6);
        println!(
            "{workload}\trecords {count}\tper second first to last {:.0}\tstart to closed {:.0}",
            per_second(last.saturating_sub(first)),
            per_second(all)
        );
        count
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [
        bootstrap,
        application,
        state_dir,
        workload,
        input,
        output,
        options @ ..,
    ] = &args[..]
    else {
        return Err("flow BOOTSTRAP APPLICATION STATE-DIR stateless|windowed|rekeyed INPUT OUTPUT [--records N] [--engines N] [--alo]".into());
    };
    let number = |name: &str| {
        let at = options.iter().position(|option| option == name);
        at.and_then(|at| options.get(at + 1))
            .map(|number| number.parse::<u64>())
            .transpose()
    };
    let stop_at = number("--records")?.unwrap_or(u64::MAX);
    let mut config = StreamsConfig::new(application, bootstrap);
    config.state_dir = state_dir.into();
    config.engines = usize::try_from(number("--engines")?.unwrap_or(1))?;
    if options.iter().any(|option| option == "--alo") {
        config.guarantee = ProcessingGuarantee::AtLeastOnce;
    }
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    let began = Instant::now();
    let zero = AtomicU64::default;
    let seen = Arc::new(Seen {
        began,
        count: zero(),
        first_micros: zero(),
        last_micros: zero(),
        stop_at,
        done: Notify::new(),
    });

    let topology = topology(workload, [input, output], Arc::clone(&seen))?;
    let mut streams = KafkaStreams::start(topology, config).await?;
    let by_itself = tokio::select! {
        biased;
        stopped = streams.stopped() => Some(stopped),
        () = seen.done.notified() => None,
        _ = tokio::signal::ctrl_c() => None,
    };
    if let Some(stopped) = by_itself {
        return Ok(stopped?);
    }
    let metrics = report(streams.metrics());
    streams.close().await?;
    let count = seen.report(workload);
    println!(
        "{metrics}\tCPU s per million records {:.2}",
        cpu_seconds()? / (count as f64 / 1e6)
    );
    Ok(())
}

fn topology(
    workload: &str,
    [input, output]: [&str; 2],
    seen: Arc<Seen>,
) -> Result<Topology, Box<dyn Error>> {
    let builder = StreamsBuilder::new();
    if workload == "stateless" {
        let records = builder.stream(input, Consumed::with(serdes::bytes(), serdes::bytes()));
        stateless(&records.peek(move |_, _| seen.one()), output);
        return Ok(builder.build()?);
    }
    let records = builder.stream(input, Consumed::with(serdes::string(), serdes::bytes()));
    let records = records.peek(move |_, _| seen.one());
    match workload {
        "windowed" => windowed(&records, output),
        "rekeyed" => rekeyed(&records, output),
        other => return Err(format!("no workload is called {other}").into()),
    }
    Ok(builder.build()?)
}

fn stateless(records: &KStream<Bytes, Bytes>, output: &str) {
    let flipped = records.map_values(|value| {
        let mut copy = value.to_vec();
        copy[0] ^= 1;
        Bytes::from(copy)
    });
    flipped
        .filter(|_, value| value[1] != 7)
        .to(output, Produced::with(serdes::bytes(), serdes::bytes()));
}

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

fn report(metrics: &StreamsMetrics) -> String {
    let get = StreamsMetrics::get;
    let commits = get(&metrics.commits);
    let mean = get(&metrics.commit_micros) / commits.max(1);
    let late = get(&metrics.engine.dropped_late);
    format!(
        "commits {commits}\tmean {mean} us\tlate {late}\tout {}\tspills {}",
        get(&metrics.engine.records_out),
        get(&metrics.spills)
    )
}

/// User and system time of this process, from the kernel's clock ticks of 10 ms.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark reads its own CPU time"
    )]
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}
