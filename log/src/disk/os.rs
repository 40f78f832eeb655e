//! The operating system's files behind [`Disk`]. The one place of this crate where they are touched.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flumen_protocol::segment::FileSource;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::{DirEntry, Dirty, Disk, DiskFile, DiskLock, DiskMap, OpenMode, Space};

/// How often a directory is tried to be opened for a sync while the process, or the machine, has no descriptor left: for five minutes.
const DESCRIPTOR_TRIES: u32 = 3_000;
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// The directory, to be synced. Without a descriptor nothing was synced and nothing was lost, but whoever hears of an error must take it for a failed
/// sync, which fences the log for good: so the sync waits for a descriptor, as it would for a slow disk.
#[expect(
    clippy::disallowed_methods,
    reason = "driver: nobody tells when a descriptor is free"
)]
fn open_to_sync(dir: &Path) -> io::Result<File> {
    let mut opened = File::open(dir);
    for _ in 0..DESCRIPTOR_TRIES {
        let code = opened.as_ref().err().and_then(io::Error::raw_os_error);
        let short = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        if !code.is_some_and(|code| short.contains(&code)) {
            break;
        }
        std::thread::sleep(DESCRIPTOR_PAUSE);
        opened = File::open(dir);
    }
    opened
}

/// The files of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct OsDisk {
    flush_threads: NonZeroUsize,
}

impl OsDisk {
    /// With up to 16 threads for [`Disk::flush_many`]: measured on ext4, 100 dirty files take 360 ms one by one, 10 ms on 16 threads.
    pub fn new() -> Self {
        Self::with_flush_threads(NonZeroUsize::new(16).expect("16 is not zero"))
    }

    /// With a bound of one's own on the threads of [`Disk::flush_many`].
    pub fn with_flush_threads(flush_threads: NonZeroUsize) -> Self {
        Self { flush_threads }
    }
}

impl Default for OsDisk {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "the disk itself")]
impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(mode != OpenMode::Read)
            .create(mode == OpenMode::Create)
            .truncate(false)
            .open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                let is_dir = entry.file_type()?.is_dir();
                entries.push(DirEntry { name, is_dir });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        match std::fs::create_dir(dir) {
            Ok(()) => Ok(vec![parent.unwrap_or(Path::new(".")).to_owned()]),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {
                Ok(Vec::new())
            }
            Err(error) => match parent {
                Some(parent) if error.kind() == io::ErrorKind::NotFound => {
                    let mut changed = self.create_dir(parent)?;
                    changed.extend(self.create_dir(dir)?);
                    Ok(changed)
                }
                _ => Err(error),
            },
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        open_to_sync(dir)?.sync_all()
    }

    fn space(&self, path: &Path) -> Option<Space> {
        let found = rustix::fs::statvfs(path).ok()?;
        Some(Space {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            usable: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(OsLock(file)))
    }

    fn flush_many(&self, dirty: &[Dirty]) -> Vec<io::Result<()>> {
        let threads = self.flush_threads.get().min(dirty.len());
        if threads <= 1 {
            return dirty.iter().map(|dirty| dirty.sync(self)).collect();
        }
        // Threads live for one round only: starting one takes a hundredth of what the device takes for a flush.
        let next = AtomicUsize::new(0);
        let worker = || {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                match dirty.get(i) {
                    Some(dirty) => done.push((i, dirty.sync(self))),
                    None => return done,
                }
            }
        };
        let mut results: Vec<(usize, io::Result<()>)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            let joined = workers.into_iter().map(|worker| worker.join());
            joined
                .flat_map(|done| done.expect("a flush does not panic"))
                .collect()
        });
        results.sort_by_key(|(i, _)| *i);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

#[derive(Debug)]
struct OsFile(File);

impl FileSource for OsFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buf, position)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

impl DiskFile for OsFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, parts, position)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), position, len) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                // No such call on this file system: zeros take space everywhere. Nothing but zeros is there yet.
                self.0.write_all_at(&vec![0; len as usize], position)
            }
            result => Ok(result?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    #[expect(
        unsafe_code,
        reason = "memory maps: the index files are ours alone, under the directory's lock, and are cut \
        only after their map is gone"
    )]
    fn map(&self, len: usize) -> io::Result<Box<dyn DiskMap>> {
        // SAFETY: the mapped range lies within the file, and no other process changes the file (see `reason`).
        let map = unsafe { memmap2::MmapOptions::new().len(len).map_mut(&self.0)? };
        Ok(Box::new(OsMap(map)))
    }
}

#[derive(Debug)]
struct OsMap(memmap2::MmapMut);

impl DiskMap for OsMap {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

#[derive(Debug)]
struct OsLock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

impl DiskLock for OsLock {}
