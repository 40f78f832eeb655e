//! When a connection has been silent, or slow, for too long. Pure.
//!
//! Three rules: the first request is there soon after the connect; a request that has begun keeps coming (slow-loris); a connection
//! without any request is closed after `connections.max.idle.ms`. Asked by `connection.rs`, which owns the timer.

use std::time::Duration;

use crate::clock::Instant;

/// A first request, and the rest of one that has begun, must come within this.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes a started request must bring in each [`GRACE`].
const PROGRESS_BYTES: usize = 10 * 1024;

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Vigil {
    idle_max: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing has come yet.
    New { since: Instant },
    /// Between requests, or waiting for answers.
    Idle { since: Instant },
    /// Part of a request is there.
    Partial { since: Instant, bytes: usize },
}

/// What to do at a tick.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again then.
    Keep(Instant),
    /// Close it; why, for the log.
    Close(&'static str),
}

impl Vigil {
    pub(crate) fn new(now: Instant, idle_max: Duration) -> Vigil {
        Vigil {
            idle_max,
            state: State::New { since: now },
        }
    }

    /// `bytes` arrived; `partial` says whether an unfinished request is left over.
    pub(crate) fn on_bytes(&mut self, now: Instant, bytes: usize, partial: bool) {
        self.state = match (self.state, partial) {
            (State::New { since }, true) => State::New { since },
            (
                State::Partial {
                    since,
                    bytes: before,
                },
                true,
            ) => State::Partial {
                since,
                bytes: before + bytes,
            },
            (_, true) => State::Partial { since: now, bytes },
            (_, false) => State::Idle { since: now },
        };
    }

    /// A response went out: the connection is in use.
    pub(crate) fn on_response(&mut self, now: Instant) {
        if let State::Idle { since } = &mut self.state {
            *since = now;
        }
    }

    /// When to ask [`Vigil::on_tick`] next, if nothing else happens.
    pub(crate) fn next_tick(&self) -> Instant {
        match self.state {
            State::New { since } | State::Partial { since, .. } => since + GRACE,
            State::Idle { since } => since + self.idle_max,
        }
    }

    /// The time of [`Vigil::next_tick`] may have come. `waiting` says that the peer is owed an answer: it may be silent.
    pub(crate) fn on_tick(&mut self, now: Instant, waiting: bool) -> Verdict {
        if now < self.next_tick() {
            return Verdict::Keep(self.next_tick());
        }
        match &mut self.state {
            State::New { .. } => return Verdict::Close("no request in time"),
            State::Partial { bytes, .. } if *bytes < PROGRESS_BYTES => {
                return Verdict::Close("a request came too slowly");
            }
            State::Partial { since, bytes } => {
                *since = now;
                *bytes = 0;
            }
            State::Idle { .. } if !waiting => return Verdict::Close("idle"),
            State::Idle { since } => *since = now,
        }
        Verdict::Keep(self.next_tick())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, OsClock};

    const IDLE: Duration = Duration::from_secs(600);

    fn start() -> Instant {
        OsClock.now()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_connection_that_never_speaks_is_closed_soon() {
        let start = start();
        let mut vigil = Vigil::new(start, IDLE);
        assert_eq!(
            vigil.on_tick(start + seconds(9), false),
            Verdict::Keep(start + seconds(10))
        );
        vigil.on_bytes(start + seconds(9), 1, true);
        assert!(matches!(
            vigil.on_tick(start + seconds(10), false),
            Verdict::Close(_)
        ));
    }

    #[test]
    fn a_request_that_trickles_is_closed_one_that_flows_is_not() {
        let start = start();
        let mut vigil = Vigil::new(start, IDLE);
        vigil.on_bytes(start, 100, false);
        vigil.on_bytes(start + seconds(1), 4, true);
        vigil.on_bytes(start + seconds(5), 20_000, true);
        assert_eq!(
            vigil.on_tick(start + seconds(11), false),
            Verdict::Keep(start + seconds(21))
        );
        vigil.on_bytes(start + seconds(15), 100, true);
        assert!(matches!(
            vigil.on_tick(start + seconds(21), false),
            Verdict::Close(_)
        ));
    }

    #[test]
    fn an_idle_connection_is_closed_unless_it_is_owed_an_answer() {
        let start = start();
        let mut vigil = Vigil::new(start, IDLE);
        vigil.on_bytes(start, 100, false);
        assert_eq!(
            vigil.on_tick(start + IDLE, true),
            Verdict::Keep(start + IDLE + IDLE)
        );
        vigil.on_response(start + IDLE + seconds(1));
        assert_eq!(vigil.next_tick(), start + IDLE + IDLE + seconds(1));
        assert!(matches!(
            vigil.on_tick(start + IDLE + IDLE + seconds(1), false),
            Verdict::Close(_)
        ));
    }
}
