//! Doors for `tests/fuzz` to the readers of positions, journals and files. The product calls none of them.

use std::collections::VecDeque;

use bytes::Bytes;
use flumen_connect::record::SourceOffset;

use crate::csv::{Dialect, Table};
use crate::journal::Commit;
use crate::lines::LineCutter;
use crate::position::Position;

/// A stored position. What can be read is written and read again.
pub fn position(json: &[u8]) {
    let Ok(offset) = serde_json::from_slice::<SourceOffset>(json) else {
        return;
    };
    if let Ok(position) = Position::from_offset(&offset) {
        let again = Position::from_offset(&position.to_offset());
        assert_eq!(again.as_ref(), Ok(&position));
    }
}

/// The sidecar of a file that is written.
pub fn journal(bytes: &[u8]) {
    let _ = Commit::last(bytes);
}

/// A CSV file from byte `start` on, read in pieces of `piece` bytes, at most `max_bytes` a line.
pub fn csv(bytes: &[u8], start: u64, piece: usize, max_bytes: usize) {
    for delimiter in [None, Some(b',')] {
        let mut cutter = LineCutter::new(start, 0, delimiter, max_bytes);
        let mut lines = VecDeque::new();
        for chunk in bytes.chunks(piece.max(1)) {
            cutter.feed(Bytes::copy_from_slice(chunk), &mut lines);
        }
        cutter.finish(&mut lines);
        let mut end = start;
        for line in &lines {
            assert!(
                line.start >= end && line.end >= line.start,
                "lines in order"
            );
            end = line.end;
        }
        assert!(end <= start.saturating_add(bytes.len() as u64));
        let rows: Vec<Bytes> = lines.into_iter().map(|line| line.bytes).collect();
        table(&rows);
    }
}

fn table(rows: &[Bytes]) {
    let dialect = Dialect {
        delimiter: b',',
        nulls: vec!["NA".to_owned()],
        empty_is_null: true,
    };
    let Some((first, rows)) = rows.split_first() else {
        return;
    };
    let Ok(names) = Table::header(&dialect, first) else {
        return;
    };
    let table = Table::inferred(dialect, &names, rows.iter());
    rows.iter().for_each(|row| drop(table.row(row)));
}
