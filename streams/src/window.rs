//! Windows of event time: which ones a timestamp falls into, and when they are closed. Pure.
//!
//! Starts are aligned to 1970; a window is half-open, `[start, end)`, in ms. Grace is mandatory: it says how late a record may be, and
//! there is no good default for it.

use std::time::Duration;

/// A stretch of event time, `[start, end)`, in ms since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// First millisecond.
    pub start: i64,
    /// First millisecond after it.
    pub end: i64,
}

/// A key and the window its value belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Windowed<K> {
    /// The key of the records.
    pub key: K,
    /// The window.
    pub window: Window,
}

/// Fixed windows: tumbling (each record in one) or hopping (windows overlap).
///
/// ```
/// use std::time::Duration;
/// use flumen_streams::TimeWindows;
/// // An hour each; records up to ten minutes behind stream time still count.
/// let hourly = TimeWindows::of_size_and_grace(Duration::from_secs(3600), Duration::from_secs(600));
/// // The same hours, a new one every quarter.
/// let sliding_hours = hourly.advance_by(Duration::from_secs(900));
/// assert_eq!(hourly.starts(5_400_000).collect::<Vec<_>>(), [3_600_000]);
/// assert_eq!(sliding_hours.starts(3_600_000).count(), 4);
/// ```
/// Source: Kafka `TimeWindows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindows {
    pub(crate) size_ms: i64,
    pub(crate) advance_ms: i64,
    pub(crate) grace_ms: i64,
}

impl TimeWindows {
    /// Windows of `size` that do not overlap, and take records until stream time has passed their end by `grace`.
    pub fn of_size_and_grace(size: Duration, grace: Duration) -> Self {
        let size_ms = millis(size);
        Self {
            size_ms,
            advance_ms: size_ms,
            grace_ms: millis(grace),
        }
    }

    /// A new window every `advance`, at most its size: hopping windows.
    #[must_use]
    pub fn advance_by(self, advance: Duration) -> Self {
        Self {
            advance_ms: millis(advance),
            ..self
        }
    }

    /// Length of a window in ms.
    pub fn size_ms(&self) -> i64 {
        self.size_ms
    }

    /// Starts of the windows that hold `timestamp`, earliest first; none starts before 1970.
    pub fn starts(&self, timestamp: i64) -> impl Iterator<Item = i64> + use<> {
        let (size, advance) = (self.size_ms, self.advance_ms);
        let first = ((timestamp - size + advance).max(0) / advance) * advance;
        (0..)
            .map(move |n| first + n * advance)
            .take_while(move |start| *start <= timestamp)
    }

    /// Whether the window that starts at `start` takes no more records at `stream_time`.
    pub fn is_closed(&self, start: i64, stream_time: i64) -> bool {
        start
            .saturating_add(self.size_ms)
            .saturating_add(self.grace_ms)
            <= stream_time
    }

    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.size_ms <= 0 {
            return Some("the size must be at least a millisecond");
        }
        if self.advance_ms <= 0 || self.advance_ms > self.size_ms {
            return Some("the advance must be at least a millisecond and at most the size");
        }
        None
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .unwrap_or(i64::MAX / 4)
        .min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(size: u64, advance: u64, grace: u64) -> TimeWindows {
        TimeWindows::of_size_and_grace(Duration::from_millis(size), Duration::from_millis(grace))
            .advance_by(Duration::from_millis(advance))
    }

    #[track_caller]
    fn check(windows: TimeWindows, timestamp: i64, expected: &[i64]) {
        assert_eq!(windows.starts(timestamp).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_timestamp_falls_into_one_tumbling_window() {
        check(windows(10, 10, 0), 0, &[0]);
        check(windows(10, 10, 0), 9, &[0]);
        check(windows(10, 10, 0), 10, &[10]);
    }

    #[test]
    fn a_timestamp_falls_into_size_over_advance_hopping_windows() {
        check(windows(10, 4, 0), 9, &[0, 4, 8]);
        check(windows(10, 4, 0), 10, &[4, 8]);
        check(windows(10, 5, 0), 23, &[15, 20]);
    }

    #[test]
    fn no_window_starts_before_1970() {
        check(windows(10, 5, 0), 3, &[0]);
    }

    #[test]
    fn a_window_closes_when_stream_time_reaches_its_end_and_grace() {
        let windows = windows(10, 10, 5);
        assert!(!windows.is_closed(0, 14));
        assert!(windows.is_closed(0, 15));
    }

    #[test]
    fn sizes_and_advances_out_of_range_are_named() {
        assert!(windows(0, 0, 0).problem().is_some());
        assert!(windows(10, 11, 0).problem().is_some());
        assert!(windows(10, 10, 0).problem().is_none());
    }
}
