//! The one clock of the broker: monotonic time for waits, wall time for record timestamps.
//!
//! Called by drivers only; state machines get the time as an argument. Built on tokio's timer, so that a paused or simulated
//! runtime (turmoil) moves it without a second implementation of waiting.

use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;

/// A point in monotonic time; tokio's, so that simulated time works.
pub type Instant = tokio::time::Instant;

/// Where time comes from.
pub trait Clock: Send + Sync + Debug {
    /// Monotonic time, for deadlines.
    fn now(&self) -> Instant;
    /// Wall time in milliseconds since 1970, for timestamps that leave the process. May jump.
    fn wall_ms(&self) -> i64;
    /// Returns at `deadline`, at once if it has passed.
    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()>;
    /// Returns after `wait`.
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now() + wait)
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsClock;

impl Clock for OsClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall_ms(&self) -> i64 {
        // A machine set before 1970 stamps 0: no worse than any other wrong date.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(deadline))
    }
}
