//! Processes that stand still while a successor takes their place, and come back: they are fenced and change nothing.
//!
//! SIGSTOP at a random moment, a successor, SIGCONT. The worker's tasks are a source and two sinks: each is fenced where it writes, by the coordinator of its
//! transactions, by the row of its claim, by the name of its file. No successor waits for a transaction or a session to run out: they would last longer
//! than the test is patient.
//!
//! Whoever comes back and has no successor is no zombie: its transaction was aborted meanwhile, and it goes on by itself.

use std::time::{Duration, Instant};

use super::application::{APPLICATION, FOR_EVER, serve_if_child};
use super::world::{Conditions, PATIENT, SINKS, SOURCE, World};
use crate::random::{self, Random};
use crate::streams::runtime;
use crate::until;
use crate::worker::{GROUP, Worker};

/// What else happens, to the old process's disadvantage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    /// The broker was away already when the old process was stopped: it stands still in the middle of a commit.
    BrokerIsAway,
    /// The broker is killed and started again: the old process finds none of its connections open.
    BrokerDies,
    /// The same of PostgreSQL.
    PostgresDies,
}

impl World {
    /// Writes for a while, so that the process to be stopped is at work; returns in the middle of it.
    async fn at_work(&mut self, random: &mut Random) {
        self.input.write(random, 50);
        self.drained().await;
        let before = self.due();
        while self.table_rows().await <= before {
            self.input.write(random, 300);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(50) as u64)).await;
    }

    /// Waits until the old worker knows in every task that it is replaced, while there is work for them to try.
    async fn is_fenced(&mut self, zombie: &Worker, random: &mut Random) {
        until("every task of the old worker is fenced", async || {
            self.input.write(random, 10);
            for connector in [SOURCE].into_iter().chain(SINKS) {
                let tasks = zombie.tasks(connector);
                let fenced = |task: &String| task.starts_with("FAILED: fenced");
                if tasks.len() != 1 || !tasks.iter().all(fenced) {
                    return Err(format!("{connector}: {tasks:?}"));
                }
            }
            Ok(())
        })
        .await;
        self.input.write(random, 100);
    }

    async fn meanwhile(&mut self, meanwhile: Meanwhile) {
        match meanwhile {
            Meanwhile::Nothing | Meanwhile::BrokerIsAway => {}
            Meanwhile::BrokerDies => {
                self.server.kill();
                self.server.restart();
            }
            Meanwhile::PostgresDies => {
                self.postgres.crash();
                self.postgres.resume();
            }
        }
    }
}

fn zombie_worker(test: &'static str, meanwhile: Meanwhile) {
    serve_if_child();
    let mut random = random::seeded(test);
    runtime().block_on(async {
        let Some(mut world) = World::start(test, PATIENT).await else {
            return;
        };
        world.at_work(&mut random).await;
        world.worker.freeze();
        let successor = world.another_worker("successor.log");
        let zombie = std::mem::replace(&mut world.worker, successor);
        world.input.write(&mut random, 100);
        world.drained().await;
        world.meanwhile(meanwhile).await;
        zombie.thaw();
        world.is_fenced(&zombie, &mut random).await;
        world.outcome_is_exact().await;
    });
}

#[test]
fn a_worker_that_comes_back_after_its_successor_took_over_is_fenced_in_every_task() {
    let test = "pipeline::zombies::a_worker_that_comes_back_after_its_successor_took_over_is_fenced_in_every_task";
    zombie_worker(test, Meanwhile::Nothing);
}

#[test]
fn a_worker_that_comes_back_to_broken_connections_does_not_take_its_place_again() {
    let test = "pipeline::zombies::a_worker_that_comes_back_to_broken_connections_does_not_take_its_place_again";
    zombie_worker(test, Meanwhile::BrokerDies);
}

#[test]
fn a_worker_that_comes_back_to_a_database_that_crashed_is_fenced_there_too() {
    let test = "pipeline::zombies::a_worker_that_comes_back_to_a_database_that_crashed_is_fenced_there_too";
    zombie_worker(test, Meanwhile::PostgresDies);
}

#[test]
fn a_worker_that_stood_still_while_it_was_starting_again_does_not_take_its_place_again() {
    serve_if_child();
    let test = "pipeline::zombies::a_worker_that_stood_still_while_it_was_starting_again_does_not_take_its_place_again";
    let mut random = random::seeded(test);
    let conditions = Conditions {
        delivery: Duration::from_millis(300),
        ..PATIENT
    };
    runtime().block_on(async {
        let Some(mut world) = World::start(test, conditions).await else {
            return;
        };
        world.at_work(&mut random).await;
        // It gives up soon if a batch was on its way; a commit that was, it repeats for longer than this test waits: then once more.
        let gave_up = |world: &World| {
            let said = world.worker.log();
            said.contains("starting again from the last commit")
        };
        world.server.kill();
        let mut killed = Instant::now();
        while !gave_up(&world) {
            world.input.write(&mut random, 10);
            tokio::time::sleep(Duration::from_millis(20)).await;
            if killed.elapsed() > Duration::from_secs(3) {
                world.server.restart();
                world.at_work(&mut random).await;
                world.server.kill();
                killed = Instant::now();
            }
        }
        world.worker.freeze();
        world.server.restart();
        let successor = world.another_worker("successor.log");
        let zombie = std::mem::replace(&mut world.worker, successor);
        world.input.write(&mut random, 100);
        world.drained().await;
        zombie.thaw();
        world.is_fenced(&zombie, &mut random).await;
        world.outcome_is_exact().await;
    });
}

/// The successor has the identity of the old process and an empty state folder, as after a failover to another machine.
fn zombie_application(test: &'static str, meanwhile: Meanwhile, transaction: Duration) {
    serve_if_child();
    let mut random = random::seeded(test);
    let conditions = Conditions {
        transaction,
        ..PATIENT
    };
    runtime().block_on(async {
        let Some(mut world) = World::start(test, conditions).await else {
            return;
        };
        world.at_work(&mut random).await;
        if meanwhile == Meanwhile::BrokerIsAway {
            world.server.kill();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        world.application.freeze();
        let frozen = Instant::now();
        if meanwhile == Meanwhile::BrokerIsAway {
            world.server.restart();
        }
        let identity = |folder: &str| {
            let folder = world.folder.path().join(folder).join(APPLICATION);
            std::fs::create_dir_all(&folder).expect("a folder");
            folder.join("process-id")
        };
        std::fs::copy(identity("state"), identity("other-state")).expect("copied");
        let successor = world.another_application("other-state");
        let mut zombie = std::mem::replace(&mut world.application, successor);
        world.input.write(&mut random, 100);
        world.drained().await;
        world.meanwhile(meanwhile).await;
        if transaction < FOR_EVER {
            until("its transaction has lasted too long", async || {
                (frozen.elapsed() > transaction)
                    .then_some(())
                    .ok_or("not yet".to_owned())
            })
            .await;
        }
        zombie.thaw();
        until("the old process stops by itself", async || {
            world.input.write(&mut random, 10);
            zombie
                .has_ended()
                .then_some(())
                .ok_or("it lives".to_owned())
        })
        .await;
        let said = zombie.log();
        assert!(said.contains("stopped by itself: "), "{said}");
        assert!(said.contains("fenced"), "{said}");
        world.input.write(&mut random, 100);
        world.outcome_is_exact().await;
    });
}

#[test]
fn an_application_that_comes_back_after_its_successor_took_over_stops_and_says_so() {
    let test = "pipeline::zombies::an_application_that_comes_back_after_its_successor_took_over_stops_and_says_so";
    zombie_application(test, Meanwhile::Nothing, FOR_EVER);
}

#[test]
fn an_application_that_comes_back_to_broken_connections_does_not_take_its_place_again() {
    let test = "pipeline::zombies::an_application_that_comes_back_to_broken_connections_does_not_take_its_place_again";
    zombie_application(test, Meanwhile::BrokerDies, FOR_EVER);
}

#[test]
fn an_application_whose_transaction_ran_out_while_it_stood_still_does_not_take_its_place_again() {
    let test = "pipeline::zombies::an_application_whose_transaction_ran_out_while_it_stood_still_does_not_take_its_place_again";
    zombie_application(test, Meanwhile::BrokerIsAway, Duration::from_secs(1));
}

/// Stands still in the middle of a transaction, until the coordinator has aborted it.
async fn stands_still(world: &mut World, random: &mut Random, whose: &str, process: Process) {
    loop {
        world.at_work(random).await;
        process.freeze(world);
        if world.has_open_transaction(whose).await {
            break;
        }
        process.thaw(world);
    }
    until("its transaction is aborted", async || {
        match world.has_open_transaction(whose).await {
            true => Err("it is open".to_owned()),
            false => Ok(()),
        }
    })
    .await;
    process.thaw(world);
}

#[derive(Debug, Clone, Copy)]
enum Process {
    Worker,
    Application,
}

impl Process {
    fn freeze(self, world: &World) {
        match self {
            Process::Worker => world.worker.freeze(),
            Process::Application => world.application.freeze(),
        }
    }

    fn thaw(self, world: &World) {
        match self {
            Process::Worker => world.worker.thaw(),
            Process::Application => world.application.thaw(),
        }
    }
}

#[test]
fn who_stood_still_for_longer_than_a_transaction_may_last_goes_on_by_itself() {
    serve_if_child();
    let test = "pipeline::zombies::who_stood_still_for_longer_than_a_transaction_may_last_goes_on_by_itself";
    let mut random = random::seeded(test);
    let conditions = Conditions {
        transaction: Duration::from_secs(1),
        ..PATIENT
    };
    runtime().block_on(async {
        let Some(mut world) = World::start(test, conditions).await else {
            return;
        };
        let source = format!("{GROUP}-{SOURCE}-");
        stands_still(&mut world, &mut random, &source, Process::Worker).await;
        world.input.write(&mut random, 100);
        world.drained().await;
        let application = format!("{APPLICATION}-");
        stands_still(&mut world, &mut random, &application, Process::Application).await;
        world.input.write(&mut random, 100);
        world.outcome_is_exact().await;
    });
}
