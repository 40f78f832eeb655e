//! Which logs are worth cleaning, how far, and which of their segments become one.

use flumen_protocol::id::Offset;

use crate::config::LogConfig;

/// What is looked at in a segment to find out how dirty a log is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSize {
    pub(crate) base_offset: Offset,
    pub(crate) size: u64,
    /// Milliseconds since 1970; negative if no record has one.
    pub(crate) largest_timestamp: i64,
    /// Largest timestamp of its first batch; negative if there is none.
    pub(crate) first_timestamp: i64,
}

/// What may be cleaned in a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    /// All below was cleaned before.
    pub(crate) first_dirty: Offset,
    /// Where a segment begins that must not be touched yet.
    pub(crate) first_uncleanable: Offset,
    /// Bytes between the two.
    pub(crate) dirty_bytes: u64,
    /// Share of them in all that lies below `first_uncleanable`.
    pub(crate) dirty_ratio: f64,
    /// `max.compaction.lag.ms` has passed for some of them.
    pub(crate) overdue: bool,
}

impl Range {
    /// Of a log whose segments are these, the last one active. `clean`: where the last cleaning ended, if that is known. Nothing at
    /// or above `bound` (the last stable offset) may be touched, nothing in the active segment, nothing younger than
    /// `min.compaction.lag.ms`. Source: Kafka `LogCleanerManager.cleanableOffsets`, `LogToClean`.
    pub(crate) fn of(
        segments: &[SegmentSize],
        config: &LogConfig,
        (start, clean): (Offset, Option<Offset>),
        bound: Offset,
        now_ms: i64,
    ) -> Self {
        let (active, closed) = segments.split_last().expect("a log has an active segment");
        // What was cleaned may have been deleted since, or cut off and written anew.
        let known = clean.filter(|clean| (start..=active.base_offset).contains(clean));
        let first_dirty = known.unwrap_or(start.min(active.base_offset));
        let young = now_ms.saturating_sub(config.min_compaction_lag_ms);
        let mut first_uncleanable = active.base_offset;
        for (i, segment) in closed.iter().enumerate() {
            let end = segments[i + 1].base_offset;
            let too_young = config.min_compaction_lag_ms > 0
                && end > first_dirty
                && segment.largest_timestamp > young;
            if end > bound || too_young {
                first_uncleanable = segment.base_offset;
                break;
            }
        }
        let mut range = Self {
            first_dirty,
            first_uncleanable: first_uncleanable.max(first_dirty),
            dirty_bytes: 0,
            dirty_ratio: 0.0,
            overdue: false,
        };
        let mut clean_bytes = 0;
        for (i, segment) in closed.iter().enumerate() {
            if segment.base_offset >= first_uncleanable {
                break;
            }
            if segments[i + 1].base_offset <= first_dirty {
                clean_bytes += segment.size;
                continue;
            }
            range.dirty_bytes += segment.size;
            let age = now_ms.saturating_sub(segment.first_timestamp);
            range.overdue |= segment.first_timestamp > 0 && age > config.max_compaction_lag_ms;
        }
        let all = clean_bytes + range.dirty_bytes;
        if all > 0 {
            range.dirty_ratio = range.dirty_bytes as f64 / all as f64;
        }
        range
    }

    /// Whether it is dirty enough.
    pub(crate) fn is_due(&self, config: &LogConfig) -> bool {
        self.dirty_bytes > 0
            && (self.overdue || self.dirty_ratio > config.min_cleanable_dirty_ratio)
    }
}

/// How large a rewritten segment may become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    /// `segment.bytes`
    pub(crate) segment_bytes: u64,
    /// `segment.index.bytes`, for each of the two indexes.
    pub(crate) index_bytes: u64,
}

/// Segments made one at a time: their files are all open while the new one takes their place.
const GROUP_SEGMENTS_MAX: usize = 64;

/// What is looked at in a segment to group it with others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupMember {
    pub(crate) base_offset: Offset,
    /// Where the next one begins.
    pub(crate) end_offset: Offset,
    pub(crate) size: u64,
    /// The larger of its two indexes.
    pub(crate) index_size: u64,
}

/// Number of segments in each group, in order: as many as fit one segment together, by the sizes that they have before they are
/// cleaned. Source: Kafka `Cleaner.groupSegmentsBySize`.
pub(crate) fn groups(members: &[GroupMember], limits: GroupLimits) -> Vec<usize> {
    let mut groups = Vec::new();
    let (mut first, mut size, mut index_size) = (0, 0, 0);
    for (i, member) in members.iter().enumerate() {
        let spans = i32::try_from(member.end_offset - 1 - members[first].base_offset).is_ok();
        let fits = size + member.size <= limits.segment_bytes
            && index_size + member.index_size <= limits.index_bytes
            && i - first < GROUP_SEGMENTS_MAX
            && (spans || member.size == 0);
        if i > first && !fits {
            groups.push(i - first);
            (first, size, index_size) = (i, 0, 0);
        }
        size += member.size;
        index_size += member.index_size;
    }
    if first < members.len() {
        groups.push(members.len() - first);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 100 bytes and ten offsets, the newest record of number `i` at `1_000 * (i + 1)`, its first one 500 earlier.
    fn sizes(count: i64) -> Vec<SegmentSize> {
        let size = |i| SegmentSize {
            base_offset: 10 * i,
            size: 100,
            largest_timestamp: 1_000 * (i + 1),
            first_timestamp: 1_000 * i + 500,
        };
        (0..count).map(size).collect()
    }

    fn range(config: &LogConfig, clean: Option<Offset>, bound: Offset, now_ms: i64) -> Range {
        Range::of(&sizes(5), config, (0, clean), bound, now_ms)
    }

    fn offsets(range: Range) -> (Offset, Offset, u64) {
        (
            range.first_dirty,
            range.first_uncleanable,
            range.dirty_bytes,
        )
    }

    #[test]
    fn neither_the_active_segment_nor_what_is_undecided_is_touched() {
        let config = LogConfig::default();
        for (bound, expected) in [
            (100, (0, 40, 400)),
            (40, (0, 40, 400)),
            (39, (0, 30, 300)),
            (10, (0, 10, 100)),
            (9, (0, 0, 0)),
            (0, (0, 0, 0)),
        ] {
            assert_eq!(
                offsets(range(&config, None, bound, 0)),
                expected,
                "bound {bound}"
            );
        }
    }

    #[test]
    fn what_was_cleaned_is_not_dirty_unless_the_mark_cannot_be_right() {
        let config = LogConfig::default();
        let at = |clean| offsets(range(&config, clean, 100, 0));
        assert_eq!(at(Some(20)), (20, 40, 200));
        assert_eq!(at(Some(40)), (40, 40, 0));
        assert_eq!(
            at(Some(25)),
            (25, 40, 200),
            "a segment that is dirty in part is dirty"
        );
        assert_eq!(at(Some(41)), (0, 40, 400), "ahead of the active segment");
        let later = Range::of(&sizes(5)[1..], &config, (15, Some(10)), 100, 0);
        assert_eq!(offsets(later), (15, 40, 300), "behind the log's start");
    }

    #[test]
    fn dirt_is_due_by_its_share_or_by_its_age() {
        let mut config = LogConfig {
            min_cleanable_dirty_ratio: 0.5,
            ..LogConfig::default()
        };
        assert!(range(&config, None, 100, 0).is_due(&config));
        let half = range(&config, Some(20), 100, 0);
        assert_eq!((half.dirty_ratio, half.is_due(&config)), (0.5, false));
        config.max_compaction_lag_ms = 1_000;
        for (now_ms, overdue) in [(3_500, false), (3_501, true)] {
            let range = range(&config, Some(20), 100, now_ms);
            assert_eq!((range.overdue, range.is_due(&config)), (overdue, overdue));
        }
        assert!(
            !range(&config, Some(40), 100, i64::MAX).is_due(&config),
            "nothing is dirty"
        );
    }

    #[test]
    fn what_is_young_is_left_alone_with_all_behind_it() {
        let config = LogConfig {
            min_compaction_lag_ms: 1_000,
            ..LogConfig::default()
        };
        for (now_ms, end) in [(1_999, 0), (2_000, 10), (3_500, 20), (9_000, 40)] {
            assert_eq!(
                range(&config, None, 100, now_ms).first_uncleanable,
                end,
                "at {now_ms}"
            );
        }
        assert_eq!(offsets(range(&config, Some(20), 100, 0)), (20, 20, 0));
    }

    fn grouped(members: &[(Offset, Offset, u64, u64)]) -> Vec<usize> {
        let member = |(base_offset, end_offset, size, index_size): &(Offset, Offset, u64, u64)| {
            GroupMember {
                base_offset: *base_offset,
                end_offset: *end_offset,
                size: *size,
                index_size: *index_size,
            }
        };
        let members: Vec<_> = members.iter().map(member).collect();
        groups(
            &members,
            GroupLimits {
                segment_bytes: 100,
                index_bytes: 50,
            },
        )
    }

    #[test]
    fn segments_are_joined_while_they_fit_by_size_index_and_offsets() {
        assert_eq!(grouped(&[]), [0; 0]);
        assert_eq!(
            grouped(&[(0, 10, 500, 90)]),
            [1],
            "one is a group whatever its size"
        );
        assert_eq!(
            grouped(&[
                (0, 10, 40, 0),
                (10, 20, 40, 0),
                (20, 30, 40, 0),
                (30, 40, 60, 0)
            ]),
            [2, 2]
        );
        assert_eq!(
            grouped(&[(0, 10, 1, 30), (10, 20, 1, 20), (20, 30, 1, 1)]),
            [2, 1]
        );
        let far = i64::from(i32::MAX);
        assert_eq!(
            grouped(&[(0, 10, 1, 0), (10, far + 1, 1, 0), (far + 1, far + 2, 1, 0)]),
            [2, 1]
        );
        assert_eq!(
            grouped(&[(0, 10, 1, 0), (10, far + 9, 0, 0)]),
            [2],
            "an empty one reaches nowhere"
        );
        let many: Vec<_> = (0..130).map(|i| (i, i + 1, 0, 0)).collect();
        assert_eq!(grouped(&many), [64, 64, 2]);
    }
}
