//! Driver: clock, waiting, tasks and chance.
//!
//! Everything of this crate that must know the time, wait, run beside its caller or roll dice comes here; the
//! pure cores get the result as an argument. The clock is tokio's, so it follows the simulator's virtual time.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the monotonic clock of this crate"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, for records that come without a timestamp.
#[expect(clippy::disallowed_methods, reason = "the wall clock of this crate")]
pub(crate) fn wall_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Waits until `deadline`; forever if there is none.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "the one wait of this crate")]
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A seed for jitter and sticky partitions: different in every process.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A task that ends when its owner is dropped.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `future` beside the caller until it ends or the returned handle is dropped.
#[expect(clippy::disallowed_methods, reason = "the one spawn of this crate")]
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(future))
}

/// Small deterministic numbers for jitter and spread (xorshift64*); not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed | 1)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        usize::try_from(self.next_u64() % bound as u64).unwrap_or(0)
    }

    /// `base`, less or more a fifth: clients that failed together do not return together.
    pub(crate) fn jitter(&mut self, base: Duration) -> Duration {
        let fifth = base / 5;
        let spread = u64::try_from(fifth.as_micros() * 2).unwrap_or(u64::MAX);
        if spread == 0 {
            return base;
        }
        base - fifth + Duration::from_micros(self.next_u64() % spread)
    }
}

/// Waits until `at` if there is such a time.
pub(crate) async fn wait_for(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
