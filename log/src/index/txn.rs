//! The aborted transactions of a segment. Few and small, so they are held in memory and the file is written when the
//! log's recovery point passes them (`Log::checkpoint`); what is above that point is rebuilt.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use flumen_protocol::id::{Offset, ProducerId};
use parking_lot::Mutex;

use crate::disk::Disk;
use crate::sealed::{self, Sealed};

const ENTRY_BYTES: usize = 34;

/// A transaction that was aborted, as a fetch response names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose.
    pub producer_id: ProducerId,
    /// Offset of its first record in this partition.
    pub first_offset: Offset,
    /// Offset of its marker.
    pub last_offset: Offset,
    /// Last stable offset once it was aborted: everything below is decided.
    pub last_stable_offset: Offset,
}

impl AbortedTxn {
    fn encode(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&0i16.to_be_bytes());
        for field in [
            self.producer_id,
            self.first_offset,
            self.last_offset,
            self.last_stable_offset,
        ] {
            output.extend_from_slice(&field.to_be_bytes());
        }
    }

    /// None unless version and offsets make sense.
    fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let field = |i: usize| {
            i64::from_be_bytes(
                entry[2 + 8 * i..10 + 8 * i]
                    .try_into()
                    .expect("eight bytes"),
            )
        };
        let txn = Self {
            producer_id: field(0),
            first_offset: field(1),
            last_offset: field(2),
            last_stable_offset: field(3),
        };
        (entry[..2] == [0, 0] && txn.first_offset < txn.last_offset).then_some(txn)
    }
}

/// The bytes of a file that holds these.
pub(crate) fn encode_aborted(txns: &[AbortedTxn]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(txns.len() * ENTRY_BYTES);
    txns.iter().for_each(|txn| txn.encode(&mut bytes));
    bytes
}

/// The aborted transactions whose marker lies in one segment, in the order of their markers.
#[derive(Debug)]
pub(crate) struct TxnIndex {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// None until the file has been read.
    entries: Option<Vec<AbortedTxn>>,
    /// Entries that the file holds; none that can be relied on after a truncation.
    saved: Option<usize>,
    damaged: bool,
}

impl TxnIndex {
    /// The index at `path`, which is read when it is first needed.
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf, exists: bool) -> Self {
        let entries = (!exists).then(Vec::new);
        Self {
            disk,
            path,
            inner: Mutex::new(Inner {
                entries,
                saved: Some(0),
                damaged: false,
            }),
        }
    }

    fn read(&self, inner: &mut Inner) -> io::Result<()> {
        if inner.entries.is_some() {
            return Ok(());
        }
        let (whole, entries) = match sealed::read(&*self.disk, &self.path)? {
            Sealed::Missing => (true, Vec::new()),
            Sealed::Damaged => (false, Vec::new()),
            Sealed::Whole(bytes) => {
                let (chunks, rest) = bytes.as_chunks::<ENTRY_BYTES>();
                let entries: Vec<_> = chunks.iter().map_while(AbortedTxn::decode).collect();
                (rest.is_empty() && entries.len() == chunks.len(), entries)
            }
        };
        inner.damaged = !whole;
        inner.saved = whole.then_some(entries.len());
        inner.entries = Some(entries);
        Ok(())
    }

    /// Whether the file says less than was written to it.
    pub(crate) fn is_damaged(&self) -> io::Result<bool> {
        let mut inner = self.inner.lock();
        self.read(&mut inner)?;
        Ok(inner.damaged)
    }

    /// Forgets all, to be told again: see [`Self::append`].
    pub(crate) fn begin_anew(&self) {
        let mut inner = self.inner.lock();
        inner.entries = Some(Vec::new());
        inner.saved = None;
    }

    /// Reads the file if that was not done yet, so that [`Self::append`] cannot fail.
    pub(crate) fn load(&self) -> io::Result<()> {
        self.read(&mut self.inner.lock())
    }

    /// Adds a transaction.
    pub(crate) fn append(&self, txn: AbortedTxn) -> io::Result<()> {
        let mut inner = self.inner.lock();
        self.read(&mut inner)?;
        inner.entries.as_mut().expect("read").push(txn);
        Ok(())
    }

    /// Calls `visit` for each transaction in order until it returns false; returns whether it never did.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&AbortedTxn) -> bool) -> io::Result<bool> {
        let mut inner = self.inner.lock();
        self.read(&mut inner)?;
        Ok(inner.entries.as_ref().expect("read").iter().all(&mut visit))
    }

    /// Drops the transactions whose marker is at `offset` or later.
    pub(crate) fn truncate_to_offset(&self, offset: Offset) -> io::Result<()> {
        let mut inner = self.inner.lock();
        self.read(&mut inner)?;
        let entries = inner.entries.as_mut().expect("read");
        let before = entries.len();
        entries.retain(|txn| txn.last_offset < offset);
        if entries.len() < before {
            inner.saved = None;
        }
        Ok(())
    }

    /// The bytes that the file should hold, if it does not. It is small, and replaced as a whole.
    pub(crate) fn unsaved(&self) -> Option<Vec<u8>> {
        let inner = self.inner.lock();
        let entries = inner.entries.as_ref()?;
        if inner.saved == Some(entries.len()) {
            return None;
        }
        Some(encode_aborted(entries))
    }

    /// The file holds these bytes, durably.
    pub(crate) fn on_saved(&self, bytes: &[u8]) {
        self.inner.lock().saved = Some(bytes.len() / ENTRY_BYTES);
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }
}
