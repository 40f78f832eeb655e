//! Requests that wait for a partition (Kafka: purgatory): acks for the high watermark, fetches for bytes. Pure.
//!
//! The tokens `A` (an ack) and `F` (a fetch) are whatever the driver uses to wake a waiter. Nothing here waits by itself, and
//! deadlines are the waiter's: it cancels and goes.

use std::collections::BTreeMap;

use flumen_protocol::id::Offset;

/// Which end of the log bounds a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset: no record of an open transaction.
    ReadCommitted,
}

impl Isolation {
    /// Kafka's `isolation_level`: 1 is `read_committed`.
    pub(crate) fn from_wire(level: i8) -> Isolation {
        if level == 1 {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        }
    }
}

/// Names a parked ack, to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AckId {
    /// Released when the high watermark reaches this.
    required: Offset,
    number: u64,
}

/// Names a parked fetch, to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FetchId(u64);

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Pending<A, F> {
    acks: BTreeMap<AckId, A>,
    fetches: BTreeMap<FetchId, (Isolation, F)>,
    next_number: u64,
}

impl<A, F> Pending<A, F> {
    pub(crate) fn new() -> Self {
        Pending {
            acks: BTreeMap::new(),
            fetches: BTreeMap::new(),
            next_number: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Parks an ack until the high watermark is at least `required`.
    pub(crate) fn park_ack(&mut self, required: Offset, ack: A) -> AckId {
        let id = AckId {
            required,
            number: self.number(),
        };
        self.acks.insert(id, ack);
        id
    }

    /// The waiter has gone (timeout, closed connection).
    pub(crate) fn cancel_ack(&mut self, id: AckId) {
        self.acks.remove(&id);
    }

    /// Parks a fetch until it cancels; [`Pending::fetches`] names it whenever its bound moves.
    pub(crate) fn park_fetch(&mut self, isolation: Isolation, fetch: F) -> FetchId {
        let id = FetchId(self.number());
        self.fetches.insert(id, (isolation, fetch));
        id
    }

    /// The waiter has its answer, or has gone.
    pub(crate) fn cancel_fetch(&mut self, id: FetchId) {
        self.fetches.remove(&id);
    }

    /// The high watermark is now `hw`: takes out the acks that waited for it, in offset order.
    pub(crate) fn on_high_watermark(&mut self, hw: Offset) -> Vec<A> {
        let still = self.acks.split_off(&AckId {
            required: hw + 1,
            number: 0,
        });
        std::mem::replace(&mut self.acks, still)
            .into_values()
            .collect()
    }

    /// The parked fetches that are bounded by `isolation`'s end.
    pub(crate) fn fetches(&self, isolation: Isolation) -> impl Iterator<Item = &F> {
        self.fetches
            .values()
            .filter(move |(bound, _)| *bound == isolation)
            .map(|(_, fetch)| fetch)
    }

    /// The partition can no longer answer: takes out every ack. Fetches stay until they have looked and cancelled.
    pub(crate) fn fail_acks(&mut self) -> Vec<A> {
        std::mem::take(&mut self.acks).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_released_in_offset_order_when_the_high_watermark_reaches_them() {
        let mut pending: Pending<&str, ()> = Pending::new();
        pending.park_ack(5, "second");
        pending.park_ack(3, "first");
        pending.park_ack(6, "third");
        assert!(pending.on_high_watermark(2).is_empty());
        assert_eq!(pending.on_high_watermark(5), ["first", "second"]);
        assert_eq!(pending.on_high_watermark(6), ["third"]);
    }

    #[test]
    fn a_cancelled_ack_is_not_released() {
        let mut pending: Pending<&str, ()> = Pending::new();
        let gone = pending.park_ack(1, "gone");
        pending.park_ack(1, "there");
        pending.cancel_ack(gone);
        assert_eq!(pending.on_high_watermark(1), ["there"]);
    }

    #[test]
    fn fetches_are_named_by_the_end_they_wait_for() {
        let mut pending: Pending<(), &str> = Pending::new();
        pending.park_fetch(Isolation::ReadCommitted, "committed");
        let other = pending.park_fetch(Isolation::ReadUncommitted, "uncommitted");
        assert_eq!(
            pending
                .fetches(Isolation::ReadUncommitted)
                .collect::<Vec<_>>(),
            [&"uncommitted"]
        );
        assert_eq!(
            pending
                .fetches(Isolation::ReadCommitted)
                .collect::<Vec<_>>(),
            [&"committed"]
        );
        pending.cancel_fetch(other);
        assert_eq!(pending.fetches(Isolation::ReadUncommitted).count(), 0);
    }
}
