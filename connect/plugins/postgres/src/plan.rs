//! From records to statements with their bytes. Pure.
//!
//! Owns which column each field goes to, the net effect of a batch per key, and which rows go into
//! one statement. `sink.rs` calls [`plan`] before it opens a transaction, `writer.rs` runs the
//! statements; so whatever a record's values forbid is known before anything is sent.
//!
//! Example, upsert by `id`: `{id:1,a:1} {id:2,a:2} {id:1,b:3}` becomes two rows, `{1,a:1,b:3}` and
//! `{2,a:2}`: fields that the newer record does not name stay as the older one set them. After a
//! tombstone of the key nothing of the older ones stays.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use flumen_connect::record::SinkRecord;
use flumen_connect::value::{Struct, Value};

use crate::options::{InsertMode, Options, PkMode, UnknownFields};
use crate::table::Table;

/// Bytes of one message of COPY.
const COPY_BYTES: usize = 256 * 1024;
/// An encoded null: only its length, -1.
const NULL: &[u8] = &[0xff; 4];

/// A statement and what it is run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) body: Body,
}

/// What a statement is run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// The stream of `COPY … BINARY`, in pieces.
    Copy(Vec<Bytes>),
    /// One binary array per parameter.
    Arrays(Vec<Bytes>),
}

/// Records that can never be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Refused {
    /// Index of each, as it was given to [`plan`], and why.
    pub(crate) records: Vec<(usize, String)>,
    /// One of them has a field without a column: the table may have got one since it was looked at.
    pub(crate) unknown_field: bool,
}

/// The statements that write `records` (with their indexes) into `table`, in this order.
///
/// # Errors
/// All records that do not fit, naming column and value.
pub(crate) fn plan<'a>(
    options: &Options,
    table: &Table,
    records: impl IntoIterator<Item = (usize, &'a SinkRecord)>,
) -> Result<Vec<Statement>, Refused> {
    let key = match table.key_columns(options) {
        Ok(key) => key,
        Err(why) => {
            let all = records.into_iter().map(|(at, _)| (at, why.clone()));
            let records = all.collect();
            return Err(Refused {
                records,
                unknown_field: true,
            });
        }
    };
    let mut rows = Rows::new(options, table, &key);
    let mut refused = Refused::default();
    for (at, record) in records {
        if let Err(wrong) = rows.push(record) {
            refused.unknown_field |= matches!(wrong, Wrong::UnknownField(_));
            refused.records.push((at, wrong.sentence(table)));
        }
    }
    if !refused.records.is_empty() {
        return Err(refused);
    }
    Ok(match options.insert_mode {
        InsertMode::Insert => {
            let all: Vec<usize> = (0..rows.deletes.len()).collect();
            rows.statements(options, &all, &[])
        }
        InsertMode::Upsert => rows.upsert(options),
    })
}

/// Why one record is refused.
enum Wrong {
    UnknownField(String),
    Other(String),
}

impl Wrong {
    fn sentence(self, table: &Table) -> String {
        match self {
            Wrong::UnknownField(field) => format!("table {} has no column {field}", table.name),
            Wrong::Other(why) => why,
        }
    }
}

/// Rows on their way: the encoded values of all, and where each stands.
struct Rows<'t> {
    options: &'t Options,
    table: &'t Table,
    key: &'t [usize],
    bytes: BytesMut,
    /// Per row and column of the table a range of `bytes`; an empty one: the record says nothing of
    /// it.
    cells: Vec<Range<usize>>,
    deletes: Vec<bool>,
    /// The column of the n-th field of the record before.
    hints: Vec<usize>,
}

impl<'t> Rows<'t> {
    fn new(options: &'t Options, table: &'t Table, key: &'t [usize]) -> Rows<'t> {
        Rows {
            options,
            table,
            key,
            bytes: BytesMut::new(),
            cells: Vec::new(),
            deletes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// Encodes a record; nothing of it stays if it is refused.
    fn push(&mut self, record: &SinkRecord) -> Result<(), Wrong> {
        let (bytes, cells) = (self.bytes.len(), self.cells.len());
        self.cells.resize(cells + self.table.columns.len(), 0..0);
        let result = self.encode(record);
        match result {
            Ok(()) => self.deletes.push(record.value.value.is_null()),
            Err(_) => {
                self.bytes.truncate(bytes);
                self.cells.truncate(cells);
            }
        }
        result
    }

    fn encode(&mut self, record: &SinkRecord) -> Result<(), Wrong> {
        if self.options.pk_mode == PkMode::RecordKey {
            self.encode_key(&record.key.value)?;
        }
        match fields(&record.value.value) {
            Some(fields) => {
                for (nth, (name, value)) in fields.enumerate() {
                    self.encode_field(nth, name, value)?;
                }
            }
            None if record.value.value.is_null() && self.options.delete_enabled => {}
            None if record.value.value.is_null() => {
                let why = "the value is null; delete.enabled would delete the row";
                return Err(Wrong::Other(why.to_owned()));
            }
            None => {
                let found = record.value.value.type_name();
                return Err(Wrong::Other(format!(
                    "the value is {found}, not a struct or an object with named fields"
                )));
            }
        }
        let row = self.cells.len() - self.table.columns.len();
        if self.cells[row..].iter().all(Range::is_empty) {
            let table = &self.table.name;
            let why = format!("the value has no field that is a column of table {table}");
            return Err(Wrong::Other(why));
        }
        for index in self.key {
            let cell = &self.bytes[self.cells[row + index].clone()];
            if cell.is_empty() || cell == NULL {
                let name = &self.table.columns[*index].name;
                let why = format!("the primary key column {name} has no value");
                return Err(Wrong::Other(why));
            }
        }
        Ok(())
    }

    /// The primary key from the record's key: its fields of these names, or all of it as the one
    /// column.
    fn encode_key(&mut self, key: &Value) -> Result<(), Wrong> {
        match fields(key) {
            Some(fields) => {
                for (name, value) in fields {
                    let wanted =
                        |index: &&usize| self.table.columns[**index].name.as_bytes() == name;
                    if let Some(index) = self.key.iter().find(wanted).copied() {
                        self.encode_cell(index, value)?;
                    }
                }
                Ok(())
            }
            None if self.key.len() == 1 && !key.is_null() => self.encode_cell(self.key[0], key),
            None => Err(Wrong::Other(format!(
                "the key is {} and cannot be the columns {}",
                key.type_name(),
                self.options.pk_fields.join(", ")
            ))),
        }
    }

    fn encode_field(&mut self, nth: usize, name: &[u8], value: &Value) -> Result<(), Wrong> {
        if self.hints.len() <= nth {
            self.hints.resize(nth + 1, nth);
        }
        let Some(index) = self.table.column(name, self.hints[nth]) else {
            return match self.options.unknown_fields {
                UnknownFields::Ignore => Ok(()),
                UnknownFields::Error => Err(Wrong::UnknownField(
                    String::from_utf8_lossy(name).into_owned(),
                )),
            };
        };
        self.hints[nth] = index;
        // What the record's key says of the primary key stands.
        if self.options.pk_mode == PkMode::RecordKey && self.key.contains(&index) {
            let row = self.cells.len() - self.table.columns.len();
            if !self.cells[row + index].is_empty() {
                return Ok(());
            }
        }
        self.encode_cell(index, value)
    }

    fn encode_cell(&mut self, index: usize, value: &Value) -> Result<(), Wrong> {
        let (start, column) = (self.bytes.len(), &self.table.columns[index]);
        let put = column.encoding.put(value, &mut self.bytes);
        put.map_err(|why| Wrong::Other(format!("column {}: {why}", column.name)))?;
        let row = self.cells.len() - self.table.columns.len();
        self.cells[row + index] = start..self.bytes.len();
        Ok(())
    }

    /// The net effect per key: deletes of keys that had a tombstone, then what is there at the end.
    /// Sorted by key, so that two tasks that touch the same rows do not deadlock.
    fn upsert(&mut self, options: &Options) -> Vec<Statement> {
        let width = self.table.columns.len();
        // Per key: its last row, and whether a tombstone stood among its records.
        let mut last: BTreeMap<Vec<u8>, (usize, bool)> = BTreeMap::new();
        let mut key = Vec::new();
        for row in 0..self.deletes.len() {
            key.clear();
            for index in self.key {
                key.extend_from_slice(&self.bytes[self.cells[row * width + index].clone()]);
            }
            let Some((known, deleted)) = last.get_mut(&key) else {
                let _ = last.insert(key.clone(), (row, self.deletes[row]));
                continue;
            };
            if !self.deletes[row] && !self.deletes[*known] {
                for column in 0..width {
                    if self.cells[row * width + column].is_empty() {
                        self.cells[row * width + column] =
                            self.cells[*known * width + column].clone();
                    }
                }
            }
            *known = row;
            *deleted |= self.deletes[row];
        }
        let rows = last.values();
        let deleted: Vec<usize> = rows
            .filter(|(_, deleted)| *deleted)
            .map(|(row, _)| *row)
            .collect();
        let rows = last.values().map(|(row, _)| *row);
        let kept: Vec<usize> = rows.filter(|row| !self.deletes[*row]).collect();
        let delete = self.table.delete(self.key);
        let deletes = deleted.chunks(options.batch_size);
        let mut statements: Vec<Statement> = deletes
            .map(|rows| Statement {
                sql: delete.clone(),
                body: Body::Arrays(self.arrays(self.key, rows)),
            })
            .collect();
        statements.extend(self.statements(options, &kept, self.key));
        statements
    }

    /// Adds rows, or replaces those of the same `key`; rows that set the same columns go together.
    fn statements(&self, options: &Options, rows: &[usize], key: &[usize]) -> Vec<Statement> {
        let width = self.table.columns.len();
        let mut groups: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
        for row in rows {
            let cells = &self.cells[row * width..(row + 1) * width];
            let set = |index: &usize| !cells[*index].is_empty();
            let count = cells.iter().filter(|cell| !cell.is_empty()).count();
            let same = |columns: &[usize]| columns.len() == count && columns.iter().all(set);
            match groups.iter_mut().find(|(columns, _)| same(columns)) {
                Some((_, group)) => group.push(*row),
                None => groups.push(((0..width).filter(set).collect(), vec![*row])),
            }
        }
        let mut statements = Vec::new();
        for (columns, rows) in groups {
            if let Some(sql) = self.table.copy(&columns).filter(|_| key.is_empty()) {
                let body = Body::Copy(self.copy(&columns, &rows));
                statements.push(Statement { sql, body });
                continue;
            }
            for rows in rows.chunks(options.batch_size) {
                statements.push(Statement {
                    sql: self.table.insert(&columns, key),
                    body: Body::Arrays(self.arrays(&columns, rows)),
                });
            }
        }
        statements
    }

    fn cell(&self, row: usize, column: usize) -> &[u8] {
        &self.bytes[self.cells[row * self.table.columns.len() + column].clone()]
    }

    /// Signature, flags, extension; per row an i16 count and the fields; -1 ends it.
    fn copy(&self, columns: &[usize], rows: &[usize]) -> Vec<Bytes> {
        let count = i16::try_from(columns.len()).expect("Postgres has at most 1600 columns");
        let mut pieces = Vec::new();
        let mut bytes = BytesMut::with_capacity(COPY_BYTES.min(self.bytes.len()) + 4096);
        bytes.put_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        for row in rows {
            bytes.put_i16(count);
            for column in columns {
                bytes.put_slice(self.cell(*row, *column));
            }
            if bytes.len() >= COPY_BYTES {
                pieces.push(bytes.split().freeze());
                bytes.reserve(COPY_BYTES + 4096);
            }
        }
        bytes.put_i16(-1);
        pieces.push(bytes.freeze());
        pieces
    }

    /// One array per column: one dimension, may hold nulls, the element's type, length, first index
    /// 1, the elements.
    fn arrays(&self, columns: &[usize], rows: &[usize]) -> Vec<Bytes> {
        let length = i32::try_from(rows.len()).expect("batch.size is an i32");
        let array = |column: &usize| {
            let size = rows.iter().map(|row| self.cell(*row, *column).len());
            let mut bytes = BytesMut::with_capacity(20 + size.sum::<usize>());
            bytes.put_i32(1);
            bytes.put_i32(1);
            bytes.put_u32(self.table.columns[*column].encoding.element().1);
            bytes.put_i32(length);
            bytes.put_i32(1);
            for row in rows {
                bytes.put_slice(self.cell(*row, *column));
            }
            bytes.freeze()
        };
        columns.iter().map(array).collect()
    }
}

/// Fields with their names, of a struct or of a map whose keys are text; `None` for anything else.
pub(crate) fn fields(value: &Value) -> Option<Fields<'_>> {
    match value {
        Value::Struct(row) => Some(Fields::Struct(row, 0)),
        Value::Map(pairs) => {
            let named = |(key, _): &(Value, Value)| matches!(key, Value::String(_));
            pairs.iter().all(named).then(|| Fields::Map(pairs.iter()))
        }
        _ => None,
    }
}

/// See [`fields`].
pub(crate) enum Fields<'a> {
    Struct(&'a Struct, usize),
    Map(std::slice::Iter<'a, (Value, Value)>),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Fields::Struct(row, at) => {
                let field = row.schema().fields().get(*at)?;
                *at += 1;
                Some((field.name.as_bytes(), &row.values()[*at - 1]))
            }
            Fields::Map(pairs) => match pairs.next()? {
                (Value::String(name), value) => Some((&name.as_bytes()[..], value)),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
