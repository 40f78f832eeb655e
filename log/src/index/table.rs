//! A file of entries of one size, memory-mapped, appended to at the end and searched by bisection.
//!
//! While its segment is active the file is as long as `segment.index.bytes`, mostly a hole; it is cut to what it holds when
//! the segment is rolled or closed, as Kafka does. Space for entries is set aside in steps *before* they are written through
//! the map: a map over a hole on a full disk would kill the process.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};

use crate::disk::{Disk, DiskFile, DiskMap, OpenMode};

/// Space is set aside in steps of this many bytes.
const ALLOCATION_BYTES: usize = 16 * 1024;

/// Entries of `N` bytes. See the file's head.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    max_bytes: usize,
    /// Whether the entry at this index is in use, for a file that was not cut.
    used: fn(usize, &[u8; N]) -> bool,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether there is a file to be looked at: false only for a file that does not exist.
    exists: bool,
    open: Option<Open>,
    entries: usize,
    dirty: bool,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn DiskFile>,
    /// None for an empty file: nothing cannot be mapped.
    map: Option<Box<dyn DiskMap>>,
    /// Bytes from the start of the file that have space.
    allocated: usize,
}

impl Inner {
    fn entry<const N: usize>(&self, i: usize) -> [u8; N] {
        let map = self.open.as_ref().and_then(|open| open.map.as_ref());
        let bytes = map.expect("entries are mapped").bytes();
        bytes[i * N..(i + 1) * N].try_into().expect("N bytes")
    }

    fn partition_point<const N: usize>(&self, wanted: impl Fn([u8; N]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            match wanted(self.entry(middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        max_bytes: usize,
        exists: bool,
        used: fn(usize, &[u8; N]) -> bool,
    ) -> Self {
        let max_bytes = (max_bytes - max_bytes % N).max(2 * N);
        let inner = RwLock::new(Inner {
            exists,
            ..Inner::default()
        });
        Self {
            disk,
            path,
            max_bytes,
            used,
            inner,
        }
    }

    /// A read guard over the opened table.
    fn opened(&self) -> io::Result<RwLockReadGuard<'_, Inner>> {
        let inner = self.inner.read();
        if inner.open.is_some() || !inner.exists {
            return Ok(inner);
        }
        drop(inner);
        let mut inner = self.inner.write();
        self.open(&mut inner)?;
        Ok(parking_lot::RwLockWriteGuard::downgrade(inner))
    }

    /// Opens and maps the file as it is, and counts its entries.
    fn open(&self, inner: &mut Inner) -> io::Result<()> {
        if inner.open.is_some() || !inner.exists {
            return Ok(());
        }
        let file = self.disk.open(&self.path, OpenMode::Write)?;
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        let len = len - len % N;
        let map = match len {
            0 => None,
            _ => Some(file.map(len)?),
        };
        inner.open = Some(Open {
            file,
            map,
            allocated: 0,
        });
        inner.entries = len / N;
        // The used entries are a prefix.
        let (mut low, mut high) = (0, inner.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            match (self.used)(middle, &inner.entry(middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        inner.entries = low;
        Ok(())
    }

    /// The last entry of the prefix for which `wanted` holds.
    pub(crate) fn last_where(
        &self,
        wanted: impl Fn([u8; N]) -> bool,
    ) -> io::Result<Option<[u8; N]>> {
        let inner = self.opened()?;
        let end = inner.partition_point(wanted);
        Ok(end.checked_sub(1).map(|last| inner.entry(last)))
    }

    /// Bytes of its entries.
    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok((self.opened()?.entries * N) as u64)
    }

    /// The two newest entries, newest first.
    pub(crate) fn newest(&self) -> io::Result<[Option<[u8; N]>; 2]> {
        let inner = self.opened()?;
        let back = |n: usize| inner.entries.checked_sub(n).map(|i| inner.entry(i));
        Ok([back(1), back(2)])
    }

    /// The first entry.
    pub(crate) fn first(&self) -> io::Result<Option<[u8; N]>> {
        let inner = self.opened()?;
        Ok((inner.entries > 0).then(|| inner.entry(0)))
    }

    /// Whether there is room for only one entry more, which belongs to the roll.
    pub(crate) fn is_full(&self) -> bool {
        let inner = self.inner.read();
        (inner.entries + 1) * N >= self.max_bytes
    }

    /// Adds an entry. On error the table is as it was.
    pub(crate) fn append(&self, entry: &[u8; N]) -> io::Result<()> {
        let mut inner = self.inner.write();
        self.make_writable(&mut inner)?;
        let at = inner.entries * N;
        let open = inner.open.as_mut().expect("made writable");
        if open.allocated < at + N {
            let len = ALLOCATION_BYTES.min(self.max_bytes - at).max(N);
            open.file.allocate(at as u64, len as u64)?;
            open.allocated = at + len;
        }
        let map = open.map.as_mut().expect("made writable");
        if map.bytes().len() < at + N {
            return Err(io::ErrorKind::StorageFull.into());
        }
        map.write(at, entry);
        inner.entries += 1;
        inner.dirty = true;
        Ok(())
    }

    /// Opens the file, creating it if need be, at its full length.
    fn make_writable(&self, inner: &mut Inner) -> io::Result<()> {
        self.open(inner)?;
        let mapped = inner.open.as_ref().and_then(|open| open.map.as_ref());
        if mapped.is_some_and(|map| map.bytes().len() >= self.max_bytes) {
            return Ok(());
        }
        let file = match inner.open.take() {
            Some(open) => open.file,
            None => self.disk.open(&self.path, OpenMode::Create)?,
        };
        inner.exists = true;
        let used = inner.entries * N;
        file.set_len(used as u64)?;
        file.set_len(self.max_bytes.max(used) as u64)?;
        let map = Some(file.map(self.max_bytes.max(used))?);
        inner.open = Some(Open {
            file,
            map,
            allocated: used,
        });
        Ok(())
    }

    /// Keeps the prefix for which `wanted` holds.
    pub(crate) fn truncate_where(&self, wanted: impl Fn([u8; N]) -> bool) -> io::Result<()> {
        let mut inner = self.inner.write();
        self.open(&mut inner)?;
        let keep = inner.partition_point(wanted);
        if keep < inner.entries {
            inner.entries = keep;
            self.cut(&mut inner)?;
        }
        Ok(())
    }

    /// After an unclean stop: keeps the entries, from the first on, for which `valid` holds, whatever the file's length says.
    pub(crate) fn recover(&self, mut valid: impl FnMut([u8; N]) -> bool) -> io::Result<()> {
        let mut inner = self.inner.write();
        self.open(&mut inner)?;
        let Some(open) = &inner.open else {
            return Ok(());
        };
        let mapped = open.map.as_ref().map_or(0, |map| map.bytes().len() / N);
        let kept = (0..mapped).take_while(|i| valid(inner.entry(*i))).count();
        inner.entries = kept;
        self.cut(&mut inner)
    }

    /// Begins a new file beside the old one, which [`Self::finish_anew`] puts in its place: so that a crash in between does not
    /// leave a mixture that looks well.
    pub(crate) fn begin_anew(&self) -> io::Result<()> {
        let file = self.disk.open(&self.new_path(), OpenMode::Create)?;
        file.set_len(0)?;
        let mut inner = self.inner.write();
        *inner = Inner {
            exists: true,
            open: Some(Open {
                file,
                map: None,
                allocated: 0,
            }),
            entries: 0,
            dirty: true,
        };
        Ok(())
    }

    /// Gives the new file the old one's name, durably but for the name.
    pub(crate) fn finish_anew(&self) -> io::Result<()> {
        self.cut(&mut self.inner.write())?;
        self.sync()?;
        self.disk.rename(&self.new_path(), &self.path)
    }

    fn new_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".tmp");
        name.into()
    }

    /// Cuts the file to what it holds; creates it if there is none.
    pub(crate) fn trim(&self) -> io::Result<()> {
        let mut inner = self.inner.write();
        if !inner.exists {
            self.disk.open(&self.path, OpenMode::Create)?;
            inner.exists = true;
        }
        self.cut(&mut inner)
    }

    fn cut(&self, inner: &mut Inner) -> io::Result<()> {
        self.open(inner)?;
        let len = (inner.entries * N) as u64;
        let Some(Open { file, map, .. }) = inner.open.take() else {
            return Ok(());
        };
        drop(map);
        if file.len()? != len {
            file.set_len(len)?;
            inner.dirty = true;
        }
        let map = match len {
            0 => None,
            _ => Some(file.map(len as usize)?),
        };
        inner.open = Some(Open {
            file,
            map,
            allocated: 0,
        });
        Ok(())
    }

    /// Makes the entries durable, if any are not.
    fn sync(&self) -> io::Result<()> {
        self.take_dirty().map_or(Ok(()), |file| file.sync_data())
    }

    /// The file, if it was written to since this was asked for: now it is to be synced.
    pub(crate) fn take_dirty(&self) -> Option<Arc<dyn DiskFile>> {
        let mut inner = self.inner.write();
        match std::mem::take(&mut inner.dirty) {
            true => inner.open.as_ref().map(|open| open.file.clone()),
            false => None,
        }
    }

    /// Whether the file exists.
    pub(crate) fn exists(&self) -> bool {
        self.inner.read().exists
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }
}
