//! How rewritten segments take the place of others, so that a loss of power at any point leaves the old ones or the new one.
//!
//! A group of segments `X .. Y` is rewritten as one that begins at `X`. Each step is durable before the next one begins:
//!
//! ```text
//! 1  X.log.cleaned, X.index.cleaned ...    written, synced, their names too      a start removes them
//! 2  .cleaned → .swap                      all of them: the new segment counts   a start goes on with 3; if one is .cleaned still, all go
//! 3  the group's files → .deleted
//! 4  .swap → final names, the .log last                                          a start goes on with 4
//! 5  .deleted are removed                                                        a start removes them
//! ```
//!
//! Suffixes and their meaning are Kafka's, so that each finishes what the other began. `log/compact.rs` takes the steps, [`finish`] is
//! what a start does. The last batch of a group stays (see `compaction.rs`), so the new segment itself tells which ones it replaces.
//! Source: Kafka `LocalLog.replaceSegments`, `LogLoader.removeTempFilesAndCollectSwapFiles`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use flumen_protocol::batch::verify_crc;
use flumen_protocol::id::Offset;

use crate::disk::OpenMode;
use crate::recovery::io_error;
use crate::segment::walk::{WalkError, Walker};
use crate::segment::{Place, parse_name};

pub(crate) const CLEANED: &str = ".cleaned";
pub(crate) const SWAP: &str = ".swap";
pub(crate) const DELETED: &str = ".deleted";

/// What belongs to a segment, the `.log` last: while that has its temporary name, the others are looked for too.
const KINDS: [&str; 5] = ["index", "timeindex", "txnindex", "txnindex.crc32c", "log"];

fn path(place: &Place, base: Offset, kind: &str, suffix: &str) -> PathBuf {
    place.file(base, &format!("{kind}{suffix}"))
}

/// Renames all files of the segment at `base` that are there from one suffix to another.
pub(crate) fn rename_all(place: &Place, base: Offset, from: &str, to: &str) -> io::Result<()> {
    for kind in KINDS {
        let renamed = place
            .disk
            .rename(&path(place, base, kind, from), &path(place, base, kind, to));
        match renamed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes all files of the segment at `base` that have this suffix.
pub(crate) fn remove_all(place: &Place, base: Offset, suffix: &str) -> io::Result<()> {
    for kind in KINDS {
        match place.disk.remove_file(&path(place, base, kind, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The temporary names in a log's directory: which kinds of file each segment has under each suffix.
#[derive(Debug, Default)]
struct Left {
    cleaned: BTreeMap<Offset, BTreeSet<String>>,
    swap: BTreeMap<Offset, BTreeSet<String>>,
    /// Offsets at which a `.log` has its final name.
    logs: BTreeSet<Offset>,
    deleted: BTreeSet<Offset>,
    /// Segments whose names may not be on the disk: see [`ask_to_renew`].
    notes: BTreeSet<Offset>,
}

fn left(place: &Place) -> io::Result<Left> {
    let mut left = Left::default();
    let entries = match place.disk.list(&place.dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    for entry in &entries {
        let Some((base, rest)) = parse_name(&entry.name) else {
            continue;
        };
        if let Some(kind) = rest.strip_suffix(CLEANED) {
            left.cleaned.entry(base).or_default().insert(kind.into());
        } else if let Some(kind) = rest.strip_suffix(SWAP) {
            left.swap.entry(base).or_default().insert(kind.into());
        } else if rest.ends_with(DELETED) {
            left.deleted.insert(base);
        } else if rest == "log" {
            left.logs.insert(base);
        } else if rest == "names-lost" {
            left.notes.insert(base);
        }
    }
    Ok(left)
}

/// Takes back a step 2 that did not come to its end: nothing but the old segments counts.
pub(crate) fn cancel(place: &Place, base: Offset) -> io::Result<()> {
    rename_all(place, base, SWAP, CLEANED)?;
    // Or some might be .swap after a crash, and none .cleaned.
    place.disk.sync_dir(&place.dir)?;
    remove_all(place, base, CLEANED)
}

/// A sync of names failed while the segment at `base` was swapped in: leaves a note of it for the next start. It need not be durable: it
/// lives and dies with names in memory that the kernel will never write.
pub(crate) fn ask_to_renew(place: &Place, base: Offset) {
    if let Err(error) = place.disk.open(&note(place, base), OpenMode::Create) {
        tracing::warn!(log = %place.dir.display(), %error, "could not note that names may be lost");
    }
}

fn note(place: &Place, base: Offset) -> PathBuf {
    place.file(base, "names-lost")
}

/// Makes the names of a segment anew: those that are seen are not on the disk, and those before them are.
fn renew(place: &Place, base: Offset, is_swap: bool) -> io::Result<()> {
    let disk = &place.disk;
    // Step 4 failed, or step 2 or 3: the old segments are on the disk then.
    let (now, before) = if is_swap { (SWAP, CLEANED) } else { ("", SWAP) };
    for kind in KINDS {
        let (now, before) = (
            path(place, base, kind, now),
            path(place, base, kind, before),
        );
        match disk.rename(&now, &before) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            renamed => renamed?,
        }
        disk.rename(&before, &now)?;
        // One at a time: several that stop half-way would look like a step that did not begin.
        disk.sync_dir(&place.dir)?;
    }
    disk.remove_file(&note(place, base))?;
    disk.sync_dir(&place.dir)
}

/// Finishes or takes back what a stop interrupted; durable when it returns, unless there was nothing to be done.
pub(crate) fn finish(place: &Place) -> io::Result<()> {
    let disk = &place.disk;
    let mut found = left(place)?;
    for base in &found.notes {
        renew(place, *base, found.swap.contains_key(base))?;
    }
    for base in found.cleaned.keys() {
        match found.swap.remove(base) {
            Some(_) => cancel(place, *base)?,
            None => remove_all(place, *base, CLEANED)?,
        }
    }
    if let Err(error) = go_on(place, &found) {
        for base in found.swap.keys() {
            ask_to_renew(place, *base);
        }
        return Err(error);
    }
    let deleted = |name: &String| parse_name(name).is_some_and(|(_, kind)| kind.ends_with(DELETED));
    if found.swap.is_empty() && found.deleted.is_empty() {
        return Ok(());
    }
    let names = disk.list(&place.dir)?.into_iter().map(|entry| entry.name);
    for name in names.filter(deleted) {
        disk.remove_file(&place.dir.join(name))?;
    }
    Ok(())
}

/// Steps 3 and 4.
fn go_on(place: &Place, found: &Left) -> io::Result<()> {
    let disk = &place.disk;
    let range = range(place, found)?.filter(|_| !found.step_4_began());
    if let Some((first, end)) = range {
        // A sync of step 3 may have failed: whatever is gone is made to be gone anew.
        for base in found.deleted.range(first..end) {
            rename_all(place, *base, DELETED, "")?;
            rename_all(place, *base, "", DELETED)?;
        }
        let swapped = found.swap.keys().copied();
        for base in swapped.chain(found.logs.range(first..end).copied()) {
            rename_all(place, base, "", DELETED)?;
        }
        disk.sync_dir(&place.dir)?;
    }
    if found.swap.is_empty() {
        return Ok(());
    }
    for base in found.swap.keys() {
        rename_all(place, *base, SWAP, "")?;
    }
    disk.sync_dir(&place.dir)
}

impl Left {
    /// Some indexes have their final names, their `.log` does not: the old files are gone, durably, and those that are there are new.
    fn step_4_began(&self) -> bool {
        self.swap.values().any(|kinds| {
            kinds.contains("log") && !(kinds.contains("index") && kinds.contains("timeindex"))
        })
    }
}

/// The offsets that the swapped segments cover.
fn range(place: &Place, found: &Left) -> io::Result<Option<(Offset, Offset)>> {
    let mut range: Option<(Offset, Offset)> = None;
    for (base, kinds) in &found.swap {
        if !kinds.contains("log") {
            continue;
        }
        let path = path(place, *base, "log", SWAP);
        let file = place.disk.open(&path, OpenMode::Read)?;
        let size = file.len()?;
        let mut walker = Walker::new(file, *base, size, 1 << 20);
        walk_whole(&mut walker).map_err(|error| {
            let message = format!("{} is damaged: {}", path.display(), io_error(error));
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        let (first, end) = range.unwrap_or((*base, *base));
        range = Some((first.min(*base), end.max(walker.next_offset())));
    }
    Ok(range)
}

/// It is to take the place of what may still be there: not before every byte of it has been looked at.
fn walk_whole(walker: &mut Walker) -> Result<(), WalkError> {
    while let Some(found) = walker.next()? {
        let checked = verify_crc(walker.contents(&found)?);
        checked.map_err(|error| WalkError::Corrupt {
            position: found.position,
            reason: error.to_string(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use flumen_protocol::builder::{BatchBuilder, BatchOptions};

    use super::*;
    use crate::disk::Disk;
    use crate::fault_disk::FaultDisk;
    use crate::{checkpoint, disk};

    fn place() -> Place {
        let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
        let dir = Path::new("/orders-0");
        disk.create_dir(dir).unwrap();
        Place {
            disk,
            dir: Arc::from(dir),
            index_bytes: 1_000,
            suffix: "",
        }
    }

    fn put(place: &Place, name: &str, bytes: &[u8]) {
        let file = place.disk.open(&place.dir.join(name), OpenMode::Create);
        disk::write_all_at(&*file.unwrap(), &mut [io::IoSlice::new(bytes)], 0).unwrap();
    }

    fn names(place: &Place) -> Vec<String> {
        let names = place.disk.list(&place.dir).unwrap().into_iter();
        names
            .map(|entry| entry.name.trim_start_matches('0').to_owned())
            .collect()
    }

    /// Ten offsets from `base` on.
    fn log(base: Offset) -> Vec<u8> {
        let mut batch = BatchBuilder::new(BatchOptions {
            base_offset: base,
            ..BatchOptions::default()
        });
        (0..10).for_each(|_| batch.push(1, Some(b"k"), None, &[]));
        batch.build().to_vec()
    }

    #[test]
    fn what_a_swap_covers_goes_and_what_it_does_not_stays() {
        let place = place();
        for base in [10, 20, 30] {
            put(&place, &format!("{base:020}.log"), b"old");
            put(&place, &format!("{base:020}.txnindex"), b"old");
        }
        let swapped = [log(10), log(20)].concat();
        put(&place, "00000000000000000010.log.swap", &swapped);
        put(&place, "00000000000000000010.index.swap", b"");
        put(&place, "00000000000000000010.timeindex.swap", b"");
        finish(&place).unwrap();
        assert_eq!(
            names(&place),
            [
                "10.index",
                "10.log",
                "10.timeindex",
                "30.log",
                "30.txnindex"
            ]
        );
        let left = checkpoint::read(&*place.disk, &path(&place, 10, "log", "")).unwrap();
        assert_eq!(left, Some(swapped));
    }

    #[test]
    fn a_swap_that_is_not_whole_is_taken_back() {
        let place = place();
        put(&place, "00000000000000000010.log", b"old");
        put(&place, "00000000000000000010.log.swap", &log(10));
        put(&place, "00000000000000000010.index.swap", b"");
        put(&place, "00000000000000000010.timeindex.cleaned", b"");
        finish(&place).unwrap();
        assert_eq!(names(&place), ["10.log"]);
        let left = checkpoint::read(&*place.disk, &path(&place, 10, "log", "")).unwrap();
        assert_eq!(left.as_deref(), Some(&b"old"[..]));
    }

    #[test]
    fn what_step_4_has_named_is_not_undone_by_what_step_3_put_aside() {
        let place = place();
        for kind in KINDS {
            put(
                &place,
                &format!("00000000000000000010.{kind}.deleted"),
                b"old",
            );
        }
        put(&place, "00000000000000000010.log.swap", &log(10));
        put(&place, "00000000000000000010.timeindex.swap", b"");
        put(&place, "00000000000000000010.index", b"new");
        put(&place, "00000000000000000010.txnindex", b"new");
        finish(&place).unwrap();
        assert_eq!(
            names(&place),
            ["10.index", "10.log", "10.timeindex", "10.txnindex"]
        );
        let left = checkpoint::read(&*place.disk, &path(&place, 10, "txnindex", "")).unwrap();
        assert_eq!(left.as_deref(), Some(&b"new"[..]));
    }
}
