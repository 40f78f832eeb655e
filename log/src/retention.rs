//! Which of a log's oldest segments are due to be deleted. Pure: facts, options and time in, a number out.
//! Source: Kafka `UnifiedLog.deleteOldSegments`.

use flumen_protocol::id::Offset;

use crate::config::LogConfig;

/// What retention looks at in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentFacts {
    /// Offset after its last record.
    pub(crate) next_offset: Offset,
    pub(crate) size: u64,
    /// Milliseconds since 1970; negative if no record has one.
    pub(crate) largest_timestamp: i64,
}

/// How many of the oldest segments are due. The last of `segments` is the active one; if it is counted, it must be rolled first.
///
/// Nothing that reaches above `upper_bound` is due (the high watermark: what is not replicated is not old), and nothing behind a
/// segment that is not due. A timestamp in the future keeps its segment.
pub(crate) fn due(
    segments: &[SegmentFacts],
    config: &LogConfig,
    log_start_offset: Offset,
    upper_bound: Offset,
    now_ms: i64,
) -> usize {
    let total: u64 = segments.iter().map(|segment| segment.size).sum();
    let mut above_limit = match config.retention_bytes {
        Some(limit) if config.cleanup_policy.delete => total.saturating_sub(limit),
        _ => 0,
    };
    let by_time = config.retention_ms.filter(|_| config.cleanup_policy.delete);
    let active = segments.len().saturating_sub(1);
    let is_due = |(i, segment): &(usize, &SegmentFacts)| {
        if segment.next_offset > upper_bound {
            return false;
        }
        if segment.size == 0 {
            // Compaction of Apache Kafka's may have left nothing of it.
            return *i < active && config.cleanup_policy.delete;
        }
        let below_start = segment.next_offset <= log_start_offset;
        let too_large = segment.size <= above_limit;
        let age = now_ms.saturating_sub(segment.largest_timestamp);
        let too_old = segment.largest_timestamp >= 0
            && by_time.is_some_and(|limit| age > i64::try_from(limit).unwrap_or(i64::MAX));
        above_limit = above_limit.saturating_sub(segment.size);
        below_start || too_large || too_old
    };
    segments
        .iter()
        .enumerate()
        .take_while({
            let mut is_due = is_due;
            move |segment| is_due(segment)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CleanupPolicy;

    const DELETE: CleanupPolicy = CleanupPolicy {
        delete: true,
        compact: false,
    };

    fn config(
        retention_ms: Option<u64>,
        retention_bytes: Option<u64>,
        cleanup_policy: CleanupPolicy,
    ) -> LogConfig {
        LogConfig {
            retention_ms,
            retention_bytes,
            cleanup_policy,
            ..LogConfig::default()
        }
    }

    /// Three segments of ten records and 100 bytes, the newest timestamps 1,000, 2,000 and 3,000.
    fn three() -> [SegmentFacts; 3] {
        [1, 2, 3].map(|i| SegmentFacts {
            next_offset: 10 * i,
            size: 100,
            largest_timestamp: 1_000 * i,
        })
    }

    #[test]
    fn segments_go_by_age_oldest_first() {
        let week = config(Some(500), None, DELETE);
        for (now, expected) in [(1_500, 0), (1_501, 1), (2_501, 2), (3_500, 2), (3_501, 3)] {
            assert_eq!(due(&three(), &week, 0, 30, now), expected, "at {now}");
        }
        assert_eq!(
            due(&three(), &config(None, None, DELETE), 0, 30, i64::MAX),
            0
        );
    }

    #[test]
    fn a_future_or_missing_timestamp_keeps_its_segment_and_those_behind_it() {
        let mut segments = three();
        segments[1].largest_timestamp = 9_999_999;
        assert_eq!(
            due(&segments, &config(Some(500), None, DELETE), 0, 30, 5_000),
            1
        );
        segments[0].largest_timestamp = -1;
        assert_eq!(
            due(&segments, &config(Some(500), None, DELETE), 0, 30, 5_000),
            0
        );
    }

    #[test]
    fn segments_go_by_size_while_the_rest_is_still_enough() {
        for (limit, expected) in [(300, 0), (299, 0), (200, 1), (199, 1), (100, 2), (0, 3)] {
            assert_eq!(
                due(&three(), &config(None, Some(limit), DELETE), 0, 30, 0),
                expected,
                "limit {limit}"
            );
        }
    }

    #[test]
    fn nothing_goes_that_is_not_replicated() {
        let all = config(Some(0), Some(0), DELETE);
        for (bound, expected) in [(0, 0), (9, 0), (10, 1), (29, 2), (30, 3)] {
            assert_eq!(
                due(&three(), &all, 0, bound, 100_000),
                expected,
                "upper bound {bound}"
            );
        }
    }

    #[test]
    fn a_closed_segment_of_which_nothing_is_left_holds_up_none_behind_it() {
        let empty = |next_offset| SegmentFacts {
            next_offset,
            size: 0,
            largest_timestamp: -1,
        };
        let [_, second, third] = three();
        let by_time = config(Some(500), None, DELETE);
        let by_size = config(None, Some(100), DELETE);
        for (now, expected) in [(2_500, 1), (2_501, 2), (3_501, 3)] {
            let segments = [empty(0), second, third];
            assert_eq!(due(&segments, &by_time, 0, 30, now), expected, "at {now}");
        }
        let segments = [empty(0), second, third];
        assert_eq!(due(&segments, &by_size, 0, 30, 0), 2);
        // The active one is where the log goes on.
        assert_eq!(due(&[second, empty(30)], &by_time, 0, 30, i64::MAX), 1);
        let compacted = LogConfig {
            cleanup_policy: CleanupPolicy {
                delete: false,
                compact: true,
            },
            ..by_time
        };
        assert_eq!(due(&[empty(0), second], &compacted, 0, 30, i64::MAX), 0);
    }

    #[test]
    fn what_lies_below_the_log_start_goes_under_every_policy() {
        for policy in [
            DELETE,
            CleanupPolicy {
                delete: false,
                compact: true,
            },
            CleanupPolicy {
                delete: false,
                compact: false,
            },
        ] {
            assert_eq!(due(&three(), &config(None, None, policy), 20, 30, 0), 2);
        }
        let compacted = config(
            Some(0),
            Some(0),
            CleanupPolicy {
                delete: false,
                compact: true,
            },
        );
        assert_eq!(due(&three(), &compacted, 0, 30, 100_000), 0);
    }
}
