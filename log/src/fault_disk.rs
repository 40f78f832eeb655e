//! A disk in memory that fails on purpose: for tests of this crate and of whoever builds on it.
//!
//! It keeps what [`crate::disk`] promises and nothing more. Every write, name and length that was not synced is remembered
//! apart from what was; [`FaultDisk::after_crash`] decides by a [`Crash`] and a seed what of it a loss of power leaves. Operations
//! that change something are counted, so that a test can stop the world at each of them in turn ([`FaultDisk::power_off_at`]),
//! or let one of them fail ([`FaultDisk::fail_at`]). The same seed gives the same disk.

mod file;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::disk::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};
use file::{FileState, OpenFile};
use names::DirState;

/// What a loss of power leaves of writes and names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing: the most forgetful disk.
    LoseUnsynced,
    /// Everything, as when only the process died.
    KeepAll,
    /// A prefix of each file's writes and of each directory's changes.
    Prefix,
    /// Any 512-byte sectors of each write, in any order, and any of the names.
    Tear,
    /// Lengths, but zeros instead of the bytes; all names.
    ZeroFill,
    /// Bytes within the old lengths only; all names.
    LoseLength,
}

impl Crash {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::LoseUnsynced,
        Self::KeepAll,
        Self::Prefix,
        Self::Tear,
        Self::ZeroFill,
        Self::LoseLength,
    ];
}

/// How one operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An input/output error. A sync drops what it should have made durable, and the next one succeeds: what Linux does.
    Io,
    /// No space; nothing is written.
    NoSpace,
    /// A write stops after this many bytes, without an error.
    ShortWrite(usize),
}

/// The disk. Clone the `Arc` to share it. See the file's head.
#[derive(Debug, Default)]
pub struct FaultDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<NodeId, FileState>,
    dirs: BTreeMap<NodeId, DirState>,
    next_node: u64,
    locked: BTreeSet<PathBuf>,
    ops: u64,
    off_at: Option<u64>,
    faults: BTreeMap<u64, Fault>,
    capacity: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NodeId(u64);

const ROOT: NodeId = NodeId(0);

impl FaultDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        let disk = Self::default();
        disk.state.lock().dirs.insert(ROOT, DirState::default());
        disk
    }

    /// Operations so far that changed something, or tried to.
    pub fn ops(&self) -> u64 {
        self.state.lock().ops
    }

    /// The power goes with operation number `op` (counted from 1): it has no lasting effect that is sure, and all later ones fail.
    pub fn power_off_at(&self, op: u64) {
        self.state.lock().off_at = Some(op);
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        let state = self.state.lock();
        state.off_at.is_some_and(|at| state.ops >= at)
    }

    /// Operation number `op` (counted from 1) fails in this way.
    pub fn fail_at(&self, op: u64, fault: Fault) {
        self.state.lock().faults.insert(op, fault);
    }

    /// How many bytes all files together may hold; `None` for no limit. Holes take no space.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes that all files hold.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Flips bits of a byte at rest: `byte ^= mask`.
    ///
    /// # Errors
    /// `NotFound`; `UnexpectedEof` if the file ends before `position`.
    pub fn flip(&self, path: &Path, position: usize, mask: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find_file(path)?;
        let file = state.files.get_mut(&id).expect("found");
        file.flip(position, mask)
    }

    /// The disk as the next start finds it after a loss of power now. `seed` decides wherever `how` leaves a choice.
    pub fn after_crash(&self, how: Crash, seed: u64) -> Self {
        let old = self.state.lock();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let files = old
            .files
            .iter()
            .map(|(id, file)| (*id, file.after_crash(how, &mut random)))
            .collect();
        let dirs = old
            .dirs
            .iter()
            .map(|(id, dir)| (*id, dir.after_crash(how, &mut random)))
            .collect();
        let state = State {
            files,
            dirs,
            next_node: old.next_node,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }
}

impl State {
    /// Counts an operation; says whether it may go on, and how it fails if it does.
    fn begin(&mut self) -> io::Result<Option<Fault>> {
        self.ops += 1;
        if self.off_at.is_some_and(|at| self.ops > at) {
            return Err(io::Error::other("the power is off"));
        }
        match self.faults.remove(&self.ops) {
            Some(Fault::Io) => Err(io::Error::from_raw_os_error(5)),
            Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            fault => Ok(fault),
        }
    }

    /// Whether the operation that was begun last is the one at which the power goes.
    fn goes_off(&self) -> bool {
        self.off_at == Some(self.ops)
    }

    fn used(&self) -> u64 {
        self.files.values().map(FileState::used).sum()
    }

    fn left(&self) -> u64 {
        self.capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    fn new_node(&mut self) -> NodeId {
        self.next_node += 1;
        NodeId(self.next_node)
    }

    fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for part in parts(path) {
            let dir = self.dirs.get(&at).ok_or(io::ErrorKind::NotADirectory)?;
            at = dir.get(part).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn find_file(&self, path: &Path) -> io::Result<NodeId> {
        let id = self.find(path)?;
        self.files
            .contains_key(&id)
            .then_some(id)
            .ok_or(io::ErrorKind::IsADirectory.into())
    }

    /// The directory that holds `path`, and the last part of it.
    fn parent<'a>(&mut self, path: &'a Path) -> io::Result<(&mut DirState, &'a str)> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let id = self.find(path.parent().unwrap_or(Path::new("")))?;
        let dir = self.dirs.get_mut(&id).ok_or(io::ErrorKind::NotADirectory)?;
        Ok((dir, name))
    }
}

fn parts(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let id = match state.find_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && mode == OpenMode::Create => {
                state.begin()?;
                let id = state.new_node();
                let (dir, name) = state.parent(path)?;
                dir.add(name, id);
                state.files.insert(id, FileState::default());
                id
            }
            found => found?,
        };
        Ok(Arc::new(OpenFile::new(self.state.clone(), id, path)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        let id = state.find(dir)?;
        let entries = state
            .dirs
            .get(&id)
            .ok_or(io::ErrorKind::NotADirectory)?
            .entries();
        Ok(entries
            .map(|(name, id)| DirEntry {
                name: name.to_owned(),
                is_dir: state.dirs.contains_key(&id),
            })
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.state.lock();
        let mut path = PathBuf::new();
        let mut changed = Vec::new();
        for part in parts(dir) {
            path.push(part);
            if state.find(&path).is_err() {
                state.begin()?;
                let id = state.new_node();
                let (parent, name) = state.parent(&path)?;
                parent.add(name, id);
                state.dirs.insert(id, DirState::default());
                changed.push(path.parent().unwrap_or(Path::new("")).to_owned());
            }
        }
        Ok(changed)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        let id = state.find(from)?;
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let (dir, from) = state.parent(from)?;
        let to = to
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(io::ErrorKind::InvalidInput)?;
        dir.rename(from, to, id);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state.find_file(path)?;
        let (dir, name) = state.parent(path)?;
        dir.remove(name);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state.find(path)?;
        let (dir, name) = state.parent(path)?;
        dir.remove(name);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let failed = state.begin();
        let id = state.find(path)?;
        let off = state.goes_off();
        let dir = state
            .dirs
            .get_mut(&id)
            .ok_or(io::ErrorKind::NotADirectory)?;
        match failed {
            Ok(_) if off => return Err(io::Error::other("the power is off")),
            Ok(_) => dir.sync(),
            Err(_) => dir.forget(),
        }
        failed.map(|_| ())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.state.lock();
        match state.locked.insert(path.to_owned()) {
            true => Ok(Box::new(Lock {
                state: self.state.clone(),
                path: path.to_owned(),
            })),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[derive(Debug)]
struct Lock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl DiskLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state: MutexGuard<'_, State> = self.state.lock();
        state.locked.remove(&self.path);
    }
}

/// Marsaglia's xorshift64*: enough to choose what is lost.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn flip(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }
}
