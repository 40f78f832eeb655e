//! The file of a sink and its sidecar on disk: claim, append, commit.
//!
//! Owns both descriptors and the lock. `sink.rs` calls it on a blocking thread. The order of writes is the whole point:
//!
//! 1. the lines are appended and fdatasynced; 2. one line of the sidecar says the new length and the next offsets, and is fdatasynced: this is the commit.
//!
//! A crash before 2 leaves bytes behind the recorded length; the next claim cuts them off and the same records are written again.
//!
//! **Fence.** An owner holds a lock on the sidecar. A claim finds it free when the owner is dead. When it is held by the same connector (a process that was
//! stopped, not killed), the claim copies the committed bytes into a new file, renames a new sidecar over the old one (from here on it owns), then
//! the new file over the old one. Whatever the earlier owner still writes goes into files without a name; it notices before its next batch.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::disk;
use crate::journal::Commit;
use crate::position::{Fingerprint, GUARD_BYTES};

/// A sidecar longer than this is begun anew.
const JOURNAL_BYTES_MAX: u64 = 4 << 20;

/// Why the store refuses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Nothing was made durable; the same may succeed later (disk full, a claim in progress).
    #[error("{0}")]
    Retry(String),
    /// Another owner has claimed the file.
    #[error("{0}")]
    Fenced(String),
    /// The file is not what the sidecar says, or the disk failed: a person must look.
    #[error("{0}")]
    Refused(String),
}

/// The claimed file.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    data: File,
    journal: File,
    journal_length: u64,
    commit: Commit,
    /// A failed sync: what is on disk is unknown, only a new claim can tell.
    poisoned: bool,
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Store {
    /// Claims `path` for `sink`, makes it if it is missing, and cuts off what was never committed.
    pub(crate) fn claim(path: &Path, sink: &str, owner: &str) -> Result<Store, StoreError> {
        let guard = guard(path)?.ok_or_else(|| {
            StoreError::Retry(format!(
                "another process is claiming {} right now",
                path.display()
            ))
        })?;
        let sidecar = beside(path, ".offsets");
        let earlier = match disk::open(&sidecar) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(refused(path, "opening the offsets of")(e)),
        };
        let known = earlier
            .as_ref()
            .map(read_all)
            .transpose()
            .map_err(refused(path, "reading the offsets of"))?;
        let known = match known {
            None => None,
            Some(journal) => Some(Commit::last(&journal).ok_or_else(|| {
                StoreError::Refused(format!(
                    "{} holds no whole line: how much of {} is committed is unknown",
                    sidecar.display(),
                    path.display()
                ))
            })?),
        };
        if let Some(known) = &known
            && known.sink != sink
        {
            return Err(StoreError::Refused(format!(
                "{} belongs to connector {} ({}); remove {} to hand it over",
                path.display(),
                known.sink,
                known.owner,
                sidecar.display()
            )));
        }
        let alive = earlier
            .as_ref()
            .is_some_and(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_err());
        let store = take(
            path,
            known,
            alive,
            &Commit {
                sink: sink.to_owned(),
                owner: owner.to_owned(),
                ..Commit::default()
            },
        );
        drop((earlier, guard));
        store
    }

    /// What is committed.
    pub(crate) fn commit(&self) -> &Commit {
        &self.commit
    }

    /// Appends `lines` and commits `next` with them: all or nothing.
    pub(crate) fn append(&mut self, lines: &[u8], next: &Commit) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Refused(format!(
                "{}: an earlier sync failed; the file must be claimed again",
                self.path.display()
            )));
        }
        self.check_owner()?;
        if let Err(e) = self.data.write_all_at(lines, self.commit.length) {
            return Err(self.undo("writing", &e));
        }
        if !lines.is_empty()
            && let Err(e) = self.data.sync_data()
        {
            return Err(self.poison("syncing", &e));
        }
        let mut commit = Commit {
            length: self.commit.length + lines.len() as u64,
            ..next.clone()
        };
        commit.tail = tail(&self.data, commit.length).map_err(|e| self.undo("reading", &e))?;
        let line = commit.line();
        if let Err(e) = self
            .journal
            .write_all_at(line.as_bytes(), self.journal_length)
        {
            return Err(self.undo("writing the offsets of", &e));
        }
        if let Err(e) = self.journal.sync_data() {
            return Err(self.poison("syncing the offsets of", &e));
        }
        self.journal_length += line.len() as u64;
        self.commit = commit;
        // Under the guard, so that it cannot take the place of a later owner's; if somebody has it, next time.
        if self.journal_length > JOURNAL_BYTES_MAX
            && let Some(_guard) = guard(&self.path)?
        {
            self.check_owner()?;
            (self.journal, self.journal_length) = write_sidecar(&self.path, &self.commit)?;
        }
        Ok(())
    }

    /// Both names still lead to the files of this owner.
    fn check_owner(&self) -> Result<(), StoreError> {
        let sidecar = beside(&self.path, ".offsets");
        let same = |file: &File, path: &Path| -> io::Result<bool> {
            let (mine, there) = (file.metadata()?, disk::open(path)?.metadata()?);
            Ok((mine.dev(), mine.ino()) == (there.dev(), there.ino()))
        };
        if same(&self.journal, &sidecar).unwrap_or(false)
            && same(&self.data, &self.path).unwrap_or(false)
        {
            return Ok(());
        }
        let by = disk::open(&sidecar)
            .and_then(|file| read_all(&file))
            .ok()
            .and_then(|journal| Commit::last(&journal));
        Err(StoreError::Fenced(match by {
            Some(by) if by.epoch > self.commit.epoch => format!(
                "{} was claimed by {} (epoch {}, ours was {})",
                self.path.display(),
                by.owner,
                by.epoch,
                self.commit.epoch
            ),
            _ => format!(
                "{} or its offsets were moved or removed by somebody",
                self.path.display()
            ),
        }))
    }

    /// Cuts both files back to the last commit.
    fn undo(&mut self, doing: &str, error: &io::Error) -> StoreError {
        let undone = self
            .data
            .set_len(self.commit.length)
            .and_then(|()| self.journal.set_len(self.journal_length));
        self.poisoned = undone.is_err();
        StoreError::Retry(format!("{doing} {}: {error}", self.path.display()))
    }

    fn poison(&mut self, doing: &str, error: &io::Error) -> StoreError {
        self.poisoned = true;
        StoreError::Refused(format!(
            "{doing} {}: {error}; what is on disk is unknown until the file is claimed again",
            self.path.display()
        ))
    }
}

fn refused<'a>(path: &'a Path, doing: &'a str) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |e| StoreError::Refused(format!("{doing} {}: {e}", path.display()))
}

/// Claims under the guard: `known` is the last commit, `alive` whether its owner still holds the lock.
fn take(
    path: &Path,
    known: Option<Commit>,
    alive: bool,
    claimant: &Commit,
) -> Result<Store, StoreError> {
    let copy = beside(path, ".claim");
    let moved = |doing| {
        let renamed = disk::rename(&copy, path).and_then(|()| disk::sync_folder_of(path));
        renamed.map_err(refused(path, doing))
    };
    let left = disk::open(&copy).and_then(|file| inode(&file)).ok();
    if left.is_some() && left == known.as_ref().map(|known| known.file) {
        // An earlier claim ended between its two renames.
        moved("finishing the claim of")?;
    }
    let data = disk::open_or_create(path).map_err(refused(path, "opening"))?;
    let (length, tail) = check_content(path, &data, known.as_ref())?;
    let data = if alive {
        let fresh = disk::create(&copy).map_err(refused(path, "copying"))?;
        let copied = copy_prefix(&data, &fresh, length).and_then(|()| fresh.sync_all());
        copied.map_err(refused(path, "copying"))?;
        fresh
    } else {
        let cut = data.set_len(length).and_then(|()| data.sync_all());
        cut.map_err(refused(path, "cutting"))?;
        data
    };
    let file = inode(&data).map_err(refused(path, "opening"))?;
    let known = known.unwrap_or_default();
    let commit = Commit {
        epoch: known.epoch + 1,
        sink: claimant.sink.clone(),
        owner: claimant.owner.clone(),
        file,
        length,
        tail,
        next: known.next,
    };
    let (journal, journal_length) = write_sidecar(path, &commit)?;
    if alive {
        moved("claiming")?;
    }
    let path = path.to_owned();
    Ok(Store {
        path,
        data,
        journal,
        journal_length,
        commit,
        poisoned: false,
    })
}

/// How much of the file counts, and the fingerprint of its end: what was committed must be there as it was.
fn check_content(
    path: &Path,
    data: &File,
    known: Option<&Commit>,
) -> Result<(u64, String), StoreError> {
    let size = data.metadata().map_err(refused(path, "opening"))?.len();
    let length = known.map_or(size, |known| known.length);
    let found = tail(data, length.min(size)).map_err(refused(path, "reading"))?;
    let differs = match known {
        _ if size < length => "",
        Some(known) if found != known.tail => " and ends differently there",
        _ => return Ok((length, found)),
    };
    Err(StoreError::Refused(format!(
        "{} is not the file that was written: {length} bytes are committed, it has {size}{differs}; \
         put the file back, or remove it and {} to begin anew",
        path.display(),
        beside(path, ".offsets").display()
    )))
}

/// The guard of claims; `None`: somebody else has it.
fn guard(path: &Path) -> Result<Option<File>, StoreError> {
    let guard = disk::open_or_create(&beside(path, ".lock")).map_err(refused(path, "locking"))?;
    Ok(flock(&guard, FlockOperation::NonBlockingLockExclusive)
        .is_ok()
        .then_some(guard))
}

/// A new sidecar with one line, locked, in the place of the old one.
fn write_sidecar(path: &Path, commit: &Commit) -> Result<(File, u64), StoreError> {
    let (fresh, sidecar) = (beside(path, ".offsets.new"), beside(path, ".offsets"));
    let line = commit.line();
    let written = disk::create(&fresh).and_then(|file| {
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all_at(line.as_bytes(), 0)?;
        file.sync_all()?;
        disk::rename(&fresh, &sidecar)?;
        disk::sync_folder_of(&sidecar)?;
        Ok(file)
    });
    let file =
        written.map_err(|e| StoreError::Refused(format!("writing {}: {e}", sidecar.display())))?;
    Ok((file, line.len() as u64))
}

fn inode(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|meta| (meta.dev(), meta.ino()))
}

fn tail(file: &File, length: u64) -> io::Result<String> {
    let len = usize::try_from(length)
        .unwrap_or(GUARD_BYTES)
        .min(GUARD_BYTES);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, length - len as u64)?;
    Ok(Fingerprint::of(&bytes).to_string())
}

fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn copy_prefix(from: &File, to: &File, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let want = usize::try_from(length - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        from.read_exact_at(&mut buffer[..want], at)?;
        to.write_all_at(&buffer[..want], at)?;
        at += want as u64;
    }
    Ok(())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
