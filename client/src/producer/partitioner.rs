//! Which partition a record goes to. Pure.
//!
//! Owns murmur2 as Java's `Utils.murmur2` (so that keys meet in the same partition whoever wrote them) and the
//! sticky choice for records without a key. `producer/mod.rs` asks; Streams uses [`partition_for_key`] for repartitioning.
//! It never looks at brokers: the caller says how many partitions there are.

use crate::runtime::Chance;

/// MurmurHash2 with Kafka's seed, as the signed number Java computes.
///
/// Source: Kafka `Utils.murmur2`.
///
/// ```
/// assert_eq!(flumen_client::murmur2(b"21"), -973_932_308);
/// ```
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let length = data.len() as u32;
    let mut h: u32 = 0x9747_b28c ^ length;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        h = h.wrapping_mul(M);
        h ^= k;
    }
    let tail = words.remainder();
    if tail.len() >= 3 {
        h ^= u32::from(tail[2]) << 16;
    }
    if tail.len() >= 2 {
        h ^= u32::from(tail[1]) << 8;
    }
    if !tail.is_empty() {
        h ^= u32::from(tail[0]);
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^= h >> 15;
    h.cast_signed()
}

/// The partition of a key, in `[0, partitions)`: murmur2, made positive, modulo the number of partitions.
///
/// Source: Kafka `BuiltInPartitioner.partitionForKey`.
///
/// # Panics
/// If `partitions` is not positive: a topic has at least one.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has at least one partition");
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Records without a key stay with one partition until it got a batch, then move to another by chance.
///
/// One per topic. Source: KIP-480, KIP-794 (uniform in bytes).
#[derive(Debug)]
pub(crate) struct Sticky {
    partition: i32,
    bytes: usize,
    chance: Chance,
}

impl Sticky {
    pub(crate) fn new(seed: u64) -> Sticky {
        Sticky {
            partition: -1,
            bytes: 0,
            chance: Chance::new(seed),
        }
    }

    /// The partition for a record of `size` bytes. Moves on once `batch_bytes` went to one partition.
    pub(crate) fn next(&mut self, partitions: i32, size: usize, batch_bytes: usize) -> i32 {
        if self.partition < 0 || self.partition >= partitions || self.bytes >= batch_bytes {
            let count = usize::try_from(partitions).unwrap_or(1);
            let mut choice = i32::try_from(self.chance.below(count)).unwrap_or(0);
            if choice == self.partition {
                choice = (choice + 1) % partitions.max(1);
            }
            self.partition = choice;
            self.bytes = 0;
        }
        self.bytes += size;
        self.partition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_the_numbers_of_kafkas_own_test() {
        // org.apache.kafka.common.utils.UtilsTest.testMurmur2
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn a_key_of_any_bytes_has_a_partition_in_range() {
        for length in 0..64_u8 {
            let key: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            for partitions in [1, 2, 7, 50] {
                assert!((0..partitions).contains(&partition_for_key(&key, partitions)));
            }
        }
    }

    #[test]
    fn records_without_key_stay_until_a_batch_is_full_then_move() {
        let mut sticky = Sticky::new(7);
        let first = sticky.next(4, 100, 300);
        assert_eq!(sticky.next(4, 100, 300), first);
        assert_eq!(sticky.next(4, 100, 300), first);
        let second = sticky.next(4, 100, 300);
        assert_ne!(second, first);
    }

    #[test]
    fn every_partition_gets_its_share() {
        let mut sticky = Sticky::new(42);
        let mut counts = [0_u32; 4];
        for _ in 0..10_000 {
            counts[usize::try_from(sticky.next(4, 100, 300)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| *count > 2_000), "{counts:?}");
    }
}
