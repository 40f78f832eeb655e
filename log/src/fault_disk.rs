//! A disk in memory that fails on purpose: for tests of this crate and of whoever builds on it.
//!
//! It keeps what [`crate::disk`] promises and nothing more. Every write, name and length that was not synced is remembered
//! apart from what was; [`FaultDisk::after_crash`] decides by a [`Crash`] and a seed what of it a loss of power leaves. Operations
//! that change something are counted, so that a test can stop the world at each of them in turn ([`FaultDisk::power_off_at`]),
//! or let one of them fail ([`FaultDisk::fail_at`], [`FaultDisk::fail_coming`]). The same seed gives the same disk. What was done
//! to it is counted ([`FaultDisk::injected`]): a test in which nothing went wrong proves nothing.

mod file;
mod names;
mod pages;

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
    /// Lengths, but older bytes of the same file, as of a recycled block, instead of the bytes; all names.
    Stale,
    /// Bytes within the old lengths only; all names: a rename lands, and the file is empty.
    LoseLength,
    /// Everything, and the length of each file written to runs ahead of its bytes to the end of the block.
    LengthAhead,
    /// Each file and each directory in one of the other ways.
    Mixed,
}

impl Crash {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::LoseUnsynced,
        Self::KeepAll,
        Self::Prefix,
        Self::Tear,
        Self::ZeroFill,
        Self::Stale,
        Self::LoseLength,
        Self::LengthAhead,
        Self::Mixed,
    ];

    /// Whether it leaves the seed a choice.
    pub fn has_choices(self) -> bool {
        matches!(self, Self::Prefix | Self::Tear | Self::Stale | Self::Mixed)
    }

    /// For one file or directory.
    fn drawn(self, random: &mut Random) -> Self {
        match self {
            Self::Mixed => Self::ALL[random.below(Self::ALL.len() - 1)],
            how => how,
        }
    }
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

/// A kind of operation, to name the one that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of a file's bytes, and mapping a file. Changes nothing, so it is not among [`FaultDisk::ops`].
    Read,
    /// Of a file's bytes.
    Write,
    /// Through a map; it cannot fail, only come too late.
    MapWrite,
    /// Cutting or extending a file.
    SetLen,
    /// Setting space aside.
    Allocate,
    /// Of a file.
    Sync,
    /// Of a directory.
    SyncDir,
    /// Creating a file or directory.
    Create,
    /// Renaming one.
    Rename,
    /// Removing one.
    Remove,
}

/// What was done to a disk, in this life and those before its crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Losses of power.
    pub crashes: u64,
    /// Writes that a crash left nothing of.
    pub lost_writes: u64,
    /// Writes of which a crash left some sectors.
    pub torn_writes: u64,
    /// Writes in whose place a crash left zeros.
    pub zeroed_writes: u64,
    /// Writes in whose place a crash left older bytes.
    pub stale_writes: u64,
    /// Files whose length a crash left behind their bytes, or ahead of them.
    pub wrong_lengths: u64,
    /// Names added, renamed or removed, of which a crash left no trace.
    pub lost_names: u64,
    /// Syncs of files and directories that failed and dropped what they should have made durable.
    pub failed_syncs: u64,
    /// Reads that failed.
    pub failed_reads: u64,
    /// Other operations that failed with an input/output error.
    pub failed_ops: u64,
    /// Operations that found no space.
    pub refused_for_space: u64,
    /// Writes that stopped early.
    pub short_writes: u64,
    /// Bytes changed at rest.
    pub flipped_bytes: u64,
}

impl Injected {
    fn note(&mut self, kind: Kind, fault: Fault) {
        let counter = match (fault, kind) {
            (Fault::ShortWrite(_), _) => &mut self.short_writes,
            (Fault::NoSpace, _) => &mut self.refused_for_space,
            (Fault::Io, Kind::Sync | Kind::SyncDir) => &mut self.failed_syncs,
            (Fault::Io, Kind::Read) => &mut self.failed_reads,
            (Fault::Io, _) => &mut self.failed_ops,
        };
        *counter += 1;
    }
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
    /// How many of that kind are still to come, the one that fails included.
    coming: Vec<(Kind, u64, Fault)>,
    capacity: Option<u64>,
    injected: Injected,
    bytes_read: u64,
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

    /// The power is gone: every operation from now on that would change something fails.
    pub fn power_off(&self) {
        let mut state = self.state.lock();
        state.off_at = Some(state.ops);
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

    /// The `nth` coming operation of this kind (1 for the next) fails in this way, once.
    pub fn fail_coming(&self, kind: Kind, nth: u64, fault: Fault) {
        self.state.lock().coming.push((kind, nth.max(1), fault));
    }

    /// Takes back all faults that have not come yet.
    pub fn forget_faults(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.coming.clear();
    }

    /// How many bytes all files together may hold; `None` for no limit. Holes take no space.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes that all files hold which have a name or a handle.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Bytes read so far; what is read through maps is not in it.
    pub fn bytes_read(&self) -> u64 {
        self.state.lock().bytes_read
    }

    /// What was done to the disk so far.
    pub fn injected(&self) -> Injected {
        self.state.lock().injected
    }

    /// All files, by path, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let state = self.state.lock();
        let mut found = Vec::new();
        let mut open = vec![(ROOT, PathBuf::from("/"))];
        while let Some((id, path)) = open.pop() {
            for (name, id) in state.dirs[&id].entries() {
                match state.files.get(&id) {
                    Some(file) => found.push((path.join(name), file.len())),
                    None => open.push((id, path.join(name))),
                }
            }
        }
        found.sort();
        found
    }

    /// Flips bits of a byte at rest: `byte ^= mask`. Maps that are open do not see it.
    ///
    /// # Errors
    /// `NotFound`; `UnexpectedEof` if the file ends before `position`.
    pub fn flip(&self, path: &Path, position: usize, mask: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find_file(path)?;
        state.file(id).flip(position, mask)?;
        state.injected.flipped_bytes += 1;
        Ok(())
    }

    /// The disk as the next start finds it after a loss of power now. `seed` decides wherever `how` leaves a choice. Costs
    /// what was written since the last sync, and a pointer for every 4 KiB besides.
    pub fn after_crash(&self, how: Crash, seed: u64) -> Self {
        let old = self.state.lock();
        let mut random = Random::of(seed);
        let mut injected = old.injected;
        injected.crashes += 1;
        let mut state = State {
            next_node: old.next_node,
            capacity: old.capacity,
            ..State::default()
        };
        // Only what still has a name: the rest is gone.
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if let Some(file) = old.files.get(&id) {
                let how = how.drawn(&mut random);
                let left = file.after_crash(how, &mut random, &mut injected);
                state.files.entry(id).or_insert(left).users += 1;
            } else if let Some(dir) = old.dirs.get(&id) {
                let how = how.drawn(&mut random);
                let left = dir.after_crash(how, &mut random, &mut injected);
                open.extend(left.entries().map(|(_, id)| id));
                state.dirs.insert(id, left);
            }
        }
        state.injected = injected;
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }
}

impl State {
    /// Counts an operation; says whether it may go on, and how it fails if it does.
    fn begin(&mut self, kind: Kind) -> io::Result<Option<Fault>> {
        self.ops += 1;
        if self.off_at.is_some_and(|at| self.ops > at) {
            return Err(io::Error::other("the power is off"));
        }
        let fault = self.faults.remove(&self.ops);
        self.fail(kind, fault)
    }

    /// As [`Self::begin`], for what changes nothing.
    fn begin_read(&mut self) -> io::Result<()> {
        self.fail(Kind::Read, None).map(|_| ())
    }

    fn fail(&mut self, kind: Kind, mut fault: Option<Fault>) -> io::Result<Option<Fault>> {
        self.coming.retain_mut(|(which, left, how)| {
            if *which == kind {
                *left -= 1;
                if *left == 0 {
                    fault = Some(*how);
                }
            }
            *left > 0
        });
        if let Some(fault) = fault {
            self.injected.note(kind, fault);
        }
        match fault {
            Some(Fault::Io) => Err(io::Error::from_raw_os_error(5)),
            Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            fault => Ok(fault),
        }
    }

    fn file(&mut self, id: NodeId) -> &mut FileState {
        self.files.get_mut(&id).expect("a file in use stays")
    }

    /// A name for it is gone.
    fn unname(&mut self, id: NodeId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.users -= 1;
        }
    }

    /// Takes the names out of a directory, one by one, and out of those below it.
    fn empty(&mut self, id: NodeId) -> io::Result<()> {
        let Some(dir) = self.dirs.get(&id) else {
            return Ok(());
        };
        let inside: Vec<_> = dir
            .entries()
            .map(|(name, id)| (name.to_owned(), id))
            .collect();
        for (name, inside) in inside {
            self.empty(inside)?;
            self.begin(Kind::Remove)?;
            self.dirs.get_mut(&id).expect("found above").remove(&name);
            self.unname(inside);
        }
        Ok(())
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
                state.begin(Kind::Create)?;
                let id = state.new_node();
                let (dir, name) = state.parent(path)?;
                dir.add(name, id);
                state.files.insert(id, FileState::default());
                state.file(id).users += 1;
                id
            }
            found => found?,
        };
        let shared = self.state.clone();
        Ok(Arc::new(OpenFile::new(shared, &mut state, id, path)))
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
                state.begin(Kind::Create)?;
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
        state.begin(Kind::Rename)?;
        let id = state.find(from)?;
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let (dir, from) = state.parent(from)?;
        let to = to
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let replaced = dir.get(to).filter(|replaced| *replaced != id);
        dir.rename(from, to, id);
        if let Some(replaced) = replaced {
            state.unname(replaced);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin(Kind::Remove)?;
        let id = state.find_file(path)?;
        let (dir, name) = state.parent(path)?;
        dir.remove(name);
        state.unname(id);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(path)?;
        state.empty(id)?;
        state.begin(Kind::Remove)?;
        let (dir, name) = state.parent(path)?;
        dir.remove(name);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let failed = state.begin(Kind::SyncDir);
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
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

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
