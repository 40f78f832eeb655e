//! Coordinators: who belongs to a consumer group, what it has committed, and how a transaction ends.
//!
//! Two replicated machines on one runtime. Each partition of `__consumer_offsets` is the log of one [`group::GroupShard`], each
//! partition of `__transaction_state` that of one [`txn::TxnShard`]; the shard's replicated state is what a replay of its
//! partition gives, at all times. `runtime` holds the locks, writes the records, waits until they are committed and only then
//! lets a reply out. The machines are plain data: no clock, no lock, no await. Handlers call `runtime`, nothing else here.

pub(crate) mod group;
pub(crate) mod runtime;
pub(crate) mod timers;
pub(crate) mod txn;

/// The two clocks a machine is given with every call.
///
/// Sessions and rebalances run on the monotonic one. What is written into a log and compared after a restart (commit timestamps, start
/// of a transaction) is wall time, as it was when the broker started and as it passed since: while the broker runs, neither is moved
/// by a step of the machine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    /// Milliseconds since an arbitrary point of this process.
    pub(crate) monotonic_ms: u64,
    /// Milliseconds since the epoch.
    pub(crate) wall_ms: i64,
}

pub(crate) use runtime::transactions::TransactionalWrites;
pub(crate) use runtime::{CoordinatorParts, Coordinators};

/// Longest group id, member id, topic or transactional id that a record can carry.
pub(crate) const NAME_BYTES_MAX: usize = 32_767;

/// A reply that is owed: the runtime maps it to the connection that waits.
pub(crate) type Token = u64;

/// The internal topic of groups and their offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The internal topic of transactions.
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// The partition of an internal topic that owns `name` (a group id or a transactional id).
///
/// Java's `String.hashCode` over UTF-16 units, made non-negative as Kafka's `Utils.abs` does (`i32::MIN` becomes 0), modulo
/// `partitions`. Tools compute the same to find a coordinator, so it can never change.
pub(crate) fn partition_for(name: &str, partitions: i32) -> i32 {
    let hash = name.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinator_partition_is_javas_string_hash() {
        // "".hashCode() = 0, "a" = 97, "hello" = 99162322, "polygenelubricants" = Integer.MIN_VALUE, "Äö€😀" has a surrogate pair.
        for (name, expected) in [
            ("", 0),
            ("a", 97 % 50),
            ("hello", 99_162_322 % 50),
            ("polygenelubricants", 0),
            ("Äö€😀", 5),
        ] {
            assert_eq!(partition_for(name, 50), expected, "{name}");
        }
    }
}
