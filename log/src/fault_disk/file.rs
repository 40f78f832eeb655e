//! One file: its bytes as they are, as they are durable, and the writes in between.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flumen_protocol::segment::FileSource;
use parking_lot::Mutex;

use super::pages::Pages;
use super::{Crash, Fault, Injected, Kind, NodeId, Random, State};
use crate::disk::{DiskFile, DiskMap};

const SECTOR_BYTES: usize = 512;
/// Lengths that run ahead end at a multiple of this.
const BLOCK_BYTES: usize = 4096;

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Pages) {
        match self {
            Self::Write(at, written) => bytes.write(*at, written),
            Self::Length(len) => bytes.resize(*len),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    current: Pages,
    durable: Pages,
    pending: Vec<Change>,
    /// Bytes from the start that take space: what lies behind is a hole.
    space: usize,
    /// Names and handles: without any of them it takes no space.
    pub(super) users: usize,
}

impl FileState {
    pub(super) fn used(&self) -> u64 {
        match self.users {
            0 => 0,
            _ => self.space as u64,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.current.write(at, bytes);
        self.space = self.space.max(at + bytes.len());
        self.pending.push(Change::Write(at, bytes.to_vec()));
    }

    fn set_len(&mut self, len: usize) {
        self.current.resize(len);
        self.space = self.space.min(len);
        self.pending.push(Change::Length(len));
    }

    /// Only what is pending: what a failed sync dropped stays lost.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    pub(super) fn flip(&mut self, position: usize, mask: u8) -> io::Result<()> {
        if position >= self.current.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for bytes in [&mut self.current, &mut self.durable] {
            let mut byte = [0];
            if bytes.read(position, &mut byte) == 1 {
                bytes.write(position, &[byte[0] ^ mask]);
            }
        }
        Ok(())
    }

    pub(super) fn after_crash(
        &self,
        how: Crash,
        random: &mut Random,
        injected: &mut Injected,
    ) -> Self {
        let mut bytes = self.durable.clone();
        let writes = self
            .pending
            .iter()
            .filter(|change| matches!(change, Change::Write(..)));
        let writes = writes.count() as u64;
        match how {
            Crash::Mixed => unreachable!("decided for each file"),
            Crash::LoseUnsynced => injected.lost_writes += writes,
            Crash::KeepAll => self.apply(self.pending.len(), &mut bytes),
            Crash::Prefix => {
                let kept = random.below(self.pending.len() + 1);
                self.apply(kept, &mut bytes);
                injected.lost_writes += (self.pending.len() - kept) as u64;
            }
            Crash::Tear => self.tear(&mut bytes, random, injected),
            Crash::ZeroFill => {
                self.apply(self.pending.len(), &mut bytes);
                self.overwrite(&mut bytes, |len, _| vec![0; len]);
                injected.zeroed_writes += writes;
            }
            Crash::Stale => {
                self.apply(self.pending.len(), &mut bytes);
                self.overwrite(&mut bytes, |len, durable| stale(durable, len, random));
                injected.stale_writes += writes;
            }
            Crash::LoseLength => {
                let len = bytes.len();
                self.apply(self.pending.len(), &mut bytes);
                bytes.resize(len);
                injected.wrong_lengths += u64::from(!self.pending.is_empty());
            }
            Crash::LengthAhead => {
                self.apply(self.pending.len(), &mut bytes);
                if !self.pending.is_empty() {
                    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES));
                    injected.wrong_lengths += 1;
                }
            }
        }
        Self {
            space: bytes.len(),
            current: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
            users: 0,
        }
    }

    fn apply(&self, kept: usize, bytes: &mut Pages) {
        self.pending[..kept]
            .iter()
            .for_each(|change| change.apply(bytes));
    }

    /// Each sector of each write, and each change of length, is there or not.
    fn tear(&self, bytes: &mut Pages, random: &mut Random, injected: &mut Injected) {
        for change in &self.pending {
            match change {
                Change::Length(_) if random.flip() => change.apply(bytes),
                Change::Length(_) => injected.wrong_lengths += 1,
                Change::Write(at, written) => {
                    let (mut from, mut lost, mut sectors) = (0, 0, 0);
                    while from < written.len() {
                        let to_boundary = SECTOR_BYTES - (at + from) % SECTOR_BYTES;
                        let to = (from + to_boundary).min(written.len());
                        match random.flip() {
                            true => bytes.write(at + from, &written[from..to]),
                            false => lost += 1,
                        }
                        sectors += 1;
                        from = to;
                    }
                    injected.lost_writes += u64::from(lost == sectors);
                    injected.torn_writes += u64::from(lost > 0 && lost < sectors);
                }
            }
        }
    }

    /// Puts something else where the pending writes went, as far as the file goes.
    fn overwrite(&self, bytes: &mut Pages, mut other: impl FnMut(usize, &Pages) -> Vec<u8>) {
        for change in &self.pending {
            if let Change::Write(at, written) = change {
                let len = written.len().min(bytes.len().saturating_sub(*at));
                bytes.write(*at.min(&bytes.len()), &other(len, &self.durable));
            }
        }
    }
}

/// What a recycled block may hold: older bytes of the same file, from anywhere in it.
fn stale(durable: &Pages, len: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0xa5; len];
    let from = random.below(durable.len());
    durable.read(from, &mut bytes);
    bytes
}

pub(super) struct OpenFile {
    state: Arc<Mutex<State>>,
    id: NodeId,
    path: PathBuf,
}

/// Its name: it goes into error messages, and the disk behind it does not.
impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl OpenFile {
    /// A handle; `state` is what the lock it was made under holds.
    pub(super) fn new(
        shared: Arc<Mutex<State>>,
        state: &mut State,
        id: NodeId,
        path: &Path,
    ) -> Self {
        state.file(id).users += 1;
        Self {
            state: shared,
            id,
            path: path.to_owned(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut FileState) -> T) -> T {
        act(self.state.lock().file(self.id))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.with(|file| file.users -= 1);
    }
}

impl FileSource for OpenFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.begin_read()?;
        let read = state.file(self.id).current.read(position as usize, buf);
        state.bytes_read += read as u64;
        Ok(read)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl DiskFile for OpenFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        let fault = state.begin(Kind::Write)?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if let Some(Fault::ShortWrite(len)) = fault {
            bytes.truncate(len);
        }
        let left = state.left();
        let file = state.file(self.id);
        let grows = (position as usize + bytes.len()).saturating_sub(file.space) as u64;
        if grows > left {
            bytes.truncate(bytes.len().saturating_sub((grows - left) as usize));
            state.injected.refused_for_space += 1;
            if bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        state.file(self.id).write(position as usize, &bytes);
        Ok(bytes.len())
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.current.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin(Kind::SetLen)?;
        state.file(self.id).set_len(len as usize);
        Ok(())
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin(Kind::Allocate)?;
        let left = state.left();
        let file = state.file(self.id);
        let end = (position + len) as usize;
        if end.saturating_sub(file.space) as u64 > left {
            state.injected.refused_for_space += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.space = file.space.max(end);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let failed = state.begin(Kind::Sync);
        let off = state.goes_off();
        let file = state.file(self.id);
        match failed {
            Ok(_) if off => return Err(io::Error::other("the power is off")),
            Ok(_) => file.sync(),
            // As Linux does: the pages are clean now, and will not be written again.
            Err(_) => file.pending.clear(),
        }
        failed.map(|_| ())
    }

    fn map(&self, len: usize) -> io::Result<Box<dyn DiskMap>> {
        let mut state = self.state.lock();
        state.begin_read()?;
        let file = state.file(self.id);
        if len > file.current.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let bytes = file.current.to_vec(len);
        let file = Self::new(self.state.clone(), &mut state, self.id, &self.path);
        Ok(Box::new(Map { file, bytes }))
    }
}

#[derive(Debug)]
struct Map {
    file: OpenFile,
    bytes: Vec<u8>,
}

impl DiskMap for Map {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        let mut state = self.file.state.lock();
        if state.begin(Kind::MapWrite).is_ok() {
            let file = state.file(self.file.id);
            assert!(
                at + bytes.len() <= file.space,
                "{} is written through a map where it has no space",
                self.file.path.display()
            );
            file.write(at, bytes);
        }
    }
}
