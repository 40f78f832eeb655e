//! Driver: clock, threads, tasks and the state folder of an application.
//!
//! Everything of this crate (RocksDB apart) that must know the time, run beside its caller, roll dice or touch the disk comes
//! here. The clock is tokio's, so it follows a simulator's virtual time.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foldhash::fast::FixedState;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A killed process with gigabytes of memory is gone within this time.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Time since the application started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "driver: the monotonic clock")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) async fn sleep_until(&self, at: Duration) {
        tokio::time::sleep_until(self.0 + at).await;
    }
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "driver: the wall clock")]
pub(crate) fn wall_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Runs `future` on the runtime of the caller.
#[expect(clippy::disallowed_methods, reason = "driver: the one spawn")]
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(future)
}

/// Whether the async runtime goes on while an engine or the disk works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// It does: they work on threads of their own.
    #[default]
    Beside,
    /// It waits for every piece of work. For simulations: their clock knows nothing of threads.
    Waiting,
}

impl Threads {
    /// Runs `work`, which waits for the disk, where it holds nobody up.
    #[expect(clippy::disallowed_methods, reason = "driver: the one blocking spawn")]
    pub(crate) async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if self == Self::Waiting {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Starts a thread with a name.
pub(crate) fn thread(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
}

/// The folder of an application, locked for this process.
#[derive(Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
    process_id: String,
    _lock: File,
}

impl StateFolder {
    /// Opens or makes `<state_dir>/<application_id>`. Its process id is made once and stays, so that a process that comes
    /// back after a crash has the transactional ids it had, and fences its own open transactions.
    #[expect(clippy::disallowed_methods, reason = "driver: the state folder")]
    pub(crate) fn open(
        state_dir: &Path,
        application_id: &str,
        patience: Duration,
        seed: Option<u64>,
    ) -> io::Result<Self> {
        let path = state_dir.join(application_id);
        fs::create_dir_all(&path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(".lock"))?;
        take_lock(&lock, &path, patience)?;
        let process_id = process_id(&path.join("process-id"), seed)?;
        Ok(Self {
            path,
            process_id,
            _lock: lock,
        })
    }

    pub(crate) fn process_id(&self) -> &str {
        &self.process_id
    }

    /// Where the database of an engine lies.
    pub(crate) fn database(&self, engine: usize) -> PathBuf {
        self.path.join(format!("engine-{engine}"))
    }
}

/// Takes the lock; a process that was just killed may need a moment to let go of it.
#[expect(
    clippy::disallowed_methods,
    reason = "driver: waits for the end of a process, of which nobody tells"
)]
fn take_lock(lock: &File, folder: &Path, patience: Duration) -> io::Result<()> {
    let began = Clock::start();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if began.now() < patience => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => break,
        }
    }
    let folder = folder.display();
    Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        format!(
            "{folder} is in use by another process of this application; give each its own state_dir"
        ),
    ))
}

#[expect(
    clippy::disallowed_methods,
    reason = "driver: the file with the process id"
)]
fn process_id(file: &Path, seed: Option<u64>) -> io::Result<String> {
    match fs::read_to_string(file) {
        Ok(id) if id.trim().len() == 36 => return Ok(id.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let id = random_uuid(seed);
    let fresh = file.with_extension("new");
    fs::write(&fresh, &id)?;
    File::open(&fresh)?.sync_all()?;
    fs::rename(&fresh, file)?;
    Ok(id)
}

/// A version 4 UUID, always the same one from a seed. Without one chance comes from the seeds of the standard library's hash maps:
/// good for names, not for secrets.
pub(crate) fn random_uuid(seed: Option<u64>) -> String {
    let mut drawn = 0;
    let mut random = || {
        drawn += 1;
        seed.map_or_else(
            || RandomState::new().build_hasher().finish(),
            |seed| FixedState::with_seed(seed).hash_one(drawn),
        )
    };
    let (high, low) = (
        random() & !0xf000 | 0x4000,
        random() & !(0b11 << 62) | 0b10 << 62,
    );
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
    format!(
        "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}",
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_process_id_and_lets_one_process_in() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateFolder::open(folder.path(), "app", Duration::ZERO, None).unwrap();
        let error = StateFolder::open(folder.path(), "app", Duration::ZERO, None).unwrap_err();
        assert!(
            error.to_string().contains("is in use by another process"),
            "{error}"
        );
        let id = first.process_id().to_owned();
        assert_ne!(
            StateFolder::open(folder.path(), "other", Duration::ZERO, None)
                .unwrap()
                .process_id(),
            id
        );
        drop(first);
        assert_eq!(
            StateFolder::open(folder.path(), "app", Duration::ZERO, None)
                .unwrap()
                .process_id(),
            id
        );
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
    }

    #[test]
    fn a_seed_gives_one_name_and_another_seed_another() {
        assert_eq!(random_uuid(Some(7)), random_uuid(Some(7)));
        assert_ne!(random_uuid(Some(7)), random_uuid(Some(8)));
        assert_ne!(random_uuid(None), random_uuid(None));
    }
}
