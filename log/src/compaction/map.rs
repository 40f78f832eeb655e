//! The newest offset of each key, in memory that is bounded beforehand.

use flumen_protocol::id::Offset;
use md5::{Digest, Md5};

/// A key's hash in two halves, and its newest offset + 1: a slot of zeros is free, and memory that was never touched is zeros.
type Slot = [u64; 3];
const SLOT_BYTES: u64 = size_of::<Slot>() as u64;

/// Key → newest offset. Keys are known by their MD5, as Kafka does it: two keys of one hash would be taken for one, which happens by
/// chance never, and on purpose only to who writes both.
///
/// Open addressing with linear probing. Source: Kafka `SkimpyOffsetMap`.
#[derive(Debug)]
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
    /// All records below were offered to the map: what lies at or above it is not judged.
    end: Offset,
}

impl OffsetMap {
    /// With room for `entries` keys, or for as many as `bytes` hold: at least one.
    pub(crate) fn new(bytes: u64, entries: u64) -> Self {
        let wanted = entries.saturating_mul(10) / 9 + 2;
        let slots = wanted.min(bytes / SLOT_BYTES).max(2);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX / 32);
        Self {
            slots: vec![[0; 3]; slots],
            used: 0,
            // Beyond that probing gets slow. One slot is always free, so that probing ends.
            used_max: (slots - slots.div_ceil(10)).max(1),
            end: 0,
        }
    }

    /// Notes that `key` is at `offset`, which must be above all offsets noted before. False if there is no room.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let (at, hash) = self.find(key);
        if self.slots[at][2] == 0 {
            if self.used == self.used_max {
                return false;
            }
            self.used += 1;
        }
        self.slots[at] = [hash[0], hash[1], offset.cast_unsigned() + 1];
        true
    }

    /// The newest offset of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let (at, _) = self.find(key);
        self.slots[at][2].checked_sub(1).map(u64::cast_signed)
    }

    /// The slot of a key, or the free one in which it belongs.
    fn find(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let digest: [u8; 16] = Md5::digest(key).into();
        let half = |at: usize| u64::from_be_bytes(digest[at..at + 8].try_into().expect("8 bytes"));
        let hash = [half(0), half(8)];
        let mut at = (hash[0] % self.slots.len() as u64) as usize;
        while self.slots[at][2] != 0 && self.slots[at][..2] != hash {
            at = (at + 1) % self.slots.len();
        }
        (at, hash)
    }

    /// All below was offered.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// All below `end` was offered.
    pub(crate) fn set_end(&mut self, end: Offset) {
        self.end = self.end.max(end);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_bounded_and_a_full_map_says_so() {
        let mut map = OffsetMap::new(24 * 100, u64::MAX);
        assert_eq!(map.slots.len(), 100);
        let stored = (0..1_000i64)
            .take_while(|i| map.put(&i.to_be_bytes(), *i))
            .count();
        assert_eq!(stored, 90);
        assert!(
            map.put(&5i64.to_be_bytes(), 2_000),
            "a known key needs no room"
        );
        assert_eq!(map.get(&5i64.to_be_bytes()), Some(2_000));
        assert_eq!(map.get(&95i64.to_be_bytes()), None);
        assert!(
            OffsetMap::new(u64::MAX, 1_000).slots.len() < 1_200,
            "no more than is needed"
        );
        assert!(
            OffsetMap::new(0, 0).put(b"one", 0),
            "one key always finds room"
        );
    }

    proptest! {
        #[test]
        fn it_is_a_map(keys in prop::collection::vec(prop::collection::vec(0u8..3, 0..4), 0..200)) {
            let mut map = OffsetMap::new(1 << 20, keys.len() as u64);
            let mut model = BTreeMap::new();
            for (offset, key) in keys.iter().enumerate() {
                prop_assert!(map.put(key, offset as i64));
                model.insert(key.clone(), offset as i64);
            }
            for key in &keys {
                prop_assert_eq!(map.get(key), model.get(key).copied());
            }
            prop_assert_eq!(map.get(b"no such key"), None);
        }
    }
}
