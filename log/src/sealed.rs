//! Small files in Kafka's formats, which have no checksum, with one beside them: `<name>.crc32c`.
//!
//! One bit makes another log start, another recovery point or another aborted transaction of them, and all of those would be
//! believed. Kafka does not look at the file beside. It holds the CRC-32C of the contents, in hexadecimal, and that of the contents
//! before: it is replaced first, so that after a crash in between the old contents are still known. A file without one is believed
//! (Kafka wrote it), one that differs is damaged, or Kafka has changed it since: whoever reads it must do without.

use std::io;
use std::path::{Path, PathBuf};

use flumen_protocol::batch::crc32c;

use crate::checkpoint::{self, ReplaceError};
use crate::disk::Disk;

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    Missing,
    Whole(Vec<u8>),
    Damaged,
}

/// Replaces `path` by a file with these contents, and its checksum.
///
/// # Errors
/// As [`checkpoint::replace`].
pub(crate) fn replace(disk: &dyn Disk, path: &Path, contents: &[u8]) -> Result<(), ReplaceError> {
    if let Some((beside, checksums)) = checksum_file(disk, path, contents)? {
        checkpoint::replace(disk, &beside, &checksums)?;
    }
    checkpoint::replace(disk, path, contents)
}

/// What must lie beside `path` before it is replaced; `None` if it does.
///
/// # Errors
/// What the disk says.
pub(crate) fn checksum_file(
    disk: &dyn Disk,
    path: &Path,
    contents: &[u8],
) -> io::Result<Option<(PathBuf, Vec<u8>)>> {
    let before = match read_checksums(disk, path)? {
        Some(known) => known.into_iter().next(),
        None => checkpoint::read(disk, path)?.map(|bytes| crc32c(&bytes)),
    };
    let now = crc32c(contents);
    if before == Some(now) {
        return Ok(None);
    }
    let lines: Vec<String> = std::iter::once(now)
        .chain(before)
        .map(|crc| format!("{crc:08x}\n"))
        .collect();
    Ok(Some((beside(path), lines.concat().into_bytes())))
}

/// The contents of a file that [`replace`] or Kafka wrote.
///
/// # Errors
/// What the disk says.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Sealed> {
    let Some(bytes) = checkpoint::read(disk, path)? else {
        return Ok(Sealed::Missing);
    };
    let known = read_checksums(disk, path)?;
    if known.is_none_or(|known| known.contains(&crc32c(&bytes))) {
        return Ok(Sealed::Whole(bytes));
    }
    tracing::warn!(file = %path.display(), "file is damaged and not used");
    Ok(Sealed::Damaged)
}

/// Whether we wrote the file, and not Kafka.
///
/// # Errors
/// What the disk says.
pub(crate) fn has_checksum(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    Ok(checkpoint::read(disk, &beside(path))?.is_some())
}

/// Removes the checksum of a file that is gone.
pub(crate) fn remove_checksum(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(&beside(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".crc32c");
    PathBuf::from(name)
}

/// Newest first; none that can be read in a file that is damaged itself.
fn read_checksums(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u32>>> {
    let Some(bytes) = checkpoint::read(disk, &beside(path))? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let parse = |line| u32::from_str_radix(line, 16).ok();
    Ok(Some(text.lines().filter_map(parse).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_disk::{Crash, FaultDisk};

    const PATH: &str = "/f";

    #[test]
    fn a_crash_anywhere_leaves_the_old_contents_or_the_new_ones_whole() {
        let write = |disk: &FaultDisk, contents: &[u8]| replace(disk, Path::new(PATH), contents);
        let disk = FaultDisk::new();
        write(&disk, b"one").unwrap();
        let first = disk.ops();
        write(&disk, b"two").unwrap();
        for op in first + 1..=disk.ops() + 1 {
            let disk = FaultDisk::new();
            disk.power_off_at(op);
            write(&disk, b"one").unwrap();
            let _ = write(&disk, b"two");
            for (how, seed) in Crash::ALL.into_iter().zip(0..) {
                let left = disk.after_crash(how, seed);
                let found = read(&left, Path::new(PATH)).unwrap();
                let whole = [b"one", b"two"].map(|bytes| Sealed::Whole(bytes.to_vec()));
                assert!(whole.contains(&found), "{op}, {how:?}: {found:?}");
                write(&left, b"three").unwrap();
                let found = read(&left, Path::new(PATH)).unwrap();
                assert_eq!(found, Sealed::Whole(b"three".to_vec()));
            }
        }
    }

    #[test]
    fn any_flipped_bit_in_either_file_is_seen() {
        let disk = FaultDisk::new();
        replace(&disk, Path::new(PATH), b"contents").unwrap();
        for (path, bytes) in disk.files() {
            for bit in 0..8 * bytes {
                disk.flip(&path, bit / 8, 1 << (bit % 8)).unwrap();
                let found = read(&disk, Path::new(PATH)).unwrap();
                // The end of a line and the case of a letter mean nothing.
                let same = path != Path::new(PATH) && found == Sealed::Whole(b"contents".to_vec());
                assert!(
                    same || found == Sealed::Damaged,
                    "{} bit {bit}",
                    path.display()
                );
                disk.flip(&path, bit / 8, 1 << (bit % 8)).unwrap();
            }
        }
    }
}
