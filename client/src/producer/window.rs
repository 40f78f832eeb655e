//! One partition's window: the batches that are numbered and not acknowledged, and what is certain about each. Pure.
//!
//! Owns the facts `sender.rs` decides by: what is out, what waits, what may be in the log and what must be. Sends nothing, and ends
//! no batch.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::batch::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID, add_sequence};
use tokio::time::Instant;

use super::accumulator::BatchId;
use super::block::Stamp;
use super::delivery::Completion;
use super::sender::{Guarantee, Identity, RequestId};
use crate::error::ClientError;

/// Where a numbered batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    InFlight(RequestId),
    Waiting { not_before: Instant },
}

/// An attempt that came to nothing.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) fate: Fate,
    pub(super) error: Option<ClientError>,
    pub(super) now: Instant,
}

/// What an attempt says about the batch being in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// This attempt did not bring it there. An earlier one may have.
    Refused,
    /// It may have.
    Unknown,
    /// The broker judged the sequence: no attempt has.
    Judged,
}

/// The longest wait before a batch is sent again.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A batch with its sequence.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) batch_id: BatchId,
    pub(super) bytes: Bytes,
    pub(super) record_count: i32,
    pub(super) base_sequence: i32,
    pub(super) size: usize,
    pub(super) deadline: Instant,
    pub(super) completion: Arc<Completion>,
    pub(super) place: Where,
    pub(super) attempts: u32,
    /// An attempt was sent and never answered: the broker may have it.
    pub(super) uncertain: bool,
    /// It is uncertain, and the broker says that its sequence is not the next: either it is in the log and forgotten (a broker that
    /// restarts remembers the last batch only), or it never was. The batches behind it tell.
    pub(super) suspect: bool,
    /// A later batch is in the log, and a broker takes no gap: so is this one.
    pub(super) proven: bool,
    pub(super) last_error: Option<ClientError>,
}

/// What is under way in a partition, and under which identity.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) identity: Option<Identity>,
    pub(super) next_sequence: i32,
    /// In order of their sequences.
    pub(super) window: VecDeque<Numbered>,
    /// The broker has accepted something under this identity.
    pub(super) established: bool,
    /// A gap has to be closed by the next epoch.
    pub(super) restart: bool,
    /// Requests still out whose batch was given up: they may yet change what the broker has.
    pub(super) abandoned: BTreeSet<RequestId>,
}

impl Numbered {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.place, Where::Waiting { not_before } if not_before <= now)
    }
}

impl Partition {
    /// How many batches at the beginning of the window are suspects.
    pub(super) fn suspects(&self) -> usize {
        self.window.iter().take_while(|batch| batch.suspect).count()
    }

    /// The batch at `index` is in the log; so is everything before it, once the broker knows this producer.
    pub(super) fn prove(&mut self, index: usize, guarantee: Guarantee) {
        if guarantee == Guarantee::Idempotent {
            self.window
                .iter_mut()
                .take(index)
                .for_each(|batch| batch.proven = true);
        }
    }

    pub(super) fn is_out(&self) -> bool {
        let out = |batch: &Numbered| matches!(batch.place, Where::InFlight(_));
        self.window.iter().any(out)
    }

    /// The first batch behind the suspects that may be in the log, unless something is still out.
    pub(super) fn next_probe(&self) -> Option<usize> {
        let unknown = |batch: &Numbered| batch.uncertain && !batch.suspect;
        let probe = self.window.iter().position(unknown);
        probe.filter(|_| !self.is_out())
    }

    /// When all that may be in the log were asked for and none is there, none is: the broker remembers at least the last batch it took.
    pub(super) fn conclude(&mut self) {
        if self.suspects() == 0 || self.is_out() || self.next_probe().is_some() {
            return;
        }
        for batch in &mut self.window {
            (batch.uncertain, batch.suspect) = (false, false);
        }
        self.restart = true;
    }

    /// Numbers what waits anew, from 0. Only when nothing is on its way.
    pub(super) fn renumber(&mut self, guarantee: Guarantee) {
        self.next_sequence = 0;
        for batch in &mut self.window {
            batch.base_sequence = self.next_sequence;
            self.next_sequence = add_sequence(self.next_sequence, batch.record_count);
            let stamp = stamp(guarantee, self.identity, batch.base_sequence);
            batch.bytes = stamp.rewrite(std::mem::take(&mut batch.bytes));
        }
    }
}

/// Who sends a batch with this sequence.
pub(super) fn stamp(guarantee: Guarantee, identity: Option<Identity>, base_sequence: i32) -> Stamp {
    let none = Identity {
        producer_id: NO_PRODUCER_ID,
        epoch: NO_PRODUCER_EPOCH,
    };
    let identity = match guarantee {
        Guarantee::Plain => none,
        _ => identity.unwrap_or(none),
    };
    Stamp {
        producer_id: identity.producer_id,
        producer_epoch: identity.epoch,
        base_sequence,
        transactional: guarantee == Guarantee::Transactional,
    }
}
