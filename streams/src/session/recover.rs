//! What a session does when something broke: a lost position, a step that failed, an engine that is gone.

use std::time::Duration;

use flumen_client::{Admin, ClientError, GroupMember};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicPartition;

use super::connect::{connect_producer, start_worker};
use super::{PAUSE_FIRST, PAUSE_MAX, Session};
use crate::app::StreamsState;
use crate::config::{OnError, PositionLost};
use crate::error::{EngineError, StreamsError};
use crate::metrics::StreamsMetrics;

/// How often and how long a fenced instance asks who fenced it.
const NAME_TRIES: u32 = 10;
const NAME_PAUSE: Duration = Duration::from_millis(300);

/// Why the engine has to be made anew.
pub(super) enum Broken {
    Client(ClientError),
    Engine(EngineError),
    /// Partitions were lost: others may run them already.
    Lost,
}

impl Session {
    pub(super) async fn position_lost(
        &mut self,
        partition: TopicPartition,
        position: i64,
        (log_start, log_end): (i64, i64),
    ) -> Result<(), StreamsError> {
        let (log_start, log_end) = self.bounds(&partition, log_start, log_end).await?;
        let TopicPartition {
            topic,
            partition: number,
        } = &partition;
        let target = match self.app.config.position_lost {
            PositionLost::Stop => {
                let (topic, partition) = (topic.clone(), *number);
                return Err(StreamsError::PositionLost {
                    topic,
                    partition,
                    position,
                    log_start,
                    log_end,
                });
            }
            PositionLost::ResetToEarliest => log_start,
            PositionLost::ResetToLatest => log_end,
        };
        let skipped = u64::try_from(target - position).unwrap_or(0);
        tracing::warn!(
            topic,
            partition = number,
            position,
            log_start,
            log_end,
            resume_at = target,
            skipped,
            "the position is gone (retention, truncation, or the topic was made anew): records in [position, resume_at) are skipped"
        );
        StreamsMetrics::add(&self.app.metrics.skipped_records, skipped);
        self.consumer.seek(&partition, target)?;
        let moved = self.tasks.moved(&self.app.plan, &partition, target);
        self.give(moved.into_iter().collect());
        Ok(())
    }

    /// What the log has, where the consumer could not say.
    async fn bounds(
        &self,
        partition: &TopicPartition,
        log_start: i64,
        log_end: i64,
    ) -> Result<(i64, i64), ClientError> {
        if log_start >= 0 && log_end >= 0 {
            return Ok((log_start, log_end));
        }
        let only = std::slice::from_ref(partition);
        let starts = self.consumer.beginning_offsets(only).await?;
        let ends = self.consumer.end_offsets(only).await?;
        let of = |offsets: &std::collections::BTreeMap<TopicPartition, i64>, known: i64| {
            offsets.get(partition).copied().unwrap_or(known)
        };
        Ok((of(&starts, log_start), of(&ends, log_end)))
    }

    /// Drops the engine and everything that is not committed, and starts another from what is.
    pub(super) async fn reset(&mut self, broken: Broken) -> Result<(), StreamsError> {
        self.cycle.on_error();
        self.stop_preparing().await;
        self.stop_step().await;
        match &broken {
            Broken::Client(error) if self.closing => return Err(error.clone().into()),
            Broken::Client(error) => self.judge(error).await?,
            Broken::Engine(error) if self.app.config.on_error == OnError::Stop => {
                return Err(error.clone().into());
            }
            Broken::Engine(error) => {
                tracing::error!(%error, "the engine failed and starts again from the last commit")
            }
            Broken::Lost => {}
        }
        StreamsMetrics::add(&self.app.metrics.aborts, 1);
        self.app.entered(self.index, StreamsState::Rebalancing);
        let smaller = matches!(&broken, Broken::Client(error) if is_too_large(error));
        if !matches!(broken, Broken::Lost) && !smaller {
            let pause = PAUSE_FIRST
                .saturating_mul(1 << self.failures.min(10))
                .min(PAUSE_MAX);
            self.failures += 1;
            self.app.pause(pause).await;
        }
        let worker = start_worker(&self.app, self.index)?;
        let old = std::mem::replace(&mut self.worker, worker);
        self.app.config.threads.blocking(move || drop(old)).await;
        self.producer = connect_producer(&self.app, self.index).await?;
        (self.closed, self.queued_bytes, self.drained) = (None, 0, false);
        self.written.clear();
        self.offsets.clear();
        self.cycle.reset(self.app.clock.now());
        if self.revoking.is_some() || self.closing {
            self.cycle.want_all_committed();
        }
        let partitions = self.tasks.all_partitions();
        self.quietly(self.consumer.pause(&partitions));
        self.to_prepare = self.tasks.reset();
        Ok(())
    }

    /// Whether an error of the cluster can be cured by starting again.
    async fn judge(&self, error: &ClientError) -> Result<(), StreamsError> {
        match error {
            ClientError::Fenced(_) => self.judge_fence(error).await,
            _ if is_too_large(error) && self.app.halve_batches() => {
                tracing::info!(%error, "batches get smaller; starting again from the last commit");
                Ok(())
            }
            _ if error.will_repeat() && self.app.config.on_error == OnError::Stop => {
                Err(error.clone().into())
            }
            ClientError::Unavailable(_)
            | ClientError::Timeout(_)
            | ClientError::Rebalance(_)
            | ClientError::TransactionAbortable(_)
            | ClientError::Fatal(_)
            | ClientError::Closed(_) => {
                // Starting again fences whoever has the transactional id: not if that is a successor, who came while this process stood still.
                if let Owner::Other(member) = self.owner().await {
                    return Err(self.fenced_by(named(&member), error.clone()));
                }
                tracing::warn!(%error, "what was not committed is dropped; starting again from the last commit");
                Ok(())
            }
            _ => Err(error.clone().into()),
        }
    }

    /// The producer is fenced: by the broker, which aborts a transaction that is open for too long, or by another process of our identity.
    /// Whoever has the place in the group goes on, the other one stops: so one of the two is left, whoever claimed the transactional id last.
    async fn judge_fence(&self, error: &ClientError) -> Result<(), StreamsError> {
        let ran_out = self.app.clock.now() - self.closed_at >= self.app.config.transaction_timeout;
        let mut owner = self.owner().await;
        // Another process claims the transactional id first, then the place in the group.
        for _ in 1..NAME_TRIES {
            if ran_out || matches!(owner, Owner::Other(_)) {
                break;
            }
            self.app.pause(NAME_PAUSE).await;
            owner = self.owner().await;
        }
        match owner {
            Owner::Other(member) => Err(self.fenced_by(named(&member), error.clone())),
            Owner::Unknown if !ran_out => {
                Err(self.fenced_by("another process".to_owned(), error.clone()))
            }
            Owner::Us | Owner::Unknown => {
                tracing::warn!(%error, "the transaction was open for too long, or claimed by a process that has no place in the group: it is void; starting again from the last commit");
                Ok(())
            }
        }
    }

    /// The end of this instance: somebody else is who it was. The group knows where that one runs.
    pub(super) async fn fenced(&self, error: ClientError) -> StreamsError {
        for _ in 0..NAME_TRIES {
            if let Owner::Other(member) = self.owner().await {
                return self.fenced_by(named(&member), error);
            }
            self.app.pause(NAME_PAUSE).await;
        }
        self.fenced_by("another process".to_owned(), error)
    }

    fn fenced_by(&self, by: String, error: ClientError) -> StreamsError {
        let mut identity = self.app.transactional_id(self.index);
        if let Some((id, epoch)) = self.producer.producer_id() {
            identity += &format!(" (here producer {id} in epoch {epoch})");
        }
        StreamsError::Fenced {
            identity,
            by,
            error,
        }
    }

    /// Who has our place in the group.
    async fn owner(&self) -> Owner {
        let Some(name) = self.app.instance_id(self.index) else {
            return Owner::Unknown;
        };
        let mine = self.consumer.group_metadata().member_id;
        let admin = Admin::new(&self.app.client);
        let group = tokio::select! {
            biased;
            () = self.app.told_to_close() => return Owner::Unknown,
            group = admin.describe_group(&self.app.config.application_id) => group,
        };
        let members = group.map(|group| group.members).unwrap_or_default();
        let mut named = members
            .into_iter()
            .filter(|member| member.group_instance_id.as_ref() == Some(&name));
        match named.next() {
            Some(member) if member.member_id == mine => Owner::Us,
            Some(member) => Owner::Other(member),
            None => Owner::Unknown,
        }
    }
}

/// A batch was refused because of its topic's `max.message.bytes` or `segment.bytes`: time does not help, smaller batches do.
fn is_too_large(error: &ClientError) -> bool {
    error.code().is_some_and(|code| {
        matches!(
            ErrorCode::from_code(code),
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge
        )
    })
}

/// Who bears the name of an engine's group member.
enum Owner {
    Us,
    Other(GroupMember),
    /// Nobody does now, or nobody answers.
    Unknown,
}

fn named(member: &GroupMember) -> String {
    format!("member {} at {}", member.member_id, member.host)
}
