//! The broker's clock, randomness and tasks in the simulation.
//!
//! Virtual time is tokio's; the wall clock is virtual time since 2026-01-01 and whatever steps the nemesis made. Blocking work runs on the
//! one thread there is, but not at once: it waits its turn for as long as the seed says, as it would for a thread and a disk.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flumen_broker::clock::{Clock, Instant};
use flumen_broker::driver::{Entropy, Tasks};

use crate::dice::Dice;
use crate::disk::{Machine, Power};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Wall time of the simulation's first moment: 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;

thread_local! {
    /// How far the clients' wall clocks are off; a simulation never leaves its thread.
    static CLIENTS_OFF_MS: Cell<i64> = const { Cell::new(0) };
}

/// Steps the wall clocks of all clients.
pub(crate) fn set_clients_off_ms(off: i64) {
    CLIENTS_OFF_MS.set(off);
}

/// The wall clock of clients.
pub(crate) fn clients_wall_ms() -> i64 {
    virtual_wall_ms() + CLIENTS_OFF_MS.get()
}

fn virtual_wall_ms() -> i64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    START_MS + i64::try_from(elapsed.as_millis()).unwrap()
}

#[derive(Debug)]
pub(crate) struct SimClock {
    pub(crate) off_ms: Arc<AtomicI64>,
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_ms(&self) -> i64 {
        virtual_wall_ms() + self.off_ms.load(Ordering::Relaxed)
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(deadline))
    }
}

#[derive(Debug)]
pub(crate) struct SimEntropy(pub(crate) Mutex<Dice>);

impl Entropy for SimEntropy {
    fn fill(&self, buf: &mut [u8]) {
        let mut dice = self.0.lock().unwrap();
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&dice.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[derive(Debug)]
pub(crate) struct SimTasks {
    pub(crate) dice: Mutex<Dice>,
    /// Longest wait for a turn.
    pub(crate) turn: Duration,
    pub(crate) machine: Arc<Machine>,
    pub(crate) power: Arc<Power>,
}

impl Tasks for SimTasks {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        let most = u64::try_from(self.turn.as_micros()).unwrap();
        let turn = Duration::from_micros(self.dice.lock().unwrap().below(most));
        let wait = turn + self.machine.slow();
        let power = Arc::clone(&self.power);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if power.is_off() {
                return std::future::pending().await;
            }
            work();
        });
    }
}
