//! Doors for `tests/fuzz` to this crate's private readers of files: any bytes in, no panic out. The product calls none of them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use flumen_protocol::id::Offset;

use crate::disk::Disk;
use crate::fault_disk::FaultDisk;
use crate::index::{OffsetIndex, TimeIndex, TimestampOffset, TxnIndex};
use crate::{checkpoint, recovery, snapshot};

/// Writes a file whole; its directory is made.
///
/// # Errors
/// What the disk says.
pub fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        disk.create_dir(dir)?;
    }
    Ok(checkpoint::replace(disk, path, bytes)?)
}

fn disk_with(name: &str, bytes: &[u8]) -> (Arc<dyn Disk>, std::path::PathBuf) {
    let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
    let path = Path::new("/fuzz").join(name);
    put(&*disk, &path, bytes).expect("this disk does not fail");
    (disk, path)
}

/// A `.index` of a segment that begins at `base_offset`: read, recovered, cut and appended to.
///
/// # Errors
/// The file is not usable, which recovery knows how to handle.
pub fn offset_index(bytes: &[u8], base_offset: Offset) -> io::Result<()> {
    let (disk, path) = disk_with("0.index", bytes);
    let index = OffsetIndex::new(disk, path, base_offset, 1 << 16, true);
    let _ = index.last()?;
    let _ = index.position_before(base_offset.saturating_add(100))?;
    index.recover(base_offset.saturating_add(1_000), 1 << 20)?;
    index.truncate_to_position(1 << 10)?;
    index.append(base_offset.saturating_add(2_000), 1 << 21)
}

/// A `.timeindex`, in the same way.
///
/// # Errors
/// As [`offset_index`].
pub fn time_index(bytes: &[u8], base_offset: Offset) -> io::Result<()> {
    let (disk, path) = disk_with("0.timeindex", bytes);
    let index = TimeIndex::new(disk, path, base_offset, 1 << 16, true);
    let _ = (index.first()?, index.last()?, index.last_below(1_000)?);
    index.recover(base_offset.saturating_add(1_000))?;
    index.truncate_to_offset(base_offset.saturating_add(10))?;
    index.append_if_newer(TimestampOffset {
        timestamp: i64::MAX,
        offset: base_offset.saturating_add(2_000),
    })
}

/// A `.txnindex`, in the same way.
///
/// # Errors
/// As [`offset_index`].
pub fn txn_index(bytes: &[u8]) -> io::Result<()> {
    let (disk, path) = disk_with("0.txnindex", bytes);
    let index = TxnIndex::new(disk, path, true);
    let mut seen = 0;
    index.visit(|_| {
        seen += 1;
        true
    })?;
    assert!(seen <= bytes.len() / 34, "an entry is 34 bytes");
    index.truncate_to_offset(1_000)?;
    if let Some(bytes) = index.unsaved() {
        index.on_saved(&bytes);
    }
    Ok(())
}

/// A producer snapshot. What can be read is written and read again.
pub fn producer_snapshot(bytes: &[u8]) {
    if let Ok(producers) = snapshot::decode(bytes) {
        let again = snapshot::encode(&producers);
        let read = snapshot::decode(&again).expect("our own snapshot");
        assert_eq!(snapshot::encode(&read), again);
    }
}

/// The text files: checkpoints of offsets and epochs, properties, a partition's metadata.
pub fn text_files(bytes: &[u8]) {
    if let Some(offsets) = checkpoint::decode_offsets(bytes) {
        let again = checkpoint::encode_offsets(&offsets);
        assert_eq!(
            checkpoint::decode_offsets(again.as_bytes()),
            Some(offsets),
            "{again}"
        );
    }
    if let Some(epochs) = checkpoint::decode_epochs(bytes) {
        let again = checkpoint::encode_epochs(&epochs);
        assert_eq!(
            checkpoint::decode_epochs(again.as_bytes()).map(|e| e.entries().to_vec()),
            Some(epochs.entries().to_vec()),
            "{again}"
        );
    }
    let _ = checkpoint::decode_properties(bytes);
    let _ = recovery::decode_metadata(bytes);
}
