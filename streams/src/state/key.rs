//! Keys as they lie in a store and in its changelog.
//!
//! ```text
//! row in RocksDB      [partition u16 BE] 1 [user key]
//! its position        [partition u16 BE] 0 "offset"                value: next changelog offset, i64 BE
//! window store        user key = [window start i64, order preserving] [key]
//! changelog           the user key; of a window store [key] [window start i64 BE] [sequence u32 = 0], as Kafka's WindowKeySchema
//! value of a row      [timestamp i64 BE] [value]; in the changelog the timestamp is the record's
//! ```
//! The byte behind the partition keeps a user key from ever meeting the position. Window starts come first so that what
//! expires together lies together.

/// Bytes in front of the user key.
pub(crate) const PREFIX_LEN: usize = 3;
/// Bytes of a window start.
pub const START_LEN: usize = 8;
const SEQUENCE_LEN: usize = 4;
const ROWS: u8 = 1;
const SIGN: u64 = 1 << 63;

/// Writes `[partition] 1 [user key]` into `into`, which is cleared first.
pub(crate) fn row_key(into: &mut Vec<u8>, partition: u16, user_key: &[u8]) {
    into.clear();
    into.extend_from_slice(&partition.to_be_bytes());
    into.push(ROWS);
    into.extend_from_slice(user_key);
}

/// First key behind all rows of a partition.
pub(crate) fn rows_end(partition: u16) -> [u8; PREFIX_LEN] {
    let [high, low] = partition.to_be_bytes();
    [high, low, ROWS + 1]
}

/// First key of a partition: its position comes before its rows.
pub(crate) fn partition_start(partition: u16) -> [u8; PREFIX_LEN] {
    let [high, low] = partition.to_be_bytes();
    [high, low, 0]
}

/// Where the next changelog offset of a partition is kept.
pub(crate) fn position_key(partition: u16) -> [u8; 9] {
    let [high, low] = partition.to_be_bytes();
    [high, low, 0, b'o', b'f', b'f', b's', b'e', b't']
}

/// A window start so that earlier ones sort first, those before 1970 too.
pub fn ordered_start(start_ms: i64) -> [u8; START_LEN] {
    (start_ms.cast_unsigned() ^ SIGN).to_be_bytes()
}

/// Writes a window store's user key into `into`, which is cleared first.
pub fn window_key(into: &mut Vec<u8>, key: &[u8], start_ms: i64) {
    into.clear();
    into.extend_from_slice(&ordered_start(start_ms));
    into.extend_from_slice(key);
}

/// Key and window start of a window store's user key; `None` if it is too short to be one.
pub fn split_window_key(user_key: &[u8]) -> Option<(&[u8], i64)> {
    let (start, key) = user_key.split_first_chunk::<START_LEN>()?;
    Some((key, (u64::from_be_bytes(*start) ^ SIGN).cast_signed()))
}

/// Writes a window's changelog key into `into`, which is cleared first.
pub fn window_changelog_key(into: &mut Vec<u8>, key: &[u8], start_ms: i64) {
    into.clear();
    into.extend_from_slice(key);
    append_window_suffix(into, start_ms);
}

/// Makes a window's changelog key of its key.
pub(crate) fn append_window_suffix(key: &mut Vec<u8>, start_ms: i64) {
    key.extend_from_slice(&start_ms.to_be_bytes());
    key.extend_from_slice(&[0; SEQUENCE_LEN]);
}

/// Key and window start of a window's changelog key; `None` if it is too short to be one.
pub fn split_window_changelog_key(changelog_key: &[u8]) -> Option<(&[u8], i64)> {
    let (rest, _sequence) = changelog_key.split_last_chunk::<SEQUENCE_LEN>()?;
    let (key, start) = rest.split_last_chunk::<START_LEN>()?;
    Some((key, i64::from_be_bytes(*start)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_user_key_never_meets_the_position() {
        let mut key = Vec::new();
        row_key(&mut key, 7, b"\0offset");
        assert!(key.as_slice() > position_key(7).as_slice());
        assert!(partition_start(7).as_slice() <= position_key(7).as_slice());
        assert!(key.as_slice() < rows_end(7).as_slice() && rows_end(7) < partition_start(8));
    }

    proptest! {
        #[test]
        fn window_keys_survive_the_changelog(key in prop::collection::vec(any::<u8>(), 0..40), start: i64) {
            let (mut stored, mut logged) = (Vec::new(), Vec::new());
            window_key(&mut stored, &key, start);
            prop_assert_eq!(split_window_key(&stored), Some((key.as_slice(), start)));
            window_changelog_key(&mut logged, &key, start);
            prop_assert_eq!(split_window_changelog_key(&logged), Some((key.as_slice(), start)));
        }

        #[test]
        fn earlier_windows_sort_first(a: i64, b: i64) {
            prop_assert_eq!(a.cmp(&b), ordered_start(a).cmp(&ordered_start(b)));
        }
    }
}
