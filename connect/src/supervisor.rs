//! Keeps one task running: catches its panics, starts it again after a failure, stops it in time.
//!
//! Owns a task from its first start to its end. `worker.rs` makes one per task; a connector's failure never reaches another. Transitions:
//!
//! RUNNING → FAILED: the task returned an error, or panicked. FAILED → RUNNING: after a pause that doubles (`restart.backoff.ms`), unless it was fenced or has
//! used up `restart.attempts`; at once when somebody asks for a restart. RUNNING ⇄ PAUSED: the task itself, by its target state.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::error::TaskError;
use crate::registry::Connector;
use crate::retry::Backoff;
use crate::runtime;
use crate::status::{State, Status};
use crate::task::{Control, TaskParts};
use crate::{sink_task, source_task};

/// A task that ran so long without an error has got over its earlier ones.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// What a supervisor needs beside the task.
pub(crate) struct Supervised {
    pub(crate) parts: TaskParts,
    pub(crate) plugin: Connector,
    pub(crate) control: Control,
    /// Somebody asks for a restart.
    pub(crate) restart: Arc<Notify>,
    /// How long a task may take to stop. Kafka: `task.shutdown.graceful.timeout.ms`.
    pub(crate) graceful: Duration,
}

/// A task that ends when its handle is dropped.
struct Running(JoinHandle<Result<(), TaskError>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Supervised {
    /// Runs until the task shall stop.
    pub(crate) async fn run(self) {
        let settings = &self.parts.settings;
        let mut backoff = Backoff::new(
            settings.duration("restart.backoff.ms"),
            settings.duration("restart.backoff.max.ms"),
        );
        while !self.control.stopping() {
            let began = runtime::now();
            let Some(failed) = self.once().await else {
                continue;
            };
            if runtime::now().duration_since(began) >= HEALTHY_AFTER {
                backoff.reset();
            }
            let pause = backoff.next(Duration::ZERO);
            let again = self.starts_again(&failed, backoff.failures());
            // A task that fails for ever says so ever more rarely; its status always does.
            if backoff.is_news() {
                tracing::error!(
                    task = self.parts.name(),
                    again,
                    attempt = backoff.failures(),
                    "the task failed: {failed}"
                );
            }
            (self.control.tell)(Status::failed(failed.to_string()));
            tokio::select! {
                biased;
                () = self.control.stop.cancelled() => {}
                () = self.restart.notified() => backoff.reset(),
                () = runtime::sleep(pause), if again => {}
            }
        }
    }

    fn starts_again(&self, failed: &TaskError, failures: u32) -> bool {
        let attempts = self.parts.settings.int("restart.attempts");
        !matches!(failed, TaskError::Fenced(_)) && (attempts < 0 || i64::from(failures) <= attempts)
    }

    /// One run of the task; its error, if it had one.
    async fn once(&self) -> Option<TaskError> {
        let mut control = self.control.clone();
        control.stop = self.control.stop.child_token();
        let attempt = control.stop.clone();
        let (parts, plugin) = (self.parts.clone(), self.plugin.clone());
        let mut running = Running(runtime::spawn("connector task", async move {
            match plugin {
                Connector::Source(source) => source_task::run(&parts, &source, &mut control).await,
                Connector::Sink(sink) => sink_task::run(&parts, &sink, &mut control).await,
            }
        }));
        tokio::select! {
            biased;
            ended = &mut running.0 => return outcome(ended),
            () = self.restart.notified() => (self.control.tell)(Status::new(State::Restarting)),
            () = attempt.cancelled() => {}
        }
        attempt.cancel();
        tokio::select! {
            biased;
            _ = &mut running.0 => {}
            () = runtime::sleep(self.graceful) => {
                tracing::warn!(task = self.parts.name(), "the task did not stop within {:?} and was ended", self.graceful);
            }
        }
        None
    }
}

fn outcome(ended: Result<Result<(), TaskError>, tokio::task::JoinError>) -> Option<TaskError> {
    match ended {
        Ok(result) => result.err(),
        Err(e) if e.is_panic() => {
            let panic = e.into_panic();
            let words = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Some(TaskError::fatal(format!(
                "the task panicked: {}",
                words.unwrap_or("without a word")
            )))
        }
        Err(_) => None,
    }
}
