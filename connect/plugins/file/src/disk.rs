//! The driver of this crate: every file is opened, listed, renamed and removed here, every thread started here.
//!
//! Owns no state. `reader.rs` and `store.rs` call it; everything they decide is decided elsewhere.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flumen_connect::error::TaskError;

/// Opens a file to read.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens a file to read and write, makes it if it is missing.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Makes a new, empty file, whatever stood there.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

/// Renames over whatever stands at `to`.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// Makes renames and new names in the folder of `path` durable.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// The file with this device and inode in the folder of `path`, under whatever name.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) fn find_inode(path: &Path, inode: (u64, u64)) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder_of(path)).ok()?;
    let found = entries.filter_map(Result::ok).find(|entry| {
        entry
            .metadata()
            .is_ok_and(|meta| meta.is_file() && (meta.dev(), meta.ino()) == inode)
    });
    found.map(|entry| entry.path())
}

/// Whether the async runtime goes on while the disk works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// It does: the disk is waited for on threads of their own.
    #[default]
    Beside,
    /// It waits for every piece of work. For simulations: their clock knows nothing of threads.
    Waiting,
}

impl Threads {
    /// Runs blocking work away from the async threads.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the driver file of the crate"
    )]
    pub(crate) async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskError> {
        if self == Self::Waiting {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| TaskError::fatal(format!("the file thread ended: {e}")))
    }
}

/// Waits for time to pass.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) async fn sleep(time: std::time::Duration) {
    tokio::time::sleep(time).await;
}

/// Reads the clock that never goes back. Tokio's, so that it follows a simulation's.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Reads the wall clock, in milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the driver file of the crate"
)]
pub(crate) fn wall_clock_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
