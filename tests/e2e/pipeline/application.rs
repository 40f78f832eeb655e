//! The Streams application between the two topics: what it computes, the same computed plainly, and its process.
//!
//! Owns the topology and [`Application`], a child of this test binary that can be killed and stopped. A running total of every account, each update of
//! it: which updates there are depends on nothing but the input, so the outputs can be compared as a multiset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flumen_streams::{
    Consumed, Grouped, KafkaStreams, Materialized, Produced, StreamsBuilder, StreamsConfig,
    Topology, serdes,
};
use serde::{Deserialize, Serialize};

use crate::server::signal;

/// Group, state folder and prefix of the internal topics.
pub(crate) const APPLICATION: &str = "ledger";
/// So long would be waited if a restart waited for a transaction or a session to run out: longer than any test waits.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(600);
const CHILD: &str = "FLUMEN_TEST_LEDGER_CHILD";

/// A line of the input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) seq: i64,
    pub(crate) account: String,
    pub(crate) amount: i64,
}

/// A line of the output: the account's total after entry `seq`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Total {
    pub(crate) account: String,
    pub(crate) seq: i64,
    pub(crate) total: i64,
}

/// The totals as a loop over the entries gives them.
#[derive(Debug, Default)]
pub(crate) struct Recomputed {
    totals: BTreeMap<String, i64>,
    pub(crate) rows: Vec<Total>,
}

impl Recomputed {
    pub(crate) fn add(&mut self, entry: &Entry) {
        let total = self.totals.entry(entry.account.clone()).or_default();
        *total += entry.amount;
        self.rows.push(Total {
            account: entry.account.clone(),
            seq: entry.seq,
            total: *total,
        });
    }
}

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, Entry>("entries", Consumed::with(serdes::string(), serdes::json()))
        .group_by_key(Grouped::with(serdes::string(), serdes::json()).named("by-account"))
        .aggregate(
            || Total {
                account: String::new(),
                seq: 0,
                total: 0,
            },
            |account, entry: Entry, so_far: Total| Total {
                account: account.clone(),
                seq: entry.seq,
                total: so_far.total + entry.amount,
            },
            Materialized::as_("totals").with_caching_disabled(),
        )
        .to_stream()
        .to("totals", Produced::with(serdes::string(), serdes::json()));
    builder.build().expect("a topology")
}

/// The process of the application. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Application {
    child: Child,
    log: PathBuf,
}

impl Application {
    /// Starts it with its state in `folder`; its transactions may last for `timeout`. `test` is the full name of the running test, which calls
    /// [`serve_if_child`] first of all.
    pub(crate) fn start(test: &str, broker: &str, folder: &Path, timeout: Duration) -> Application {
        let me = std::env::current_exe().expect("this test");
        let log = folder.with_extension("log");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the log file");
        let task = format!("{broker} {} {}", timeout.as_millis(), folder.display());
        let child = Command::new(me)
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, task)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the test starts itself");
        Application { child, log }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("a killed child ends");
    }

    /// SIGSTOP: it stands still wherever it is, and knows nothing of it.
    pub(crate) fn freeze(&self) {
        signal(self.child.id(), "STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        signal(self.child.id(), "CONT");
    }

    /// True once it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("a child can be asked");
        status.is_some()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the application's log ---\n{}", self.log());
        }
    }
}

/// In a child of [`Application::start`]: runs the application until it is killed or stops by itself. Elsewhere: nothing.
pub(crate) fn serve_if_child() {
    let Ok(task) = std::env::var(CHILD) else {
        return;
    };
    let mut task = task.splitn(3, ' ');
    let mut word = || task.next().expect("broker, milliseconds and folder");
    let (broker, timeout, folder) = (word(), word(), word());
    let mut config = StreamsConfig::new(APPLICATION, broker);
    config.state_dir = PathBuf::from(folder);
    config.spill_interval = Duration::from_millis(300);
    config.transaction_timeout = Duration::from_millis(timeout.parse().expect("a number"));
    config.session_timeout = FOR_EVER;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let streams = KafkaStreams::start(topology(), config).await;
        let mut streams = streams.unwrap_or_else(|e| panic!("it does not start: {e}"));
        if let Err(error) = streams.stopped().await {
            eprintln!("stopped by itself: {error}");
        }
    });
    std::process::exit(3);
}
