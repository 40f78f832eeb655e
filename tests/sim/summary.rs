//! What a run exercised: counters that the world, the network, the disk and the workload increase.
//!
//! A run that injected no fault proves nothing; the test of the seeds asserts on the sum.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use flumen_log::fault_disk::Injected;

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
    /// Power loss: older bytes in their place.
    power_stale,
    /// Power loss: the lengths are the old ones.
    power_lose_length,
    /// Power loss: the lengths run ahead.
    power_length_ahead,
    /// Power loss: each file in its own way.
    power_mixed,
    /// Of all of these: the broker had not finished its start.
    crashes_in_recovery,
    /// Of all of these: between two operations of the disk.
    crashes_between_disk_operations,
    /// The broker refused to start; it was started again.
    failed_starts,
    /// A client host died.
    client_crashes,
    /// Of all of these: at a request it sent.
    client_crashes_at_requests,
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
    /// Writes that a loss of power left nothing of.
    lost_writes,
    /// Writes of which it left some sectors.
    torn_writes,
    /// Writes in whose place it left zeros or older bytes.
    overwritten_writes,
    /// Files whose length it left behind their bytes, or ahead of them.
    wrong_lengths,
    /// Names it left no trace of.
    lost_names,
    /// A flush said EIO, and what it should have flushed was gone.
    failed_syncs,
    /// A read said EIO.
    failed_reads,
    /// Another operation said EIO.
    failed_operations,
    /// A write stopped early.
    short_writes,
    /// An operation found no space.
    refused_for_space,
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
    /// Compacted topics that were read from the beginning, and judged.
    tables_read,
    /// Committed records of compacted topics that were not there any more at the end.
    records_compacted,
}

impl Counters {
    /// Deaths of the broker, however it died.
    pub(crate) fn broker_crashes(&self) -> u64 {
        let kinds = [
            &self.broker_kills,
            &self.power_lose_unsynced,
            &self.power_prefix,
            &self.power_tear,
            &self.power_zero_fill,
            &self.power_stale,
            &self.power_lose_length,
            &self.power_length_ahead,
            &self.power_mixed,
        ];
        kinds.iter().map(|kind| kind.get()).sum()
    }

    /// What was done to the disk.
    pub(crate) fn add_disk(&self, injected: &Injected) {
        self.lost_writes.add(injected.lost_writes);
        self.torn_writes.add(injected.torn_writes);
        self.overwritten_writes
            .add(injected.zeroed_writes + injected.stale_writes);
        self.wrong_lengths.add(injected.wrong_lengths);
        self.lost_names.add(injected.lost_names);
        self.failed_syncs.add(injected.failed_syncs);
        self.failed_reads.add(injected.failed_reads);
        self.failed_operations.add(injected.failed_ops);
        self.short_writes.add(injected.short_writes);
        self.refused_for_space.add(injected.refused_for_space);
    }
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
