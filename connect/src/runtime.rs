//! Tasks and time: the driver file of this crate beside `rest.rs`. Everything else is told what time it is and runs where it is put.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;

/// Runs `future` beside the caller. `name` says what for, in logs.
#[expect(clippy::disallowed_methods, reason = "the one spawn of this crate")]
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tracing::trace!(name, "task started");
    tokio::spawn(future)
}

/// Waits for time to pass.
#[expect(clippy::disallowed_methods, reason = "the one sleep of this crate")]
pub(crate) async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The clock that never goes back. Tokio's, so that it stands still in tests that pause it.
#[expect(clippy::disallowed_methods, reason = "the one clock of this crate")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one wall clock of this crate"
)]
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
