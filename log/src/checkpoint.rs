//! Small text files, replaced as a whole: recovery points, log starts, leader epochs, the directory's identity.
//!
//! Written to `<name>.tmp`, made durable, renamed, and the directory made durable: a reader finds the old file or the new one.
//! Checkpoints have a version, a count and one entry per line, as Kafka's do:
//! ```text
//! 0
//! 2
//! orders 0 4711
//! orders 1 0
//! ```
//! Source: Kafka `CheckpointFile`, `OffsetCheckpointFile`, `LeaderEpochCheckpointFile`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flumen_protocol::id::{Offset, TopicPartition};

use crate::disk::{self, Dirty, Disk, DiskFile, OpenMode};
use crate::epochs::{EpochStart, LeaderEpochs};

/// What a checkpoint of this many bytes would hold is not believed.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why a small file was not replaced. The old one is there, whole, or the new one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplaceError {
    /// Nothing else is touched, and the next try begins with a new file.
    #[error(transparent)]
    Refused(#[from] io::Error),
    /// The directory could not be synced. So the names of others may be lost that were new in it, and the next sync will not
    /// tell: nothing in the directory may be called durable any more.
    #[error("sync of the directory: {0}")]
    NamesLost(io::Error),
}

impl From<ReplaceError> for io::Error {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Refused(error) | ReplaceError::NamesLost(error) => error,
        }
    }
}

/// Replaces `path` by a file with these contents, durably.
///
/// # Errors
/// [`ReplaceError`].
pub(crate) fn replace(disk: &dyn Disk, path: &Path, contents: &[u8]) -> Result<(), ReplaceError> {
    stage(disk, path, contents)?.sync_data()?;
    disk.rename(&staged(path), path)?;
    disk.sync_dir(dir_of(path)).map_err(ReplaceError::NamesLost)
}

/// As [`replace`] for each, with the syncs of all at once. One result each, in order; of several for one path the last counts.
pub(crate) fn replace_many(
    disk: &dyn Disk,
    files: &[(PathBuf, Vec<u8>)],
) -> Vec<Result<(), ReplaceError>> {
    let mut results: Vec<Result<(), ReplaceError>> = Vec::with_capacity(files.len());
    let mut dirty = Vec::new();
    for (path, contents) in files {
        let staged = stage(disk, path, contents);
        results.push(
            staged
                .map(|file| dirty.push(Dirty::File(file)))
                .map_err(Into::into),
        );
    }
    let going_on = |results: &[Result<(), ReplaceError>]| {
        let fine = results
            .iter()
            .enumerate()
            .filter(|(_, result)| result.is_ok());
        fine.map(|(i, _)| i).collect::<Vec<_>>()
    };
    for (i, synced) in going_on(&results).into_iter().zip(disk.flush_many(&dirty)) {
        let path = &files[i].0;
        let renamed = synced.and_then(|()| disk.rename(&staged(path), path));
        results[i] = renamed.map_err(Into::into);
    }
    let mut dirs: Vec<&Path> = files.iter().map(|(path, _)| dir_of(path)).collect();
    dirs.sort();
    dirs.dedup();
    let dirty: Vec<_> = dirs
        .iter()
        .map(|dir| Dirty::Dir(dir.to_path_buf()))
        .collect();
    let synced = disk.flush_many(&dirty);
    for (dir, synced) in dirs.into_iter().zip(synced) {
        if let Err(error) = synced {
            let in_dir = (0..files.len()).filter(|i| dir_of(&files[*i].0) == dir);
            for i in in_dir {
                results[i] = Err(ReplaceError::NamesLost(again(&error)));
            }
        }
    }
    results
}

/// Writes the file that is to take the place of `path`, beside it.
fn stage(disk: &dyn Disk, path: &Path, contents: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(&staged(path), OpenMode::Create)?;
    file.set_len(0)?;
    disk::write_all_at(&*file, &mut [IoSlice::new(contents)], 0)?;
    Ok(file)
}

fn staged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn dir_of(path: &Path) -> &Path {
    path.parent().expect("a file in a directory")
}

/// One error for several files.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// The contents of a small file; `None` if it does not exist.
///
/// # Errors
/// What the disk says; `InvalidData` for a file that is absurdly large.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = file.len()?;
    if len > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "far too large"));
    }
    let mut bytes = vec![0; len as usize];
    let read = disk::read_up_to(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Offsets per partition, as in `recovery-point-offset-checkpoint`.
pub(crate) fn encode_offsets(offsets: &BTreeMap<TopicPartition, Offset>) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for (TopicPartition { topic, partition }, offset) in offsets {
        writeln!(text, "{topic} {partition} {offset}").expect("writing to a String cannot fail");
    }
    text
}

/// As [`encode_offsets`]; `None` if the text is anything else.
pub(crate) fn decode_offsets(bytes: &[u8]) -> Option<BTreeMap<TopicPartition, Offset>> {
    entries(bytes, |fields| match fields {
        [topic, partition, offset] => Some((
            TopicPartition {
                topic: (*topic).to_owned(),
                partition: partition.parse().ok()?,
            },
            offset.parse().ok()?,
        )),
        _ => None,
    })
    .map(BTreeMap::from_iter)
}

/// Epochs and their first offsets, as in `leader-epoch-checkpoint`.
pub(crate) fn encode_epochs(epochs: &LeaderEpochs) -> String {
    let mut text = format!("0\n{}\n", epochs.entries().len());
    for EpochStart {
        epoch,
        start_offset,
    } in epochs.entries()
    {
        writeln!(text, "{epoch} {start_offset}").expect("writing to a String cannot fail");
    }
    text
}

/// As [`encode_epochs`]; `None` if the text is anything else.
pub(crate) fn decode_epochs(bytes: &[u8]) -> Option<LeaderEpochs> {
    entries(bytes, |fields| match fields {
        [epoch, start_offset] => Some(EpochStart {
            epoch: epoch.parse().ok()?,
            start_offset: start_offset.parse().ok()?,
        }),
        _ => None,
    })
    .map(LeaderEpochs::from_entries)
}

fn entries<T>(bytes: &[u8], parse: impl Fn(&[&str]) -> Option<T>) -> Option<Vec<T>> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()?.trim() != "0" {
        return None;
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let parsed: Option<Vec<T>> = lines
        .map(|line| parse(&line.split_whitespace().collect::<Vec<_>>()))
        .collect();
    parsed.filter(|parsed| parsed.len() == count)
}

/// `key=value` lines, as in `meta.properties`; comments are skipped.
pub(crate) fn decode_properties(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let lines = std::str::from_utf8(bytes).ok()?.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            line.split_once('=')
                .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_epochs_round_trip_in_kafkas_text() {
        let offsets = BTreeMap::from([
            (TopicPartition::new("orders", 1), 4711),
            (TopicPartition::new("a.b_c-d", 0), 0),
        ]);
        let text = encode_offsets(&offsets);
        assert_eq!(text, "0\n2\na.b_c-d 0 0\norders 1 4711\n");
        assert_eq!(decode_offsets(text.as_bytes()), Some(offsets));
        let epochs = LeaderEpochs::from_entries([
            EpochStart {
                epoch: 0,
                start_offset: 0,
            },
            EpochStart {
                epoch: 3,
                start_offset: 10,
            },
        ]);
        assert_eq!(encode_epochs(&epochs), "0\n2\n0 0\n3 10\n");
        assert_eq!(decode_epochs(b"0\n2\n0 0\n3 10\n"), Some(epochs));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "0",
            "1\n0\n",
            "0\nx\n",
            "0\n1\n",
            "0\n2\norders 0 1\n",
            "0\n1\norders 0\n",
            "0\n1\norders 0 x\n",
            "0\n\u{0}\n",
        ] {
            assert_eq!(decode_offsets(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(decode_offsets(&[0xff; 9]), None);
        assert_eq!(decode_offsets(&[0; 9]), None);
    }

    #[test]
    fn properties_are_read_as_kafka_writes_them() {
        let read =
            decode_properties(b"#\n#Sat Nov 21 07:27:28 UTC 2026\nversion=1\n node.id = 3\n")
                .unwrap();
        assert_eq!(
            read,
            BTreeMap::from([
                ("version".into(), "1".into()),
                ("node.id".into(), "3".into())
            ])
        );
        assert_eq!(decode_properties(b"no equals sign"), None);
    }
}
