//! One file: its bytes as they are, as they are durable, and the writes in between.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flumen_protocol::segment::FileSource;
use parking_lot::Mutex;

use super::{Crash, Fault, NodeId, Random, State};
use crate::disk::{DiskFile, DiskMap};

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Bytes from the start that take space: what lies behind is a hole.
    space: usize,
}

impl FileState {
    pub(super) fn used(&self) -> u64 {
        self.space as u64
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        write(&mut self.current, at, bytes);
        self.space = self.space.max(at + bytes.len());
        self.pending.push(Change::Write(at, bytes.to_vec()));
    }

    fn set_len(&mut self, len: usize) {
        self.current.resize(len, 0);
        self.space = self.space.min(len);
        self.pending.push(Change::Length(len));
    }

    /// Only what is pending: what a failed sync dropped stays lost.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    pub(super) fn flip(&mut self, position: usize, mask: u8) -> io::Result<()> {
        for bytes in [&mut self.current, &mut self.durable] {
            *bytes
                .get_mut(position)
                .ok_or(io::ErrorKind::UnexpectedEof)? ^= mask;
        }
        Ok(())
    }

    pub(super) fn after_crash(&self, how: Crash, random: &mut Random) -> Self {
        let mut bytes = self.durable.clone();
        let kept = match how {
            Crash::LoseUnsynced => 0,
            Crash::Prefix => random.below(self.pending.len() + 1),
            _ => self.pending.len(),
        };
        match how {
            Crash::Tear => self.tear(&mut bytes, random),
            Crash::LoseLength => {
                let len = bytes.len();
                self.pending
                    .iter()
                    .for_each(|change| apply(&mut bytes, change));
                bytes.resize(len, 0);
            }
            Crash::ZeroFill => {
                self.pending
                    .iter()
                    .for_each(|change| apply(&mut bytes, change));
                for change in &self.pending {
                    if let Change::Write(at, written) = change {
                        let end = (at + written.len()).min(bytes.len());
                        bytes[*at.min(&end)..end].fill(0);
                    }
                }
            }
            Crash::KeepAll | Crash::Prefix | Crash::LoseUnsynced => self.pending[..kept]
                .iter()
                .for_each(|change| apply(&mut bytes, change)),
        }
        let space = bytes.len();
        Self {
            current: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
            space,
        }
    }

    /// Each sector of each write, and each change of length, is there or not.
    fn tear(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        for change in &self.pending {
            match change {
                Change::Length(_) if random.flip() => apply(bytes, change),
                Change::Length(_) => {}
                Change::Write(at, written) => {
                    let mut from = 0;
                    while from < written.len() {
                        let to_boundary = SECTOR_BYTES - (at + from) % SECTOR_BYTES;
                        let to = (from + to_boundary).min(written.len());
                        if random.flip() {
                            write(bytes, at + from, &written[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
    }
}

fn write(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, written) => write(bytes, *at, written),
        Change::Length(len) => bytes.resize(*len, 0),
    }
}

#[derive(Debug)]
pub(super) struct OpenFile {
    state: Arc<Mutex<State>>,
    id: NodeId,
    path: PathBuf,
}

impl OpenFile {
    pub(super) fn new(state: Arc<Mutex<State>>, id: NodeId, path: &Path) -> Self {
        Self {
            state,
            id,
            path: path.to_owned(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut FileState) -> T) -> T {
        let mut state = self.state.lock();
        act(state.files.get_mut(&self.id).expect("an open file stays"))
    }
}

impl FileSource for OpenFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|file| {
            let from = (position as usize).min(file.current.len());
            let read = buf.len().min(file.current.len() - from);
            buf[..read].copy_from_slice(&file.current[from..from + read]);
            Ok(read)
        })
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl DiskFile for OpenFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        let fault = state.begin()?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if let Some(Fault::ShortWrite(len)) = fault {
            bytes.truncate(len);
        }
        let left = state.left();
        let file = state.files.get_mut(&self.id).expect("an open file stays");
        let grows = (position as usize + bytes.len()).saturating_sub(file.space) as u64;
        if grows > left {
            bytes.truncate(bytes.len().saturating_sub((grows - left) as usize));
            if bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        file.write(position as usize, &bytes);
        Ok(bytes.len())
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.current.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state
            .files
            .get_mut(&self.id)
            .expect("an open file stays")
            .set_len(len as usize);
        Ok(())
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        let left = state.left();
        let file = state.files.get_mut(&self.id).expect("an open file stays");
        let end = (position + len) as usize;
        if end.saturating_sub(file.space) as u64 > left {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.space = file.space.max(end);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let failed = state.begin();
        let off = state.goes_off();
        let file = state.files.get_mut(&self.id).expect("an open file stays");
        match failed {
            Ok(_) if off => return Err(io::Error::other("the power is off")),
            Ok(_) => file.sync(),
            // As Linux does: the pages are clean now, and will not be written again.
            Err(_) => file.pending.clear(),
        }
        failed.map(|_| ())
    }

    fn map(&self, len: usize) -> io::Result<Box<dyn DiskMap>> {
        let bytes = self.with(|file| file.current.get(..len).map(<[u8]>::to_vec));
        let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
        let file = Self::new(self.state.clone(), self.id, &self.path);
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
        if state.begin().is_ok() {
            let file = state
                .files
                .get_mut(&self.file.id)
                .expect("an open file stays");
            assert!(
                at + bytes.len() <= file.space,
                "{} is written through a map where it has no space",
                self.file.path.display()
            );
            file.write(at, bytes);
        }
    }
}
