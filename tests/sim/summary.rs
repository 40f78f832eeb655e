//! What a run exercised: counters that the world, the network, the disk and the workload increase.
//!
//! A run that injected no fault proves nothing; the test of the seeds asserts on the sum.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// One number.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// All numbers of one run, or of many.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[doc = $doc])+ pub(crate) $field: Counter,)+
        }

        impl Counters {
            /// Adds the numbers of another run.
            pub(crate) fn merge(&self, other: &Counters) {
                $(self.$field.add(other.$field.get());)+
            }

            /// Name and number, in the order of the declaration.
            pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field.get()),)+]
            }
        }
    };
}

counters! {
    /// Milliseconds of virtual time.
    virtual_ms,
    /// The broker's process died, its writes stayed.
    broker_kills,
    /// Power loss: no write that was not synced stays.
    power_lose_unsynced,
    /// Power loss: a prefix of them stays.
    power_prefix,
    /// Power loss: any sectors of them stay.
    power_tear,
    /// Power loss: zeros in their place.
    power_zero_fill,
    /// Power loss: the lengths are the old ones.
    power_lose_length,
    /// Of all of these: the broker had not finished its start.
    crashes_in_recovery,
    /// Of all of these: between two operations of the disk.
    crashes_between_disk_operations,
    /// The broker refused to start; it was started again.
    failed_starts,
    /// A client host died.
    client_crashes,
    /// A client host that the network kept apart for longer than its sessions last.
    pauses,
    /// Links that dropped what was sent.
    partitions,
    /// Links that became slow.
    slow_links,
    /// Connections opened by clients.
    connections,
    /// Connections cut in the middle.
    cut_connections,
    /// Requests that arrived when their client had gone.
    detached_requests,
    /// A flush said EIO, and what it should have flushed was gone.
    failed_syncs,
    /// A write said EIO.
    failed_writes,
    /// A read said EIO.
    failed_reads,
    /// The disk was full for a while.
    full_disks,
    /// The disk was slow for a while.
    slow_disks,
    /// Steps of a wall clock.
    clock_steps,
    /// Operations that changed the disk.
    disk_operations,
    /// Records told to be written.
    records_acked,
    /// Records of which the producer does not know.
    records_unknown,
    /// Transactions told to be committed.
    commits,
    /// Transactions told to be aborted.
    aborts,
    /// Transactions of which the producer does not know.
    transactions_unknown,
    /// A producer was told that another one has taken over.
    fencings,
    /// A member was given partitions.
    rebalances,
    /// Group offsets told to be committed.
    group_commits,
    /// Commits that the group refused.
    refused_commits,
    /// Records that consumers were given.
    records_read,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, number) in self.all() {
            match name {
                "virtual_ms" => writeln!(f, "  virtual hours: {:.2}", number as f64 / 3_600_000.0)?,
                name => writeln!(f, "  {}: {number}", name.replace('_', " "))?,
            }
        }
        Ok(())
    }
}
