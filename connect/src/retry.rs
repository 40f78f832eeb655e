//! How long to wait before the next attempt, and what to do with a record that cannot be handled. Pure.

use std::time::Duration;

use crate::config::Settings;

/// Pauses that double, from the first to the longest.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// No failure yet.
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            first,
            longest,
            failures: 0,
        }
    }

    /// The pause after one more failure, at least `at_least`.
    pub fn next(&mut self, at_least: Duration) -> Duration {
        let pause = self
            .first
            .saturating_mul(1 << self.failures.min(20))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1);
        pause.max(at_least)
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the failure just counted is worth a line in the log: the 1st, 2nd, 4th, 8th …
    pub fn is_news(&self) -> bool {
        self.failures.is_power_of_two()
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// What becomes of a record that cannot be converted or written. Kafka: `errors.tolerance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// The task stops, FAILED, before anything behind the record is committed.
    None,
    /// The record goes to the dead letter topic, or is left out where there is none, and the task goes on.
    All,
}

impl Tolerance {
    /// From `errors.tolerance`.
    pub fn of(settings: &Settings) -> Tolerance {
        if settings.word("errors.tolerance") == "all" {
            Tolerance::All
        } else {
            Tolerance::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        let pauses: Vec<_> = (0..4).map(|_| backoff.next(Duration::ZERO)).collect();
        assert_eq!(pauses, [seconds(1), seconds(2), seconds(4), seconds(5)]);
        assert_eq!(backoff.next(seconds(9)), seconds(9));
        backoff.reset();
        assert_eq!(backoff.next(Duration::ZERO), seconds(1));
        assert!(backoff.is_news());
    }
}
