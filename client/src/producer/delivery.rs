//! The answer to a send: one shared result per batch, one light future per record.
//!
//! Owns [`Delivery`], [`RecordMetadata`] and the completion behind them. The accumulator makes one completion per
//! batch; the sender fulfils it once. Nothing is allocated per record, and a delivery nobody awaits costs a reference count.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::error::ClientError;

/// Where a record went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset (for a block: that of its first record). -1 if the broker does not say: `acks` none, or an answer
    /// that was lost while the broker has long moved on.
    pub offset: i64,
    /// Milliseconds since 1970: the record's own, or the broker's where the topic says so.
    pub timestamp: i64,
}

/// What the broker said about a whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) base_offset: i64,
    /// -1 unless the topic takes the broker's time.
    pub(crate) log_append_time: i64,
}

type Outcome = Result<Delivered, ClientError>;

#[derive(Debug)]
enum State {
    Pending(Vec<Option<Waker>>),
    Done(Outcome),
}

/// The result of one batch, shared by all its records.
#[derive(Debug)]
pub(crate) struct Completion {
    topic: Arc<str>,
    partition: i32,
    state: Mutex<State>,
}

impl Completion {
    pub(crate) fn new(topic: Arc<str>, partition: i32) -> Arc<Completion> {
        Arc::new(Completion {
            topic,
            partition,
            state: Mutex::new(State::Pending(Vec::new())),
        })
    }

    /// The partition, as errors name it.
    pub(crate) fn subject(&self) -> String {
        format!("partition {}-{}", self.topic, self.partition)
    }

    /// Tells everybody. Only the first call counts.
    pub(crate) fn fulfil(&self, outcome: Outcome) {
        let mut state = self.state.lock();
        if let State::Pending(wakers) = &mut *state {
            let wakers = std::mem::take(wakers);
            *state = State::Done(outcome);
            drop(state);
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

/// The future outcome of a send. It may be dropped: the record is sent all the same, and
/// [`Producer::flush`](crate::Producer::flush) reports a failure that nobody saw.
#[derive(Debug)]
pub struct Delivery {
    completion: Arc<Completion>,
    index: i64,
    timestamp: i64,
    /// Where this future's waker lies in the completion.
    place: Option<usize>,
}

impl Delivery {
    pub(crate) fn new(completion: Arc<Completion>, index: i64, timestamp: i64) -> Delivery {
        Delivery {
            completion,
            index,
            timestamp,
            place: None,
        }
    }

    /// The outcome if it is known already.
    #[must_use]
    pub fn try_get(&self) -> Option<Result<RecordMetadata, ClientError>> {
        match &*self.completion.state.lock() {
            State::Pending(_) => None,
            State::Done(outcome) => Some(self.own(outcome)),
        }
    }

    fn own(&self, outcome: &Outcome) -> Result<RecordMetadata, ClientError> {
        let delivered = outcome.as_ref().map_err(Clone::clone)?;
        Ok(RecordMetadata {
            topic: Arc::clone(&self.completion.topic),
            partition: self.completion.partition,
            offset: match delivered.base_offset {
                base if base < 0 => -1,
                base => base + self.index,
            },
            timestamp: match delivered.log_append_time {
                time if time < 0 => self.timestamp,
                time => time,
            },
        })
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let completion = Arc::clone(&this.completion);
        let mut state = completion.state.lock();
        match &mut *state {
            State::Done(outcome) => Poll::Ready(this.own(outcome)),
            State::Pending(wakers) => {
                let waker = Some(context.waker().clone());
                match this.place {
                    Some(place) => wakers[place] = waker,
                    None => {
                        this.place = Some(wakers.len());
                        wakers.push(waker);
                    }
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(place) = self.place
            && let State::Pending(wakers) = &mut *self.completion.state.lock()
        {
            wakers[place] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn records_of_a_batch_get_consecutive_offsets() {
        let completion = Completion::new("t".into(), 3);
        let second = Delivery::new(Arc::clone(&completion), 1, 77);
        assert_eq!(second.try_get(), None);
        completion.fulfil(Ok(Delivered {
            base_offset: 40,
            log_append_time: -1,
        }));
        let metadata = second.try_get().unwrap().unwrap();
        assert_eq!(
            (metadata.partition, metadata.offset, metadata.timestamp),
            (3, 41, 77)
        );
    }

    #[tokio::test]
    async fn all_who_wait_are_woken_and_only_the_first_outcome_counts() {
        let completion = Completion::new("t".into(), 0);
        let one = Delivery::new(Arc::clone(&completion), 0, 0);
        let two = Delivery::new(Arc::clone(&completion), 1, 0);
        let both = async { tokio::join!(one, two) };
        let fulfil = async {
            completion.fulfil(Err(ClientError::Timeout(Failure::new(
                "partition t-0",
                "late",
            ))));
            completion.fulfil(Ok(Delivered {
                base_offset: 0,
                log_append_time: -1,
            }));
        };
        let ((one, two), ()) = tokio::join!(both, fulfil);
        assert!(matches!(one, Err(ClientError::Timeout(_))));
        assert_eq!(one, two);
    }
}
