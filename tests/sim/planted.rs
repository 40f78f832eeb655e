//! The simulator against bugs planted on purpose: each must be found within the seeds of every day.
//!
//! A bug is planted for a whole process, so each is hunted by a child of the test: this program again, with the bug's name in its
//! environment.

use std::process::Command;
use std::sync::Mutex;

use flumen_planted::{Bug, VARIABLE};

use crate::runs;

/// Runs the seeds one after the other until one breaks a promise; panics if none does.
pub(crate) fn hunt(bug: Bug, seeds: &[u64]) {
    for (number, seed) in seeds.iter().enumerate() {
        if let (_, Some(failure)) = runs::run(*seed) {
            println!("{failure}");
            println!("{} {} {}", bug.name(), number + 1, failure.headline);
            return;
        }
    }
    panic!("{}: {} seeds and nothing found", bug.name(), seeds.len());
}

/// Hunts all of them, one for each core at a time. What was found, or which seeds were not enough.
pub(crate) fn hunt_all(bugs: &[Bug]) -> (Vec<String>, Vec<String>) {
    let left = Mutex::new(bugs.iter());
    let (found, missed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(bug) = next else { return };
                    match child(*bug) {
                        Ok(line) => found.lock().unwrap().push(line),
                        Err(line) => missed.lock().unwrap().push(line),
                    }
                }
            });
        }
    });
    (found.into_inner().unwrap(), missed.into_inner().unwrap())
}

fn child(bug: Bug) -> Result<String, String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .env(VARIABLE, bug.name())
        .args([
            "--exact",
            "the_planted_bug_of_this_process_is_found",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let named = format!("{} ", bug.name());
    let line = text.lines().find(|line| line.starts_with(&named));
    match line {
        Some(line) if output.status.success() => Ok(line.to_owned()),
        _ => Err(format!(
            "{}: {}",
            bug.name(),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
