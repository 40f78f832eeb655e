//! The workloads of the comparison with Kafka Streams, against any Kafka-compatible cluster.
//!
//! ```text
//! cargo run --release -p flumen-streams --example flow -- --bootstrap localhost:9092 [--records 3000000] [--keys 10000,1000000]
//!     [--workloads stateless,windowed] [--engines 1] [--commit-ms 100] [--at-least-once true] [--rounds 1] [--state-dir DIR]
//! cargo run --release -p flumen-streams --example flow -- takeover --bootstrap localhost:9092 [--mb 1024] [--where same|fresh] [--rounds 1] [--state-dir DIR]
//! ```
//! **Throughput.** Loads a topic of 6 partitions with 100-byte records under uniformly distributed keys, and runs each application over it, in a
//! process of its own, without state at the start. `stateless` copies the value, flips a bit and filters; it runs with the first number of keys
//! only. `windowed` counts per key in windows of 10 s with 5 s grace. `rekeyed` counts by the end of the key, through a repartition topic.
//!
//! One line of TSV per run on stdout. Rates are records a second from the first record that entered the topology to the last, and from the start
//! until everything is committed and closed; CPU is user and system seconds per million input records, start included. A run counts only if the
//! committed offsets are the end of the input. `output_records` includes the markers of transactions.
//!
//! **Takeover.** 4 partitions, so many thousand keys with 1,000 random bytes each, the last value of every key in a store, every update sent on. When
//! the store is full, 200 updates of random keys a second arrive; a `read_committed` consumer notes when each output becomes visible. The
//! application gets SIGKILL and is started again at once, on the folder it left (`same`) or on an empty one (`fresh`). `outage_s` is the longest
//! silence of the consumer after the kill.
#![allow(
    clippy::disallowed_methods,
    reason = "a program is the driver of its libraries"
)]

mod input;
mod measure;
mod takeover;
mod throughput;

use std::collections::BTreeMap;
use std::error::Error;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// `--name value` pairs.
pub(crate) struct Arguments(BTreeMap<String, String>);

impl Arguments {
    fn parse(args: &[String]) -> Result<Arguments, Failure> {
        let mut named = BTreeMap::new();
        for pair in args.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} has no value", pair[0]).into());
            };
            named.insert(name.trim_start_matches("--").to_owned(), value.clone());
        }
        Ok(Arguments(named))
    }

    fn take(&mut self, name: &str, default: &str) -> String {
        self.0.remove(name).unwrap_or_else(|| default.to_owned())
    }

    fn bootstrap(&mut self) -> Result<String, Failure> {
        let missing = "--bootstrap HOST:PORT is missing";
        Ok(self.0.remove("bootstrap").ok_or(missing)?)
    }

    /// Where state goes: a temporary folder unless it is named.
    fn state_dir(&mut self) -> String {
        let scratch = std::env::temp_dir().join(format!("flumen-flow-{}", std::process::id()));
        self.take("state-dir", &scratch.to_string_lossy())
    }

    fn none_left(&self) -> Result<(), Failure> {
        match self.0.keys().next() {
            Some(unknown) => Err(format!("there is no option --{unknown}").into()),
            None => Ok(()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("throughput-child") => throughput::child(&args[1..]).await,
        Some("takeover") => takeover::run(&args[1..]).await,
        Some("takeover-child") => takeover::child(&args[1..]).await,
        _ => throughput::run(&args).await,
    }
}
