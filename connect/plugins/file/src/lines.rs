//! Cuts a stream of bytes into records: lines, or CSV rows whose quoted fields may hold newlines. Pure.
//!
//! Owns what is not yet a whole record. `reader.rs` feeds it, in order; it says where each record begins, so a position is always a record boundary.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// One record's bytes, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Byte where it begins.
    pub(crate) start: u64,
    /// Byte behind its line end: where the next one begins.
    pub(crate) end: u64,
    /// Number of its first line, from 1.
    pub(crate) number: u64,
    /// Its bytes; of a line that is too long: the first `max_bytes` of them.
    pub(crate) bytes: Bytes,
    /// The same with its line end; of a line that was too long to keep: nothing.
    pub(crate) whole: Bytes,
    /// Longer than `max_bytes`.
    pub(crate) too_long: bool,
}

/// Cuts bytes into lines. A line ends with `\n` or `\r\n`; what has no end yet is kept.
#[derive(Debug)]
pub(crate) struct LineCutter {
    rest: BytesMut,
    /// How much of `rest` was searched already, and whether that ended inside quotes.
    searched: usize,
    quoted: bool,
    /// Byte where `rest` begins, and lines before it.
    position: u64,
    line: u64,
    /// Newlines inside the quotes of `rest`.
    inner: u64,
    /// Bytes of an over-long line that were dropped.
    dropped: u64,
    /// Of CSV the delimiter: a quote opens at the beginning of a field only.
    delimiter: Option<u8>,
    max_bytes: usize,
}

impl LineCutter {
    /// Begins at byte `position` behind `line` lines; of CSV with this delimiter, a newline inside `"…"` ends nothing.
    pub(crate) fn new(
        position: u64,
        line: u64,
        delimiter: Option<u8>,
        max_bytes: usize,
    ) -> LineCutter {
        LineCutter {
            rest: BytesMut::new(),
            searched: 0,
            quoted: false,
            position,
            line,
            inner: 0,
            dropped: 0,
            delimiter,
            max_bytes,
        }
    }

    /// Byte behind the last whole record.
    #[cfg(test)]
    fn position(&self) -> u64 {
        self.position
    }

    /// Byte behind everything that was fed.
    pub(crate) fn fed_until(&self) -> u64 {
        self.position + self.dropped + self.rest.len() as u64
    }

    /// Adds `chunk` and appends the records that are whole now to `lines`.
    pub(crate) fn feed(&mut self, chunk: Bytes, lines: &mut VecDeque<Line>) {
        let mut data = if self.rest.is_empty() {
            chunk
        } else {
            self.rest.extend_from_slice(&chunk);
            self.rest.split().freeze()
        };
        let mut from = std::mem::take(&mut self.searched);
        while let Some(newline) = self.line_end(&data, from) {
            let whole = data.split_to(newline + 1);
            self.take(whole, lines);
            from = 0;
        }
        self.keep(&data);
    }

    /// The end of the file: what has no line end is a record too, if there is anything.
    pub(crate) fn finish(&mut self, lines: &mut VecDeque<Line>) {
        let rest = self.rest.split().freeze();
        self.searched = 0;
        self.quoted = false;
        if !rest.is_empty() || self.dropped > 0 {
            self.take(rest, lines);
        }
    }

    /// The newline that ends the first record of `data`; nothing before `from` does.
    fn line_end(&mut self, data: &[u8], from: usize) -> Option<usize> {
        let Some(delimiter) = self.delimiter else {
            return memchr::memchr(b'\n', &data[from..]).map(|at| from + at);
        };
        for at in memchr::memchr2_iter(b'\n', b'"', &data[from..]).map(|at| from + at) {
            match data[at] {
                b'"' if self.quoted => self.quoted = false,
                // At the start of a field, or the second of a doubled quote.
                b'"' => self.quoted = at == 0 || data[at - 1] == delimiter || data[at - 1] == b'"',
                _ if self.quoted => self.inner += 1,
                _ => return Some(at),
            }
        }
        None
    }

    fn take(&mut self, whole: Bytes, lines: &mut VecDeque<Line>) {
        let len = self.dropped + whole.len() as u64;
        let mut bytes = whole.clone();
        if bytes.last() == Some(&b'\n') {
            bytes.truncate(bytes.len() - 1);
            if self.dropped == 0 && bytes.last() == Some(&b'\r') {
                bytes.truncate(bytes.len() - 1);
            }
        }
        let too_long = self.dropped > 0 || bytes.len() > self.max_bytes;
        bytes.truncate(self.max_bytes);
        let whole = if too_long { Bytes::new() } else { whole };
        lines.push_back(Line {
            start: self.position,
            end: self.position + len,
            number: self.line + 1,
            bytes,
            whole,
            too_long,
        });
        self.position += len;
        self.line += 1 + self.inner;
        self.inner = 0;
        self.dropped = 0;
    }

    /// Keeps an unfinished record; of one that is too long only the beginning.
    fn keep(&mut self, data: &[u8]) {
        // `\r` may still become part of a line end, so one byte more than the limit is no excess yet.
        if data.len() > self.max_bytes + 2 {
            self.dropped += (data.len() - self.max_bytes - 1) as u64;
            self.rest.extend_from_slice(&data[..self.max_bytes]);
            // What a quote means depends on the byte before it.
            self.rest.extend_from_slice(&data[data.len() - 1..]);
        } else {
            self.rest.extend_from_slice(data);
        }
        self.searched = self.rest.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(input: &[u8], chunk: usize, quotes: bool, max: usize, finish: bool) -> (Vec<Line>, u64) {
        let mut cutter = LineCutter::new(0, 0, quotes.then_some(b','), max);
        let mut lines = VecDeque::new();
        for chunk in input.chunks(chunk.max(1)) {
            cutter.feed(Bytes::copy_from_slice(chunk), &mut lines);
        }
        assert_eq!(cutter.fed_until(), input.len() as u64);
        if finish {
            cutter.finish(&mut lines);
        }
        (lines.into(), cutter.position())
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines
            .iter()
            .map(|line| std::str::from_utf8(&line.bytes).unwrap())
            .collect()
    }

    #[test]
    fn lines_end_with_newline_with_or_without_return_and_the_rest_waits() {
        for chunk in 1..20 {
            let (lines, position) =
                cut("a\r\n\nb\rc\nüñ\nrest".as_bytes(), chunk, false, 100, false);
            assert_eq!(texts(&lines), ["a", "", "b\rc", "üñ"]);
            assert_eq!(position, 13);
            assert_eq!(
                lines[3],
                Line {
                    start: 8,
                    end: 13,
                    number: 4,
                    bytes: "üñ".into(),
                    whole: "üñ\n".into(),
                    too_long: false
                }
            );
            let (lines, _) = cut("a\r\nrest\r".as_bytes(), chunk, false, 100, true);
            assert_eq!(texts(&lines), ["a", "rest\r"]);
        }
    }

    #[test]
    fn a_quoted_newline_is_part_of_the_row() {
        let (lines, _) = cut(b"5\" disk,\n6\n", 100, true, 100, false);
        assert_eq!(
            texts(&lines),
            ["5\" disk,", "6"],
            "a stray quote opens nothing"
        );
        for chunk in 1..20 {
            let (lines, _) = cut(b"1,\"a\nb\"\"\n\",2\n3\n", chunk, true, 100, false);
            assert_eq!(texts(&lines), ["1,\"a\nb\"\"\n\",2", "3"]);
            assert_eq!((lines[0].number, lines[1].number), (1, 4));
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_is_reported_once() {
        for chunk in [1, 3, 7, 64] {
            let (lines, position) = cut(
                b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nbb\n",
                chunk,
                false,
                5,
                false,
            );
            assert_eq!(texts(&lines), ["aaaaa", "bb"]);
            assert_eq!(
                lines.iter().map(|line| line.too_long).collect::<Vec<_>>(),
                [true, false]
            );
            assert_eq!((lines[0].end, position), (37, 40));
            let (lines, _) = cut(b"aaaaa\r\naaaaaa\r\n", chunk, false, 5, false);
            assert_eq!(
                lines.iter().map(|line| line.too_long).collect::<Vec<_>>(),
                [false, true]
            );
        }
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(input in "[ab,\"\r\nü]{0,60}", chunk in 1_usize..9, quotes: bool) {
            let whole = cut(input.as_bytes(), 1000, quotes, 7, true);
            prop_assert_eq!(cut(input.as_bytes(), chunk, quotes, 7, true), whole.clone());
            let mut at = 0;
            for line in whole.0 {
                prop_assert_eq!(line.start, at);
                at = line.end;
            }
            prop_assert_eq!(at, input.len() as u64);
        }
    }
}
