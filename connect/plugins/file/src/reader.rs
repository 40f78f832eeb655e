//! One open file of a source: reads its content, plain or gzip, and notices when the path holds another file.
//!
//! Owns the descriptor and the unfinished record. `source.rs` calls it on a blocking thread. What a stored position is worth is decided in `position.rs`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;

use crate::disk;
use crate::lines::{Line, LineCutter};
use crate::position::{Fingerprint, GUARD_BYTES, HEAD_BYTES, Observed, Position, Resume, resume};

/// How files are read, from the configuration.
#[derive(Debug, Clone)]
pub(crate) struct ReadOptions {
    pub(crate) path: PathBuf,
    pub(crate) gzip: bool,
    /// Of CSV: what separates fields.
    pub(crate) delimiter: Option<u8>,
    pub(crate) max_line_bytes: usize,
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Lines were added, or a part of one.
    Bytes,
    /// Nothing more for now.
    End,
    /// The file is shorter than what was read, or its content before the position changed.
    Changed(String),
}

enum Content {
    Plain,
    Gzip(Box<MultiGzDecoder<File>>),
}

/// An open file.
pub(crate) struct Reader {
    file: File,
    content: Content,
    cutter: LineCutter,
    pub(crate) inode: (u64, u64),
    head: Fingerprint,
    lines: VecDeque<Line>,
    /// The last record handed out.
    last: Option<(u64, Fingerprint)>,
    at_end: bool,
}

impl Reader {
    /// Opens `path` at a stored position, or at its beginning.
    ///
    /// Returns also why the stored position does not hold, if it does not: then reading begins at 0.
    pub(crate) fn open(
        options: &ReadOptions,
        path: &Path,
        stored: Option<&Position>,
    ) -> io::Result<(Reader, Option<String>)> {
        let file = disk::open(path)?;
        let Some(stored) = stored else {
            return Ok((Reader::at(options, path, file, None)?, None));
        };
        let head_matches = match stored.head {
            Some(head) => fingerprint(&file, 0, head.len)? == Some(head),
            None => true,
        };
        if !options.gzip {
            let size = file.metadata()?.len();
            let guard_matches = plain_guard(&file, stored)?;
            return match resume(
                stored,
                Observed {
                    size: Some(size),
                    head_matches,
                    guard_matches,
                },
            ) {
                Resume::At => Ok((Reader::at(options, path, file, Some(stored))?, None)),
                Resume::NewGeneration(why) => {
                    Ok((Reader::at(options, path, file, None)?, Some(why)))
                }
            };
        }
        if head_matches {
            let mut reader = Reader::at(options, path, file, Some(stored))?;
            let (size, guard) = reader.inflate_to(stored.position, stored.guard.len)?;
            let guard_matches = size < stored.position || guard == stored.guard;
            match resume(
                stored,
                Observed {
                    size: Some(size),
                    head_matches,
                    guard_matches,
                },
            ) {
                Resume::At => return Ok((reader, None)),
                Resume::NewGeneration(why) => {
                    return Ok((
                        Reader::at(options, path, disk::open(path)?, None)?,
                        Some(why),
                    ));
                }
            }
        }
        let Resume::NewGeneration(why) = resume(
            stored,
            Observed {
                size: None,
                head_matches,
                guard_matches: true,
            },
        ) else {
            unreachable!("a head that differs never resumes")
        };
        Ok((Reader::at(options, path, file, None)?, Some(why)))
    }

    fn at(
        options: &ReadOptions,
        path: &Path,
        file: File,
        stored: Option<&Position>,
    ) -> io::Result<Reader> {
        let meta = file.metadata()?;
        let (position, line) = stored.map_or((0, 0), |stored| (stored.position, stored.line));
        let content = if options.gzip {
            Content::Gzip(Box::new(MultiGzDecoder::new(disk::open(path)?)))
        } else {
            Content::Plain
        };
        Ok(Reader {
            content,
            cutter: LineCutter::new(position, line, options.delimiter, options.max_line_bytes),
            inode: (meta.dev(), meta.ino()),
            head: stored.and_then(|stored| stored.head).unwrap_or_default(),
            lines: VecDeque::new(),
            last: stored.map(|stored| (stored.position, stored.guard)),
            at_end: false,
            file,
        })
    }

    /// Reads up to `bytes` of content and cuts it into lines.
    pub(crate) fn fill(&mut self, bytes: usize) -> io::Result<Found> {
        let at = self.cutter.fed_until();
        let mut buffer = BytesMut::zeroed(bytes.max(1));
        let read = match &mut self.content {
            Content::Gzip(decoder) => read_full(&mut **decoder, &mut buffer)?,
            Content::Plain => {
                if self.at_end
                    && let Some(why) = self.changed()?
                {
                    return Ok(Found::Changed(why));
                }
                let mut from = FileAt {
                    file: &self.file,
                    at,
                };
                read_full(&mut from, &mut buffer)?
            }
        };
        if read == 0 {
            self.at_end = true;
            return Ok(Found::End);
        }
        self.at_end = false;
        buffer.truncate(read);
        self.cutter.feed(buffer.freeze(), &mut self.lines);
        if self.head.len < HEAD_BYTES {
            let known = if matches!(self.content, Content::Plain) {
                self.cutter.fed_until()
            } else {
                HEAD_BYTES as u64
            };
            let len = usize::try_from(known).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
            self.head = fingerprint_upto(&self.file, len)?;
        }
        Ok(Found::Bytes)
    }

    /// Whether what was read is no longer what the file holds. Asked after the end was reached: nobody can tell while reading at full speed.
    fn changed(&self) -> io::Result<Option<String>> {
        let (size, read) = (self.file.metadata()?.len(), self.cutter.fed_until());
        if size < read {
            return Ok(Some(format!(
                "it has {size} bytes and {read} were read: it was truncated; what stood there unread is lost"
            )));
        }
        let stored = match self.last {
            Some((position, guard)) => Position {
                position,
                guard,
                ..Position::default()
            },
            None => return Ok(None),
        };
        let same = plain_guard(&self.file, &stored)?;
        Ok((!same).then(|| format!("the bytes before {} are not those that were read: it was truncated and written anew", stored.position)))
    }

    /// The next line that was read.
    pub(crate) fn next_line(&mut self) -> Option<Line> {
        self.lines.pop_front()
    }

    /// Whether lines wait that were read already.
    pub(crate) fn has_lines(&self) -> bool {
        !self.lines.is_empty()
    }

    /// The file will not grow: its last line counts although it has no end.
    pub(crate) fn finish(&mut self) {
        self.cutter.finish(&mut self.lines);
    }

    /// The position behind `line`, which was just taken.
    pub(crate) fn position_after(&mut self, line: &Line) -> io::Result<Position> {
        let guard = match self.content {
            Content::Plain => {
                let len = usize::try_from(line.end)
                    .unwrap_or(GUARD_BYTES)
                    .min(GUARD_BYTES);
                fingerprint(&self.file, line.end - len as u64, len)?.unwrap_or_default()
            }
            Content::Gzip(_) => {
                Fingerprint::of(&line.whole[line.whole.len().saturating_sub(GUARD_BYTES)..])
            }
        };
        self.last = Some((line.end, guard));
        let inner = memchr::memchr_iter(b'\n', &line.bytes).count() as u64;
        Ok(Position {
            position: line.end,
            line: line.number + inner,
            inode: Some(self.inode),
            head: Some(self.head),
            guard,
            ..Position::default()
        })
    }

    /// Skips content up to `position`; returns how far there is content, and the fingerprint of the last `guard` bytes before it.
    fn inflate_to(&mut self, position: u64, guard: usize) -> io::Result<(u64, Fingerprint)> {
        let Content::Gzip(decoder) = &mut self.content else {
            unreachable!("only called for gzip")
        };
        let mut buffer = vec![0; 256 * 1024];
        let (mut done, mut tail) = (0_u64, Vec::new());
        while done < position {
            let want = usize::try_from(position - done)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let read = decoder.read(&mut buffer[..want])?;
            if read == 0 {
                break;
            }
            done += read as u64;
            tail.extend_from_slice(&buffer[..read]);
            let excess = tail.len().saturating_sub(guard);
            drop(tail.drain(..excess));
        }
        Ok((done, Fingerprint::of(&tail)))
    }
}

/// The first `upto` bytes of content of a file: for the header and for a sample.
pub(crate) fn beginning(options: &ReadOptions, path: &Path, upto: usize) -> io::Result<Bytes> {
    let file = disk::open(path)?;
    let mut buffer = vec![0; upto];
    let read = if options.gzip {
        read_full(&mut MultiGzDecoder::new(file), &mut buffer)?
    } else {
        read_full(&mut FileAt { file: &file, at: 0 }, &mut buffer)?
    };
    buffer.truncate(read);
    Ok(buffer.into())
}

/// Whether the content before a stored position is what was there.
fn plain_guard(file: &File, stored: &Position) -> io::Result<bool> {
    if stored.guard.len == 0 {
        // A position of Apache Kafka's connector counts characters: it can be trusted only where a line begins.
        let before = stored
            .position
            .checked_sub(1)
            .map(|at| read_at(file, at, 1))
            .transpose()?;
        return Ok(before.is_none_or(|byte| byte == b"\n"));
    }
    let Some(from) = stored.position.checked_sub(stored.guard.len as u64) else {
        return Ok(false);
    };
    Ok(fingerprint(file, from, stored.guard.len)? == Some(stored.guard))
}

fn fingerprint(file: &File, from: u64, len: usize) -> io::Result<Option<Fingerprint>> {
    let bytes = read_at(file, from, len.min(HEAD_BYTES))?;
    Ok((bytes.len() == len).then(|| Fingerprint::of(&bytes)))
}

fn fingerprint_upto(file: &File, len: usize) -> io::Result<Fingerprint> {
    Ok(Fingerprint::of(&read_at(file, 0, len)?))
}

fn read_at(file: &File, from: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let read = read_full(&mut FileAt { file, at: from }, &mut buffer)?;
    buffer.truncate(read);
    Ok(buffer)
}

fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match from.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

struct FileAt<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FileAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
