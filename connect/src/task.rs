//! What both kinds of tasks share: who they are, how they are told to stop or pause, what becomes of a record that fails.
//!
//! Owns [`TaskParts`] and [`Control`]. `supervisor.rs` makes them; `source_task.rs` and `sink_task.rs` run with them.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use flumen_client::{Client, ClientError, Compression, Producer, ProducerConfig, ProducerRecord};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::converter::Converter;
use crate::dead_letter::{Context, DeadLetter};
use crate::error::TaskError;
use crate::retry::{Backoff, Tolerance};
use crate::state::TargetState;
use crate::status::{State, Status};
use crate::topics::InternalTopics;
use crate::worker::Inner;

/// A task and its surroundings.
#[derive(Clone)]
pub(crate) struct TaskParts {
    /// The worker that runs it.
    pub(crate) worker: Weak<Inner>,
    pub(crate) client: Client,
    pub(crate) topics: Arc<InternalTopics>,
    /// The worker's `group.id`: part of transactional ids.
    pub(crate) group_id: String,
    pub(crate) worker_id: String,
    pub(crate) connector: String,
    pub(crate) class: String,
    pub(crate) task: usize,
    /// How many tasks the connector has.
    pub(crate) tasks: usize,
    pub(crate) settings: Settings,
    pub(crate) key_converter: Arc<dyn Converter>,
    pub(crate) value_converter: Arc<dyn Converter>,
    /// Topics that were written or read, for `GET /connectors/{c}/topics`.
    pub(crate) seen: Arc<Mutex<BTreeSet<String>>>,
}

/// How a task is told what to do, and tells what it does.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) stop: CancellationToken,
    pub(crate) target: watch::Receiver<TargetState>,
    pub(crate) tell: Arc<dyn Fn(Status) + Send + Sync>,
}

impl Control {
    pub(crate) fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) fn paused(&self) -> bool {
        *self.target.borrow() == TargetState::Paused
    }

    pub(crate) fn running(&self) {
        (self.tell)(Status::new(if self.paused() {
            State::Paused
        } else {
            State::Running
        }));
    }

    /// Waits until the task shall go on or stop.
    pub(crate) async fn until_resumed(&mut self) {
        (self.tell)(Status::new(State::Paused));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            _ = self.target.wait_for(|target| *target != TargetState::Paused) => {}
        }
        self.running();
    }

    /// Waits for `time`, or until the task shall stop.
    pub(crate) async fn sleep(&self, time: Duration) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = crate::runtime::sleep(time) => {}
        }
    }
}

impl TaskParts {
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.connector, self.task)
    }

    /// Makes sure that the worker still has its place; see [`Inner::confirm_place`].
    pub(crate) async fn confirm_place(&self) -> Result<(), TaskError> {
        match self.worker.upgrade() {
            Some(worker) => worker.confirm_place().await,
            None => Err(TaskError::fatal("the worker ended")),
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(
            Duration::from_millis(200),
            self.settings.duration("errors.retry.delay.max.ms"),
        )
    }

    /// Whether trouble that began `since` is still borne.
    pub(crate) fn bears(&self, since: std::time::Instant) -> bool {
        let limit = self.settings.int("errors.retry.timeout");
        limit < 0
            || crate::runtime::now().duration_since(since)
                < self.settings.duration("errors.retry.timeout")
    }

    /// A producer's options, with the connector's `producer.override.*`.
    ///
    /// # Errors
    /// A sentence naming the option that cannot be read.
    pub(crate) fn producer_config(&self) -> Result<ProducerConfig, TaskError> {
        let mut config = ProducerConfig {
            max_request_bytes: 8 << 20,
            ..ProducerConfig::default()
        };
        for (name, value) in self.settings.under("producer.override.") {
            let wrong = || {
                TaskError::fatal(format!(
                    "Invalid value {value} for configuration producer.override.{name}"
                ))
            };
            let number = || value.trim().parse::<usize>().map_err(|_| wrong());
            match name.as_str() {
                "compression.type" => config.compression = compression(&value).ok_or_else(wrong)?,
                "linger.ms" => config.linger = Duration::from_millis(number()? as u64),
                "max.request.size" => config.max_request_bytes = number()?,
                "buffer.memory" => config.buffer_bytes = number()?,
                "delivery.timeout.ms" => {
                    config.delivery_timeout = Duration::from_millis(number()? as u64)
                }
                "transaction.timeout.ms" => {
                    config.transaction_timeout = Duration::from_millis(number()? as u64)
                }
                _ => tracing::warn!(
                    task = self.name(),
                    "producer.override.{name} is not known here and has no effect"
                ),
            }
        }
        Ok(config)
    }

    /// Decides about records that failed: the dead letters to be sent, or the error that stops the task.
    pub(crate) fn judge(&self, letters: Vec<DeadLetter>) -> Result<Vec<ProducerRecord>, TaskError> {
        let Some(first) = letters.first() else {
            return Ok(Vec::new());
        };
        if Tolerance::of(&self.settings) == Tolerance::None {
            return Err(TaskError::fatal(first.describe()));
        }
        if self.settings.bool("errors.log.enable") {
            for letter in &letters {
                let value = letter
                    .value
                    .as_deref()
                    .filter(|_| self.settings.bool("errors.log.include.messages"));
                let shown = value.map(|value| {
                    String::from_utf8_lossy(&value[..value.len().min(200)]).into_owned()
                });
                tracing::warn!(
                    task = self.name(),
                    value = shown,
                    "a record could not be handled: {}",
                    letter.describe()
                );
            }
        }
        let Some(topic) = self.settings.opt("errors.deadletterqueue.topic.name") else {
            tracing::warn!(
                task = self.name(),
                count = letters.len(),
                "left out records that could not be handled, the first: {}",
                first.describe()
            );
            return Ok(Vec::new());
        };
        let context = Context {
            connector: &self.connector,
            task: self.task,
            class: &self.class,
        };
        let context = self
            .settings
            .bool("errors.deadletterqueue.context.headers.enable")
            .then_some(&context);
        Ok(letters
            .into_iter()
            .map(|letter| letter.into_record(topic, context))
            .collect())
    }

    /// Makes the dead letter topic if one is named and missing.
    pub(crate) async fn ensure_dead_letter_topic(&self) -> Result<(), TaskError> {
        let Some(topic) = self.settings.opt("errors.deadletterqueue.topic.name") else {
            return Ok(());
        };
        let replication_factor = i16::try_from(
            self.settings
                .int("errors.deadletterqueue.topic.replication.factor"),
        )
        .unwrap_or(-1);
        let topic = flumen_client::NewTopic {
            replication_factor,
            ..flumen_client::NewTopic::new(topic, 1)
        };
        flumen_client::Admin::new(&self.client)
            .ensure_topics(&[topic])
            .await
            .map_err(client_error)
    }
}

fn compression(name: &str) -> Option<Compression> {
    match name.trim().to_ascii_lowercase().as_str() {
        "none" => Some(Compression::None),
        "gzip" => Some(Compression::Gzip),
        "snappy" => Some(Compression::Snappy),
        "lz4" => Some(Compression::Lz4),
        "zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

/// Sends records outside of a transaction and waits until all are acknowledged.
pub(crate) async fn send_and_wait(
    producer: &Producer,
    records: Vec<ProducerRecord>,
) -> Result<(), TaskError> {
    for record in records {
        drop(producer.send(record).await.map_err(client_error)?);
    }
    producer.flush().await.map_err(client_error)
}

/// What a client's error asks of a task.
pub(crate) fn client_error(error: ClientError) -> TaskError {
    match error {
        ClientError::Fenced(why) => TaskError::Fenced(why.to_string()),
        _ if error.will_repeat() => TaskError::Fatal(Box::new(error)),
        ClientError::Unavailable(_)
        | ClientError::Timeout(_)
        | ClientError::TransactionAbortable(_)
        | ClientError::Fatal(_)
        | ClientError::Rebalance(_) => TaskError::Retry {
            after: Duration::ZERO,
            cause: Box::new(error),
        },
        other => TaskError::Fatal(Box::new(other)),
    }
}
