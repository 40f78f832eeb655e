//! How long to pause so that a rate is kept: bytes that were moved are owed, and time pays them off. Pure.
//!
//! One for all cleaners together; `cleaner.rs` tells it the time and sleeps. Time in which nothing was moved is not saved up.
//! Source: Kafka `Throttler`.

use std::time::Duration;

use crate::clock::Instant;

/// A shorter pause is none: what is owed then is paid with the next one.
const PAUSE_MIN_SECONDS: f64 = 0.000_1;
/// A longer one is taken in pieces.
const PAUSE_MAX_SECONDS: f64 = 3_600.0;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes per second.
    rate: f64,
    /// Bytes, as of `at`.
    owed: f64,
    at: Instant,
}

impl Throttle {
    /// `rate`: bytes per second, above 0.
    pub(super) fn new(rate: f64, now: Instant) -> Throttle {
        Throttle {
            rate,
            owed: 0.0,
            at: now,
        }
    }

    /// Another rate from now on; time until now has paid at the old one.
    pub(super) fn set_rate(&mut self, rate: f64, now: Instant) {
        self.pay(now);
        self.rate = rate;
    }

    /// So many bytes were read and written from `begun` until now: that time pays already.
    pub(super) fn on_moved(&mut self, bytes: u64, begun: Instant, now: Instant) {
        self.pay(begun);
        #[expect(clippy::cast_precision_loss, reason = "a step is a few megabytes")]
        let bytes = bytes as f64;
        self.owed += bytes;
        self.pay(now);
    }

    /// How long nobody is to move anything.
    pub(super) fn pause(&mut self, now: Instant) -> Duration {
        self.pay(now);
        let seconds = self.owed / self.rate;
        match seconds >= PAUSE_MIN_SECONDS {
            true => Duration::from_secs_f64(seconds.min(PAUSE_MAX_SECONDS)),
            false => Duration::ZERO,
        }
    }

    fn pay(&mut self, now: Instant) {
        let paid = self.rate * now.saturating_duration_since(self.at).as_secs_f64();
        self.owed = (self.owed - paid).max(0.0);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, OsClock};

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> (Throttle, Instant) {
        let now = OsClock.now();
        (Throttle::new(1_000.0, now), now)
    }

    #[test]
    fn over_any_time_no_more_is_moved_than_the_rate_allows_and_hardly_less() {
        for (work, bytes) in [(0, 1_500), (300, 1_500), (1_400, 1_500), (7, 3)] {
            let (mut throttle, begin) = start();
            let (mut now, mut moved) = (begin, 0);
            while now < begin + 1_000 * SECOND {
                let begun = now;
                now += Duration::from_millis(work);
                throttle.on_moved(bytes, begun, now);
                moved += bytes;
                now += throttle.pause(now);
            }
            let allowed = 1_000 * (now - begin).as_secs();
            assert!(
                moved <= allowed + 1_000,
                "{work} {bytes}: {moved} of {allowed}"
            );
            // Who needs longer than a step may take is not held up.
            let slow = work > bytes && throttle.pause(now).is_zero();
            assert!(
                slow || moved + 2_000 >= allowed,
                "{work} {bytes}: {moved} of {allowed}"
            );
        }
    }

    #[test]
    fn all_who_share_it_pay_for_each_other_and_with_the_time_of_the_work() {
        let (mut throttle, now) = start();
        throttle.on_moved(1_000, now, now);
        throttle.on_moved(2_000, now, now);
        assert_eq!(throttle.pause(now), 3 * SECOND);
        let later = now + SECOND;
        throttle.on_moved(500, now, later);
        assert_eq!(throttle.pause(later), Duration::from_millis(2_500));
        // A second of work that began when all was paid pays for a part of itself.
        let begun = now + 60 * SECOND;
        throttle.on_moved(3_000, begun, begun + SECOND);
        assert_eq!(throttle.pause(begun + SECOND), 2 * SECOND);
    }

    #[test]
    fn idle_time_is_not_saved_up_and_a_clock_that_stands_pays_nothing() {
        let (mut throttle, begin) = start();
        let now = begin + 60 * SECOND;
        throttle.on_moved(1_000, now, now);
        assert_eq!(throttle.pause(now), SECOND);
        assert_eq!(throttle.pause(now), SECOND);
        assert_eq!(throttle.pause(now + SECOND), Duration::ZERO);
    }

    #[test]
    fn what_is_owed_is_paid_at_the_rate_in_force() {
        let (mut throttle, now) = start();
        throttle.on_moved(10_000, now, now);
        let later = now + 4 * SECOND;
        throttle.set_rate(100.0, later);
        assert_eq!(throttle.pause(later), 60 * SECOND);
        throttle.set_rate(f64::MAX, later);
        assert_eq!(throttle.pause(later), Duration::ZERO);
    }

    #[test]
    fn the_slowest_rate_pauses_in_pieces_and_the_default_never() {
        let (mut throttle, now) = start();
        throttle.set_rate(f64::MIN_POSITIVE, now);
        throttle.on_moved(u64::MAX, now, now);
        assert_eq!(throttle.pause(now), 3_600 * SECOND);
        assert_eq!(throttle.pause(now + 3_600 * SECOND), 3_600 * SECOND);
        let mut free = Throttle::new(f64::MAX, now);
        free.on_moved(u64::MAX, now, now);
        assert_eq!(free.pause(now), Duration::ZERO);
    }
}
