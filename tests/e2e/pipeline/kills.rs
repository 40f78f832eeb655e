//! kill -9 of every process of the pipeline at random moments: the sinks have each row once, and nobody waits for a time-out.
//!
//! Three runs of twenty kills, each from its own seed: `RUNS=50 cargo test -p flumen --test e2e pipeline` makes more, `SEED=42` begins with that one.

use std::time::Duration;

use super::application::serve_if_child;
use super::world::{Conditions, PATIENT, World};
use crate::random::{self, Random};
use crate::streams::runtime;

/// Kills of one run.
const KILLS: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Broker,
    Application,
    Worker,
    Postgres,
}

/// Who dies when: each the same number of times, in random order.
fn plan(random: &mut Random) -> Vec<Victim> {
    let all = [
        Victim::Broker,
        Victim::Application,
        Victim::Worker,
        Victim::Postgres,
    ];
    let mut plan: Vec<Victim> = all.into_iter().cycle().take(KILLS).collect();
    for at in (1..plan.len()).rev() {
        plan.swap(at, random.below(at + 1));
    }
    plan
}

impl World {
    /// Kills one process and starts it again at once; it is not waited for, except that a broker has to listen.
    fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Broker => {
                self.server.kill();
                self.server.restart();
            }
            Victim::Application => {
                self.application.kill();
                self.application = self.another_application("state");
            }
            Victim::Worker => {
                self.worker.kill();
                self.worker = self.another_worker("worker.log");
            }
            Victim::Postgres => {
                self.postgres.crash();
                self.postgres.resume();
            }
        }
    }

    /// Lets the next victim's moment come: at once (the one before has not recovered yet), some time later, or after some more rows arrived.
    async fn moment(&mut self, random: &mut Random) {
        match random.below(3) {
            0 => {}
            1 => tokio::time::sleep(Duration::from_millis(random.below(600) as u64)).await,
            _ => {
                let due = self.due();
                let more = self.table_rows().await + random.below(200);
                while self.table_rows().await < more.min(due) {
                    self.all_alive();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

#[test]
fn a_topic_that_takes_small_batches_only_gets_small_ones() {
    serve_if_child();
    let test = "pipeline::kills::a_topic_that_takes_small_batches_only_gets_small_ones";
    let mut random = random::seeded(test);
    let conditions = Conditions {
        batch_bytes: 5_000,
        ..PATIENT
    };
    runtime().block_on(async {
        let Some(mut world) = World::start(test, conditions).await else {
            return;
        };
        world.input.write(&mut random, 2_000);
        world.outcome_is_exact().await;
    });
}

#[test]
fn whatever_is_killed_the_sinks_have_every_row_once() {
    serve_if_child();
    let test = "pipeline::kills::whatever_is_killed_the_sinks_have_every_row_once";
    let runs = std::env::var("RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok());
    for run in 0..runs.unwrap_or(3) {
        let mut random =
            random::seeded_run("whatever_is_killed_the_sinks_have_every_row_once", run);
        runtime().block_on(async {
            let Some(mut world) = World::start(test, PATIENT).await else {
                return;
            };
            // The connectors are created once: later workers know them from the config topic.
            world.input.write(&mut random, 50);
            world.drained().await;
            for (number, victim) in plan(&mut random).into_iter().enumerate() {
                let lines = 50 + random.below(400);
                world.input.write(&mut random, lines);
                world.moment(&mut random).await;
                world.all_alive();
                let arrived = (world.table_rows().await, world.file_rows());
                println!(
                    "kill {number}: {victim:?}; arrived {arrived:?} of {}",
                    world.due()
                );
                world.kill(victim);
            }
            world.input.write(&mut random, 500);
            world.outcome_is_exact().await;
        });
    }
}
