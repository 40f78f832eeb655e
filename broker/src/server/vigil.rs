//! When a connection has been silent, or slow, for too long. Pure.
//!
//! Three rules: the first request is there soon after the connect; a request that has begun keeps coming (slow-loris), the faster the
//! more memory it holds; a connection without any request is closed after `connections.max.idle.ms`. Only time in which the broker
//! listened counts: a peer is not slow because the broker did not read. Asked by `connection.rs`, which owns the timer.

use std::time::Duration;

use crate::clock::Instant;

/// A first request, and the rest of one that has begun, must come within this.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes a started request must bring in each [`GRACE`].
const PROGRESS_BYTES: usize = 10 * 1024;
/// A large request must bring at least this part of its size in each [`GRACE`]: it holds memory that others wait for.
const PROGRESS_PART: usize = 10;
/// Away from the socket for longer than this, or that late to a tick: the peer gets its whole [`GRACE`] anew.
const AWAY_MAX: Duration = Duration::from_secs(1);

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Vigil {
    idle_max: Duration,
    state: State,
    /// Since when the broker has not listened to the peer; `None` while it does.
    away_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing has come yet.
    New { since: Instant },
    /// Between requests, or waiting for answers.
    Idle { since: Instant },
    /// Part of a request of `size` bytes is there (0: its length is not known yet).
    Partial {
        since: Instant,
        bytes: usize,
        size: usize,
    },
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
            away_since: None,
        }
    }

    /// `bytes` arrived; `unfinished` is the size of the request they leave unfinished, if they do.
    pub(crate) fn on_bytes(&mut self, now: Instant, bytes: usize, unfinished: Option<usize>) {
        self.state = match (self.state, unfinished) {
            (_, None) => State::Idle { since: now },
            (State::New { since }, Some(size)) => State::Partial { since, bytes, size },
            (
                State::Partial {
                    since,
                    bytes: before,
                    ..
                },
                Some(size),
            ) => State::Partial {
                since,
                bytes: before + bytes,
                size,
            },
            (State::Idle { .. }, Some(size)) => State::Partial {
                since: now,
                bytes,
                size,
            },
        };
    }

    /// A response went out: the connection is in use.
    pub(crate) fn on_response(&mut self, now: Instant) {
        if let State::Idle { since } = &mut self.state {
            *since = now;
        }
    }

    /// The broker turns away from the socket: it works, writes, or has no room for more.
    pub(crate) fn on_away(&mut self, now: Instant) {
        self.away_since.get_or_insert(now);
    }

    /// The broker listens (again).
    pub(crate) fn on_listening(&mut self, now: Instant) {
        if let Some(since) = self.away_since.take()
            && since + AWAY_MAX < now
        {
            self.restart(now);
        }
    }

    /// What came too slowly so far may have been our own fault.
    fn restart(&mut self, now: Instant) {
        match &mut self.state {
            State::New { since } => *since = now,
            State::Partial { since, bytes, .. } => (*since, *bytes) = (now, 0),
            State::Idle { .. } => {}
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
        let due = self.next_tick();
        if now < due {
            return Verdict::Keep(due);
        }
        if self.away_since.is_some() || due + AWAY_MAX < now {
            self.restart(now);
        }
        if self.next_tick() > now {
            return Verdict::Keep(self.next_tick());
        }
        match &mut self.state {
            State::New { .. } => return Verdict::Close("no request in time"),
            State::Partial { bytes, size, .. }
                if *bytes < PROGRESS_BYTES.max(*size / PROGRESS_PART) =>
            {
                return Verdict::Close("a request came too slowly");
            }
            State::Partial { .. } => self.restart(now),
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
        vigil.on_bytes(start + seconds(9), 1, Some(0));
        assert!(matches!(
            vigil.on_tick(start + seconds(10), false),
            Verdict::Close(_)
        ));
    }

    #[test]
    fn a_request_that_trickles_is_closed_one_that_flows_is_not() {
        let start = start();
        let mut vigil = Vigil::new(start, IDLE);
        vigil.on_bytes(start, 100, None);
        vigil.on_bytes(start + seconds(1), 4, Some(40_000));
        vigil.on_bytes(start + seconds(5), 20_000, Some(40_000));
        assert_eq!(
            vigil.on_tick(start + seconds(11), false),
            Verdict::Keep(start + seconds(21))
        );
        vigil.on_bytes(start + seconds(15), 100, Some(40_000));
        assert!(matches!(
            vigil.on_tick(start + seconds(21), false),
            Verdict::Close(_)
        ));
    }

    #[test]
    fn an_idle_connection_is_closed_unless_it_is_owed_an_answer() {
        let start = start();
        let mut vigil = Vigil::new(start, IDLE);
        vigil.on_bytes(start, 100, None);
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

    #[test]
    fn a_request_that_holds_much_memory_must_come_faster() {
        let start = start();
        let mut vigil = Vigil::new(start, IDLE);
        vigil.on_bytes(start, 4, Some(100 << 20));
        vigil.on_bytes(start + seconds(5), 5 << 20, Some(100 << 20));
        assert!(matches!(
            vigil.on_tick(start + seconds(10), false),
            Verdict::Close(_)
        ));
    }

    #[test]
    fn a_first_request_that_flows_may_take_longer_than_its_grace() {
        let start = start();
        let mut vigil = Vigil::new(start, IDLE);
        vigil.on_bytes(start + seconds(1), 200_000, Some(1 << 20));
        assert_eq!(
            vigil.on_tick(start + seconds(10), false),
            Verdict::Keep(start + seconds(20))
        );
    }

    #[test]
    fn a_peer_is_not_slow_while_the_broker_does_not_read() {
        let start = start();
        let mut vigil = Vigil::new(start, IDLE);
        vigil.on_bytes(start, 100, Some(1 << 20));
        vigil.on_away(start);
        // Ticks while nobody listens prove nothing.
        assert_eq!(
            vigil.on_tick(start + seconds(10), true),
            Verdict::Keep(start + seconds(20))
        );
        vigil.on_listening(start + seconds(19));
        assert_eq!(
            vigil.on_tick(start + seconds(20), true),
            Verdict::Keep(start + seconds(29))
        );
        assert!(matches!(
            vigil.on_tick(start + seconds(29), true),
            Verdict::Close(_)
        ));
    }

    #[test]
    fn a_tick_that_comes_late_finds_a_broker_that_slept_not_a_slow_peer() {
        let start = start();
        for first in [true, false] {
            let mut vigil = Vigil::new(start, IDLE);
            if !first {
                vigil.on_bytes(start, 100, Some(1 << 20));
            }
            assert_eq!(
                vigil.on_tick(start + seconds(60), false),
                Verdict::Keep(start + seconds(70))
            );
            assert!(matches!(
                vigil.on_tick(start + seconds(70), false),
                Verdict::Close(_)
            ));
        }
    }

    #[test]
    fn a_moment_away_from_the_socket_gives_a_slow_request_no_more_time() {
        let start = start();
        let mut vigil = Vigil::new(start, IDLE);
        vigil.on_bytes(start, 100, Some(1 << 20));
        for second in 1..10 {
            vigil.on_away(start + seconds(second));
            vigil.on_listening(start + seconds(second));
        }
        assert!(matches!(
            vigil.on_tick(start + seconds(10), false),
            Verdict::Close(_)
        ));
    }
}
