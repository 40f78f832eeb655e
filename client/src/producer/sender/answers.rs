//! What an answer, or its absence, says of the batches of a request: written, to be sent again, or given up. Pure.
//!
//! Part of [`Sender`]: its task tells it the answers. Nothing is sent from here.

use flumen_protocol::error_code::ErrorCode;
use tokio::time::Instant;

use super::{Answer, Effects, Guarantee, RequestId, Sender, abortable};
use crate::error::{ClientError, refused};
use crate::producer::accumulator::Slot;
use crate::producer::delivery::Delivered;
use crate::producer::window::{BACKOFF_MAX, Failed, Fate, Numbered, Where};

impl Sender {
    /// The broker answered.
    pub(crate) fn on_answers(
        &mut self,
        request: RequestId,
        answers: &[Answer],
        now: Instant,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(slots) = self.arrived(request) else {
            return effects;
        };
        for slot in slots {
            let answer = answers.iter().find(|answer| answer.slot == slot);
            match answer {
                Some(answer) => self.on_answer(request, answer, now, &mut effects),
                // A partition the broker does not mention: as if it had not answered.
                None => {
                    if let Some(index) = self.position(slot, request) {
                        self.put_back(
                            slot,
                            index,
                            Failed {
                                fate: Fate::Unknown,
                                error: None,
                                now,
                            },
                        );
                    }
                }
            }
            self.finish_proven(slot, &mut effects);
            self.restart_if_certain(slot);
        }
        effects
    }

    /// The request was not answered: not sent (`uncertain` false), or sent and lost.
    pub(crate) fn on_no_answer(
        &mut self,
        request: RequestId,
        error: &ClientError,
        uncertain: bool,
        now: Instant,
    ) -> Effects {
        let fate = if uncertain {
            Fate::Unknown
        } else {
            Fate::Refused
        };
        let mut effects = Effects {
            finished: Vec::new(),
            refresh_metadata: true,
        };
        for slot in self.arrived(request).unwrap_or_default() {
            if let Some(index) = self.position(slot, request) {
                let error = Some(error.clone());
                self.put_back(slot, index, Failed { fate, error, now });
            }
            self.finish_proven(slot, &mut effects);
            self.restart_if_certain(slot);
        }
        effects
    }

    /// What was proven to be in the log and is not being asked about any more is done.
    fn finish_proven(&mut self, slot: Slot, effects: &mut Effects) {
        let waits = |batch: &Numbered| batch.proven && matches!(batch.place, Where::Waiting { .. });
        while let Some(index) = self.partitions[slot].window.iter().position(waits) {
            let unknown = Delivered {
                base_offset: -1,
                log_append_time: -1,
            };
            self.finish(slot, index, Ok(unknown), effects);
        }
    }

    fn arrived(&mut self, request: RequestId) -> Option<Vec<Slot>> {
        let (broker, slots) = self.requests.remove(&request)?;
        if let Some(count) = self.in_flight.get_mut(&broker) {
            *count -= 1;
        }
        for slot in &slots {
            self.partitions[*slot].abandoned.remove(&request);
        }
        Some(slots)
    }

    fn position(&self, slot: Slot, request: RequestId) -> Option<usize> {
        let place = Where::InFlight(request);
        self.partitions[slot]
            .window
            .iter()
            .position(|batch| batch.place == place)
    }

    /// The batch waits to be sent again.
    fn put_back(&mut self, slot: Slot, index: usize, failed: Failed) {
        let batch = &mut self.partitions[slot].window[index];
        let doubling = 2_u32.pow(batch.attempts.min(5).saturating_sub(1));
        let backoff = (self.config.retry_backoff * doubling).min(BACKOFF_MAX);
        batch.place = Where::Waiting {
            not_before: failed.now + backoff,
        };
        batch.uncertain = match failed.fate {
            Fate::Refused => batch.uncertain,
            Fate::Unknown => true,
            Fate::Judged => false,
        };
        if failed.error.is_some() {
            batch.last_error = failed.error;
        }
    }

    fn on_answer(
        &mut self,
        request: RequestId,
        answer: &Answer,
        now: Instant,
        effects: &mut Effects,
    ) {
        let slot = answer.slot;
        // The batch was given up (its deadline passed, or all was aborted) while the request was out.
        let Some(index) = self.position(slot, request) else {
            return;
        };
        let code = ErrorCode::from_code(answer.error_code);
        match code {
            ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                let partition = &mut self.partitions[slot];
                partition.established = true;
                let base_offset = match code {
                    ErrorCode::None => answer.base_offset,
                    _ => -1,
                };
                self.partitions[slot].prove(index, self.config.guarantee);
                let log_append_time = answer.log_append_time;
                let delivered = Delivered {
                    base_offset,
                    log_append_time,
                };
                self.finish(slot, index, Ok(delivered), effects);
            }
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId => {
                self.on_gap(slot, index, (code, now), effects);
            }
            ErrorCode::InvalidProducerEpoch if self.config.guarantee == Guarantee::Idempotent => {
                self.on_gap(slot, index, (code, now), effects);
            }
            code if code.is_retriable() => {
                let fate = match code {
                    // Each of these may come after the batch was appended: while it waited to be flushed or replicated.
                    ErrorCode::RequestTimedOut
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::NetworkException => Fate::Unknown,
                    _ => Fate::Refused,
                };
                effects.refresh_metadata = true;
                let error = Some(self.refusal(slot, index, code, answer.message.as_deref()));
                self.put_back(slot, index, Failed { fate, error, now });
            }
            code => {
                let error = self.refusal(slot, index, code, answer.message.as_deref());
                self.drop_refused(slot, index, error, effects);
            }
        }
    }

    /// The broker expects another sequence, or does not know this producer (any more).
    fn on_gap(
        &mut self,
        slot: Slot,
        index: usize,
        (code, now): (ErrorCode, Instant),
        effects: &mut Effects,
    ) {
        let error = self.refusal(slot, index, code, None);
        if self.config.guarantee == Guarantee::Transactional && index == 0 {
            self.finish(slot, index, Err(abortable(error)), effects);
            return;
        }
        let partition = &mut self.partitions[slot];
        let idempotent = self.config.guarantee == Guarantee::Idempotent;
        // Behind another batch it only says that that one has not arrived: it will be sent again after it.
        let first = index == partition.suspects();
        let suspect = idempotent && first && partition.window[index].uncertain;
        partition.window[index].suspect = suspect;
        let fate = if suspect { Fate::Refused } else { Fate::Judged };
        self.put_back(
            slot,
            index,
            Failed {
                fate,
                error: Some(error),
                now,
            },
        );
        if idempotent && first && !suspect {
            self.partitions[slot].restart = true;
        }
    }

    /// The broker refused this batch for good. What follows it needs the sequences it leaves free.
    fn drop_refused(
        &mut self,
        slot: Slot,
        index: usize,
        error: ClientError,
        effects: &mut Effects,
    ) {
        let partition = &mut self.partitions[slot];
        let alone = partition.window.len() == 1;
        let certain = !partition.window[index].uncertain;
        match self.config.guarantee {
            Guarantee::Plain => {}
            // The caller aborts, and the next transaction begins in a new epoch.
            Guarantee::Transactional => {
                self.finish(slot, index, Err(abortable(error)), effects);
                return;
            }
            Guarantee::Idempotent if alone && certain => {
                partition.next_sequence = partition.window[index].base_sequence;
            }
            Guarantee::Idempotent => partition.restart = true,
        }
        self.finish(slot, index, Err(error.clone()), effects);
        // It was to tell about the suspects before it, and now cannot: written anew they might be there twice.
        let untold = if certain {
            0
        } else {
            self.partitions[slot].suspects()
        };
        for _ in 0..untold {
            let unknown = ClientError::Unavailable(error.failure().clone());
            self.finish(slot, 0, Err(unknown), effects);
        }
    }

    fn refusal(
        &self,
        slot: Slot,
        index: usize,
        code: ErrorCode,
        message: Option<&str>,
    ) -> ClientError {
        let batch = &self.partitions[slot].window[index];
        let records = batch.record_count;
        let bytes = batch.bytes.len();
        let mut subject = format!("a batch of {records} records, {bytes} bytes");
        if let Some(message) = message {
            subject = format!("{subject} ({message})");
        }
        refused(code, subject).map(|failure| failure.in_api("Produce"))
    }
}
