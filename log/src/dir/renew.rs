//! After a failed sync of a data directory: its names are made anew, so that the next sync can make them durable.
//!
//! The kernel keeps such names in memory, shows them to whoever opens the directory next, and never writes them: a process that
//! started again, without a loss of power in between, would build on names that the next loss of power takes away. So whoever sees
//! the sync fail leaves a note, and the next start renames everything away and back. The note need not be durable: it lives and dies
//! with the names in memory.

use std::io;
use std::path::Path;

use crate::disk::{Disk, OpenMode};

const NOTE_FILE: &str = ".names-lost";
const AWAY: &str = ".away";

/// Leaves the note, if the disk still takes one.
pub(crate) fn ask(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.open(&path.join(NOTE_FILE), OpenMode::Create) {
        tracing::warn!(dir = %path.display(), %error, "could not note that names may be lost");
    }
}

/// Renews all names if the note is there; finishes what a crash interrupted.
pub(super) fn renew_if_asked(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let names: Vec<String> = disk
        .list(path)?
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    let asked = names.iter().any(|name| name == NOTE_FILE);
    let mut away: Vec<String> = names
        .iter()
        .filter_map(|name| name.strip_suffix(AWAY))
        .map(str::to_owned)
        .collect();
    if asked {
        tracing::warn!(dir = %path.display(), "a sync of the directory had failed: its names are made anew");
        for name in names
            .iter()
            .filter(|name| !name.starts_with('.') && !name.ends_with(AWAY))
        {
            disk.rename(&path.join(name), &path.join(format!("{name}{AWAY}")))?;
            away.push(name.clone());
        }
    }
    if away.is_empty() && !asked {
        return Ok(());
    }
    if asked {
        // A removal that got lost is made anew, too: the mark of a clean stop must not come back.
        let mark = path.join(super::CLEAN_FILE);
        disk.open(&mark, OpenMode::Create)?;
        disk.remove_file(&mark)?;
    }
    disk.sync_dir(path)?;
    for name in away {
        disk.rename(&path.join(format!("{name}{AWAY}")), &path.join(name))?;
    }
    disk.sync_dir(path)?;
    if asked {
        disk.remove_file(&path.join(NOTE_FILE))?;
    }
    Ok(())
}
