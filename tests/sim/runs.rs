//! Runs seeds, judges what they show, and says how to see it again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use flumen_checker::{Promises, check, smallest};

use crate::oracle;
use crate::plan::Plan;
use crate::summary::Counters;
use crate::workload::mover::COPYING;
use crate::world::{self, Outcome};

/// Anomalies of one run that are printed; the others mostly follow from them.
const SHOWN: usize = 3;

/// A seed whose run broke a promise.
pub(crate) struct Failure {
    pub(crate) seed: u64,
    /// What was broken, in a line.
    pub(crate) headline: String,
    report: String,
}

impl fmt::Display for Failure {
    /// The seed, what it means, the smallest history that shows what is wrong, and how to see it again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.report)
    }
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> (Arc<Counters>, Option<Failure>) {
    let outcome = world::run(Plan::of(seed));
    let counters = Arc::clone(&outcome.counters);
    (counters, judge(seed, &outcome))
}

/// What an outcome breaks.
pub(crate) fn judge(seed: u64, outcome: &Outcome) -> Option<Failure> {
    let anomalies = check(&outcome.history, &Promises::default());
    let copied = || oracle::check(&outcome.history, COPYING, &outcome.copies);
    let headline = match (&outcome.stuck, anomalies.first()) {
        (Some(stuck), _) => stuck.clone(),
        (None, Some(anomaly)) => anomaly.to_string(),
        (None, None) => match outcome.flaws.first() {
            Some(flaw) => flaw.clone(),
            None => copied()?,
        },
    };
    let mut report = format!("{}\n{headline}\n", Plan::of(seed));
    for anomaly in anomalies.iter().take(SHOWN) {
        let shown = smallest(&outcome.history, anomaly);
        report += &format!("\n{anomaly}\n{shown}");
    }
    if anomalies.len() > SHOWN {
        report += &format!("\nand {} more\n", anomalies.len() - SHOWN);
    }
    report += &format!(
        "\nto see it again: SEED={seed} cargo test -p flumen --test sim one_seed -- --nocapture\n"
    );
    Some(Failure {
        seed,
        headline,
        report,
    })
}

/// Runs many seeds, one thread for each core, until one fails; `progress` is told after each.
pub(crate) fn run_all(
    seeds: &[u64],
    progress: impl Fn(usize, &Counters),
) -> (Arc<Counters>, Option<Failure>) {
    let total = Arc::new(Counters::default());
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let (done, runs) = mpsc::channel();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failure: Option<Failure> = None;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (next, failed, done) = (&next, &failed, done.clone());
            scope.spawn(move || {
                while !failed.load(Ordering::Relaxed) {
                    let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    let Some(seed) = seeds.get(at) else { return };
                    let run = run(*seed);
                    failed.fetch_or(run.1.is_some(), Ordering::Relaxed);
                    done.send(run).unwrap();
                }
            });
        }
        drop(done);
        for (number, (counters, found)) in runs.into_iter().enumerate() {
            total.merge(&counters);
            progress(number + 1, &total);
            // The one that comes first in the list, whatever thread was quicker.
            if let Some(found) = found
                && failure.as_ref().is_none_or(|known| found.seed < known.seed)
            {
                failure = Some(found);
            }
        }
    });
    (total, failure)
}
