//! What a session does when something broke: a lost position, a step that failed, an engine that is gone.

use std::time::Duration;

use flumen_client::{Admin, ClientError, GroupMember};
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
        if !matches!(broken, Broken::Lost) {
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
            // The broker aborts a transaction that is open for too long, and its producer is fenced: that is our own doing.
            ClientError::Fenced(_)
                if self.app.clock.now() - self.closed_at >= self.app.config.transaction_timeout =>
            {
                tracing::warn!(%error, "the transaction was open for too long and is void; starting again from the last commit");
                Ok(())
            }
            ClientError::Fenced(_) => Err(self.fenced(error.clone()).await),
            ClientError::Unavailable(_)
            | ClientError::Timeout(_)
            | ClientError::Rebalance(_)
            | ClientError::TransactionAbortable(_)
            | ClientError::Fatal(_)
            | ClientError::Closed(_) => {
                tracing::warn!(%error, "what was not committed is dropped; starting again from the last commit");
                Ok(())
            }
            _ => Err(error.clone().into()),
        }
    }

    /// The end of this instance: somebody else is who it was. The group knows where that one runs.
    pub(super) async fn fenced(&self, error: ClientError) -> StreamsError {
        let mut other = None;
        // The other one first claims the transactional id, then the place in the group.
        for _ in 0..NAME_TRIES {
            other = self.who_is_it().await;
            if other.is_some() {
                break;
            }
            self.app.pause(NAME_PAUSE).await;
        }
        let by = other.map_or_else(
            || "another process".to_owned(),
            |member| format!("member {} at {}", member.member_id, member.host),
        );
        let identity = self.app.transactional_id(self.index);
        StreamsError::Fenced {
            identity,
            by,
            error,
        }
    }

    /// The member of the group that bears our name and is not us.
    async fn who_is_it(&self) -> Option<GroupMember> {
        let name = self.app.instance_id(self.index)?;
        let mine = self.consumer.group_metadata().member_id;
        let admin = Admin::new(&self.app.client);
        let group = admin.describe_group(&self.app.config.application_id).await;
        let mut members = group.ok()?.members.into_iter();
        members.find(|member| {
            member.group_instance_id.as_ref() == Some(&name) && member.member_id != mine
        })
    }
}
