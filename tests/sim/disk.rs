//! The broker's disk: the fault disk of the log crate, through all starts and losses of power of one machine.
//!
//! [`Machine`] is the hardware that stays when the software dies. What a failure or a loss of power does to the data is the fault disk's
//! business.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flumen_log::disk::Disk;
use flumen_log::fault_disk::{Crash, Fault, FaultDisk, Injected, Kind};

/// Whether the machine runs at all. One for each life of the broker.
#[derive(Debug)]
pub(crate) struct Power(Arc<FaultDisk>);

impl Power {
    pub(crate) fn is_off(&self) -> bool {
        self.0.is_off()
    }
}

/// The hardware under the broker.
#[derive(Debug)]
pub(crate) struct Machine {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    disk: Arc<FaultDisk>,
    /// Flushes that had failed when this life began.
    failed_syncs_before: u64,
    /// The same, and other operations that had failed.
    failures_before: u64,
    /// Operations of the lives before.
    operations_before: u64,
    /// How long blocking work waits for its turn.
    slow: Duration,
}

impl Machine {
    pub(crate) fn new() -> Arc<Machine> {
        let state = State {
            disk: Arc::new(FaultDisk::new()),
            failed_syncs_before: 0,
            failures_before: 0,
            operations_before: 0,
            slow: Duration::ZERO,
        };
        Arc::new(Machine {
            state: Mutex::new(state),
        })
    }

    /// The disk as this life of the broker sees it.
    pub(crate) fn boot(&self) -> (Arc<dyn Disk>, Arc<Power>) {
        let disk = Arc::clone(&self.state.lock().unwrap().disk);
        let power = Arc::new(Power(Arc::clone(&disk)));
        (disk, power)
    }

    pub(crate) fn is_off(&self) -> bool {
        self.state.lock().unwrap().disk.is_off()
    }

    /// The power goes now.
    pub(crate) fn power_off(&self) {
        self.state.lock().unwrap().disk.power_off();
    }

    /// The power goes `operations` from now.
    pub(crate) fn power_off_after(&self, operations: u64) {
        let disk = &self.state.lock().unwrap().disk;
        disk.power_off_at(disk.ops() + operations);
    }

    /// The software is gone; what of its writes is left lies on the disk of the next life.
    pub(crate) fn crash(&self, how: Crash, seed: u64) {
        let mut state = self.state.lock().unwrap();
        state.operations_before += state.disk.ops();
        state.disk = Arc::new(state.disk.after_crash(how, seed));
        let injected = state.disk.injected();
        state.failed_syncs_before = injected.failed_syncs;
        state.failures_before = injected.failed_syncs + injected.failed_ops;
    }

    /// The `nth` operation of this kind from now on fails.
    pub(crate) fn fail(&self, kind: Kind, nth: u64, fault: Fault) {
        let disk = &self.state.lock().unwrap().disk;
        disk.fail_coming(kind, nth, fault);
    }

    /// Failures that were ordered and have not come do not come.
    pub(crate) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.slow = Duration::ZERO;
        state.disk.forget_faults();
        state.disk.set_capacity(None);
    }

    /// Whether a flush failed in this life: the log directory is fenced until the next one.
    pub(crate) fn sync_failed(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.disk.injected().failed_syncs > state.failed_syncs_before
    }

    /// Whether anything but a read failed in this life.
    pub(crate) fn failed(&self) -> bool {
        let state = self.state.lock().unwrap();
        let injected = state.disk.injected();
        injected.failed_syncs + injected.failed_ops > state.failures_before
    }

    /// Leaves so many bytes free; none for as many as anybody wants.
    pub(crate) fn limit(&self, free: Option<u64>) {
        let disk = &self.state.lock().unwrap().disk;
        disk.set_capacity(free.map(|free| disk.used() + free));
    }

    pub(crate) fn set_slow(&self, slow: Duration) {
        self.state.lock().unwrap().slow = slow;
    }

    pub(crate) fn slow(&self) -> Duration {
        self.state.lock().unwrap().slow
    }

    /// Operations of all lives so far.
    pub(crate) fn operations(&self) -> u64 {
        let state = self.state.lock().unwrap();
        state.operations_before + state.disk.ops()
    }

    /// What was done to the disk in all lives.
    pub(crate) fn injected(&self) -> Injected {
        self.state.lock().unwrap().disk.injected()
    }
}
