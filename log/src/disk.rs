//! Every system call of this crate: the trait [`Disk`] and the real one, [`OsDisk`].
//!
//! Everything else in the crate reaches files only through these traits, so that a disk that fails on purpose
//! ([`crate::fault_disk`]) can take the place of the real one. Synchronous: who must not block calls from a thread that may.
//!
//! What a disk promises, and no more (the rest of the crate is written for the weakest disk that keeps this):
//! - A write is readable at once, and survives the death of the process.
//! - Written bytes, and the length of the file, survive the loss of power only after [`DiskFile::sync_data`]; until then any
//!   part of them may be lost, in any order.
//! - A name (created, renamed, removed) survives the loss of power only after [`Disk::sync_dir`] of its directory.
//! - After a failed sync nothing is known about what was written since the last good one, and trying again proves nothing.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flumen_protocol::segment::FileSource;

/// How [`Disk::open`] treats a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist; reading only.
    Read,
    /// It must exist.
    Write,
    /// It is created empty if it does not exist.
    Create,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without the directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A file system: names and directories. Two implementations: [`OsDisk`] and [`crate::fault_disk::FaultDisk`].
pub trait Disk: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory, or what the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Creates a directory and those above it; succeeds if it is there. Returns the directories that got a new name, to be synced
    /// if the new ones are to last.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Gives a file or directory another name; replaces a file of that name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Whoever has it open can still read it.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything in it.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How large the file system of `path` is and how much of it is free for us, in bytes; `None` if it does not say.
    fn space(&self, _path: &Path) -> Option<Space> {
        None
    }

    /// Takes the lock file `path` for this process until the handle is dropped.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    /// Makes many files and directories durable at once: one after the other a hundred files take a hundred times the latency of
    /// the device, together they take about three. One result each, in order.
    fn flush_many(&self, dirty: &[Dirty]) -> Vec<io::Result<()>> {
        dirty.iter().map(|dirty| dirty.sync(self)).collect()
    }
}

/// Size of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it, in bytes.
    pub total: u64,
    /// What a process without privileges may still fill, in bytes.
    pub usable: u64,
}

/// Something to be made durable.
#[derive(Clone, Debug)]
pub enum Dirty {
    /// Contents and length of a file.
    File(Arc<dyn DiskFile>),
    /// The names in a directory.
    Dir(PathBuf),
}

impl Dirty {
    /// Makes it durable.
    ///
    /// # Errors
    /// As [`DiskFile::sync_data`] and [`Disk::sync_dir`].
    pub fn sync(&self, disk: &(impl Disk + ?Sized)) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_data(),
            Self::Dir(dir) => disk.sync_dir(dir),
        }
    }
}

/// An open file.
pub trait DiskFile: FileSource {
    /// Writes the parts one after the other from `position` on; returns how many bytes were written, which may be fewer than
    /// given. The file grows as needed.
    ///
    /// # Errors
    /// `StorageFull`, or what the system says.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize>;

    /// Current length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds nothing.
    ///
    /// # Errors
    /// As [`Self::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or extends it with zeros that take no space.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Sets space aside for `len` bytes from `position`, all within the length, so that writing them through a map cannot
    /// fail for lack of it (it would kill the process).
    ///
    /// # Errors
    /// `StorageFull`, or what the system says.
    fn allocate(&self, position: u64, len: u64) -> io::Result<()>;

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// What the system says. Nothing may be assumed durable then, and the file must not be synced again.
    fn sync_data(&self) -> io::Result<()>;

    /// Maps the first `len` bytes, all within the length, to be read and written.
    ///
    /// # Errors
    /// What the system says.
    fn map(&self, len: usize) -> io::Result<Box<dyn DiskMap>>;
}

/// Bytes of a file in memory; what is written is readable through the file too. Made durable by the file's `sync_data`.
pub trait DiskMap: Send + Sync + Debug {
    /// The mapped bytes.
    fn bytes(&self) -> &[u8];

    /// Overwrites bytes from `at` on.
    ///
    /// # Panics
    /// If they reach out of the map.
    fn write(&mut self, at: usize, bytes: &[u8]);
}

/// A lock that ends when it is dropped.
pub trait DiskLock: Send + Sync + Debug {}

/// Writes all parts from `position` on. On error an unknown part of them is written.
///
/// # Errors
/// What [`DiskFile::write_at`] gives; `StorageFull` if it writes nothing.
pub(crate) fn write_all_at(
    file: &dyn DiskFile,
    mut parts: &mut [IoSlice<'_>],
    mut position: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match file.write_at(parts, position) {
            Ok(0) => return Err(io::ErrorKind::StorageFull.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buf` from `position` on as far as the file goes; returns how much was read.
///
/// # Errors
/// What [`FileSource::read_at`] gives.
pub(crate) fn read_up_to(file: &dyn DiskFile, buf: &mut [u8], position: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], position + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

mod os;
pub use os::OsDisk;
