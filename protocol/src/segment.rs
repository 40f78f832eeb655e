//! What a response is made of: bytes in memory, or a range of a file that the server may send without copying it.
//!
//! Owns only the handles. The log makes file ranges, messages carry them, the server writes them (with `sendfile`
//! where [`FileSource::as_fd`] gives a descriptor). This file never opens, reads or writes anything by itself.

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;

/// An open file that can be read at any position by many readers at once.
///
/// Whoever holds one keeps the file readable, also after its name has been deleted.
pub trait FileSource: Send + Sync + Debug {
    /// Reads into `buf` from `position` (bytes from the start of the file); returns how many bytes were read, 0 at the end.
    ///
    /// # Errors
    /// Whatever the file system answers.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;

    /// The descriptor behind it, if there is one: the server may `sendfile` from it.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// `len` bytes of a file from `position` on.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The file.
    pub source: Arc<dyn FileSource>,
    /// First byte, counted from the start of the file.
    pub position: u64,
    /// Number of bytes.
    pub len: usize,
}

impl FileRange {
    /// Reads the whole range into memory.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends inside the range, else whatever the file system answers.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut buf = vec![0; self.len];
        let mut done = 0;
        while done < buf.len() {
            match self
                .source
                .read_at(&mut buf[done..], self.position + done as u64)?
            {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(Bytes::from(buf))
    }
}

/// The same file object, position and length; contents are not compared.
impl PartialEq for FileRange {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
            && self.position == other.position
            && self.len == other.len
    }
}

/// The `records` field of a message: whole record batches, still as bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Records {
    /// In memory: a request as it was read, or a response made by the broker.
    Bytes(Bytes),
    /// In a segment file.
    File(FileRange),
}

impl Records {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(range) => range.len,
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, read from the file if they are there.
    ///
    /// # Errors
    /// As [`FileRange::read`]; never for bytes in memory.
    pub fn into_bytes(self) -> io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::File(range) => range.read(),
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<FileRange> for Records {
    fn from(range: FileRange) -> Self {
        Self::File(range)
    }
}

/// One piece of an encoded response, in the order it goes on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Segment {
    /// Written with a vectored write.
    Bytes(Bytes),
    /// Sent from the file.
    File(FileRange),
}

impl Segment {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(range) => range.len,
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Records> for Segment {
    fn from(records: Records) -> Self {
        match records {
            Records::Bytes(bytes) => Self::Bytes(bytes),
            Records::File(range) => Self::File(range),
        }
    }
}
