//! The broker's disk: the fault disk of the log crate, through all starts and losses of power of one machine.
//!
//! [`Machine`] is the hardware that stays when the software dies. It orders failures by kind (the next flush, the next write, the next read)
//! where the fault disk counts operations; what a failure does to the data is the fault disk's business.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flumen_log::disk::{DirEntry, Disk, DiskFile, DiskLock, DiskMap, OpenMode};
use flumen_log::fault_disk::{Crash, Fault, FaultDisk};
use flumen_protocol::segment::FileSource;

use crate::summary::Counters;

/// Whether the machine runs at all. One for each life of the broker.
#[derive(Debug)]
pub(crate) struct Power(Arc<FaultDisk>);

impl Power {
    pub(crate) fn is_off(&self) -> bool {
        self.0.is_off()
    }
}

/// A failure that waits for its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    /// A flush of a file or of names.
    Sync,
    /// A write to a file.
    Write,
    /// A read of a file.
    Read,
}

/// The hardware under the broker.
#[derive(Debug)]
pub(crate) struct Machine {
    state: Mutex<State>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct State {
    disk: Arc<FaultDisk>,
    /// What fails, after how many more operations of its kind.
    failing: Vec<(Failing, u32)>,
    /// A flush failed in this life: the directory is fenced until the next one.
    sync_failed: bool,
    /// How long blocking work waits for its turn.
    slow: Duration,
}

impl Machine {
    pub(crate) fn new(counters: Arc<Counters>) -> Arc<Machine> {
        let state = State {
            disk: Arc::new(FaultDisk::new()),
            failing: Vec::new(),
            sync_failed: false,
            slow: Duration::ZERO,
        };
        Arc::new(Machine {
            state: Mutex::new(state),
            counters,
        })
    }

    /// The disk as this life of the broker sees it.
    pub(crate) fn boot(self: &Arc<Self>) -> (Arc<dyn Disk>, Arc<Power>) {
        let disk = Arc::clone(&self.state.lock().unwrap().disk);
        let power = Arc::new(Power(Arc::clone(&disk)));
        let machine = Arc::clone(self);
        (Arc::new(MachineDisk { disk, machine }), power)
    }

    pub(crate) fn is_off(&self) -> bool {
        self.state.lock().unwrap().disk.is_off()
    }

    /// The power goes `operations` from now.
    pub(crate) fn power_off_after(&self, operations: u64) {
        let disk = &self.state.lock().unwrap().disk;
        disk.power_off_at(disk.ops() + operations);
    }

    /// The software is gone; what of its writes is left lies on the disk of the next life.
    pub(crate) fn crash(&self, how: Crash, seed: u64) {
        let mut state = self.state.lock().unwrap();
        self.counters.disk_operations.add(state.disk.ops());
        state.disk = Arc::new(state.disk.after_crash(how, seed));
        state.failing.clear();
        state.sync_failed = false;
    }

    pub(crate) fn fail(&self, what: Failing, skip: u32) {
        self.state.lock().unwrap().failing.push((what, skip));
    }

    /// Failures that were ordered and have not come do not come.
    pub(crate) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.failing.clear();
        state.slow = Duration::ZERO;
        state.disk.set_capacity(None);
    }

    pub(crate) fn sync_failed(&self) -> bool {
        self.state.lock().unwrap().sync_failed
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

    /// Operations of this life so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state.lock().unwrap().disk.ops()
    }

    /// Whether this operation is one that was ordered to fail.
    fn fails(&self, what: Failing) -> bool {
        let mut state = self.state.lock().unwrap();
        let Some(at) = state.failing.iter().position(|(kind, _)| *kind == what) else {
            return false;
        };
        if state.failing[at].1 > 0 {
            state.failing[at].1 -= 1;
            return false;
        }
        state.failing.remove(at);
        match what {
            Failing::Sync => {
                state.sync_failed = true;
                self.counters.failed_syncs.add(1);
            }
            Failing::Write => self.counters.failed_writes.add(1),
            Failing::Read => self.counters.failed_reads.add(1),
        }
        true
    }
}

#[derive(Debug)]
struct MachineDisk {
    disk: Arc<FaultDisk>,
    machine: Arc<Machine>,
}

impl MachineDisk {
    /// The next operation fails in the way of the fault disk if one of its kind was ordered to.
    fn before(&self, what: Failing) {
        if self.machine.fails(what) {
            self.disk.fail_at(self.disk.ops() + 1, Fault::Io);
        }
    }
}

impl Disk for MachineDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        let disk = MachineDisk {
            disk: Arc::clone(&self.disk),
            machine: Arc::clone(&self.machine),
        };
        Ok(Arc::new(MachineFile { file, disk }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.before(Failing::Sync);
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct MachineFile {
    file: Arc<dyn DiskFile>,
    disk: MachineDisk,
}

impl FileSource for MachineFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        match self.disk.machine.fails(Failing::Read) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => self.file.read_at(buf, position),
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl DiskFile for MachineFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.disk.before(Failing::Write);
        self.file.write_at(parts, position)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.file.allocate(position, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.before(Failing::Sync);
        self.file.sync_data()
    }

    fn map(&self, len: usize) -> io::Result<Box<dyn DiskMap>> {
        self.file.map(len)
    }
}
