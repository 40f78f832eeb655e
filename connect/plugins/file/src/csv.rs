//! CSV rows as structs: header, column types, fields. Pure.
//!
//! Owns [`Table`]: the columns of one file. `source.rs` makes it from the header (and a sample, where types are inferred) and asks it for every row.

use std::sync::Arc;

use bytes::Bytes;
use flumen_connect::schema::{Field, Kind, Schema, TIMESTAMP};
use flumen_connect::value::{Struct, Text, Value};

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Int64,
    Int32,
    Float64,
    Boolean,
    String,
    /// RFC 3339 with a zone, or milliseconds since 1970.
    Timestamp,
}

impl ColumnType {
    const ALL: [(ColumnType, &'static str); 6] = [
        (ColumnType::Int64, "int64"),
        (ColumnType::Int32, "int32"),
        (ColumnType::Float64, "float64"),
        (ColumnType::Boolean, "boolean"),
        (ColumnType::String, "string"),
        (ColumnType::Timestamp, "timestamp"),
    ];

    fn name(self) -> &'static str {
        ColumnType::ALL
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("string", |(_, name)| name)
    }

    fn schema(self) -> Schema {
        match self {
            ColumnType::Int64 => Schema::new(Kind::Int64),
            ColumnType::Int32 => Schema::new(Kind::Int32),
            ColumnType::Float64 => Schema::new(Kind::Float64),
            ColumnType::Boolean => Schema::new(Kind::Boolean),
            ColumnType::String => Schema::new(Kind::String),
            ColumnType::Timestamp => Schema::logical(TIMESTAMP, Kind::Int64),
        }
    }

    fn parse(self, text: &str) -> Option<Value> {
        match self {
            ColumnType::Int64 => text.parse().ok().map(Value::Int64),
            ColumnType::Int32 => text.parse().ok().map(Value::Int32),
            ColumnType::Float64 => text.parse().ok().map(Value::Float64),
            ColumnType::Boolean if text.eq_ignore_ascii_case("true") => Some(Value::Boolean(true)),
            ColumnType::Boolean if text.eq_ignore_ascii_case("false") => {
                Some(Value::Boolean(false))
            }
            ColumnType::Boolean | ColumnType::String => None,
            ColumnType::Timestamp => parse_timestamp(text).map(Value::Timestamp),
        }
    }
}

/// Milliseconds since 1970 of `2013-01-01T10:00:00Z`, or of such a number in digits.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    match text.parse() {
        Ok(millis) => Some(millis),
        Err(_) => text
            .parse::<jiff::Timestamp>()
            .ok()
            .map(|time| time.as_millisecond()),
    }
}

/// How a file is written.
#[derive(Debug, Clone)]
pub(crate) struct Dialect {
    /// Between two fields.
    pub(crate) delimiter: u8,
    /// Unquoted spellings of "no value", besides the empty field.
    pub(crate) nulls: Vec<String>,
    /// Whether an empty unquoted field of a text column is null too.
    pub(crate) empty_is_null: bool,
}

/// A field as it stands in a row: its text, and whether it was quoted (then it is never null).
struct RawField {
    text: Bytes,
    quoted: bool,
}

impl Dialect {
    /// The fields of one record.
    fn split(&self, record: &Bytes) -> Result<Vec<RawField>, String> {
        let mut fields = Vec::new();
        let mut at = 0;
        loop {
            let quoted = record.get(at) == Some(&b'"');
            let (text, end) = if quoted {
                unquote(record, at)?
            } else {
                self.plain(record, at)
            };
            fields.push(RawField { text, quoted });
            match record.get(end) {
                None => return Ok(fields),
                Some(byte) if *byte == self.delimiter => at = end + 1,
                Some(_) => {
                    return Err(format!(
                        "field {}: text behind the closing quote",
                        fields.len()
                    ));
                }
            }
        }
    }

    fn plain(&self, record: &Bytes, start: usize) -> (Bytes, usize) {
        let end =
            memchr::memchr(self.delimiter, &record[start..]).map_or(record.len(), |at| start + at);
        (record.slice(start..end), end)
    }

    fn is_null(&self, field: &RawField, kind: ColumnType) -> bool {
        if field.quoted {
            return false;
        }
        if field.text.is_empty() {
            return self.empty_is_null || kind != ColumnType::String;
        }
        self.nulls
            .iter()
            .any(|null| null.as_bytes() == &field.text[..])
    }
}

/// The text of the quoted field that opens at `start`, and the place behind its closing quote.
fn unquote(record: &Bytes, start: usize) -> Result<(Bytes, usize), String> {
    let mut doubled = false;
    let mut at = start + 1;
    while let Some(quote) = memchr::memchr(b'"', &record[at..]).map(|found| at + found) {
        if record.get(quote + 1) != Some(&b'"') {
            let text = record.slice(start + 1..quote);
            let text = if doubled {
                Bytes::from(String::from_utf8_lossy(&text).replace("\"\"", "\""))
            } else {
                text
            };
            return Ok((text, quote + 1));
        }
        doubled = true;
        at = quote + 2;
    }
    Err("a quote is never closed".to_owned())
}

/// The columns of a file.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    dialect: Dialect,
    columns: Vec<(Arc<str>, ColumnType)>,
    schema: Arc<Schema>,
}

impl Table {
    /// The names of the header row.
    ///
    /// # Errors
    /// A sentence: not UTF-8, a name is empty or stands twice.
    pub(crate) fn header(dialect: &Dialect, record: &Bytes) -> Result<Vec<String>, String> {
        let record = record
            .strip_prefix(b"\xef\xbb\xbf")
            .map_or_else(|| record.clone(), |rest| record.slice_ref(rest));
        let mut names: Vec<String> = Vec::new();
        for field in dialect.split(&record)? {
            let name = std::str::from_utf8(&field.text)
                .map_err(|_| "the header is not UTF-8".to_owned())?
                .trim();
            if name.is_empty() || names.iter().any(|known| known == name) {
                return Err(format!(
                    "column {} of the header is {}",
                    names.len() + 1,
                    if name.is_empty() {
                        "empty".to_owned()
                    } else {
                        format!("{name} again")
                    }
                ));
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    /// Columns of the declared types; what is not declared is text.
    ///
    /// # Errors
    /// A sentence: an unknown type, a declared column that the header does not have.
    pub(crate) fn declared(
        dialect: Dialect,
        names: &[String],
        declared: &str,
    ) -> Result<Table, String> {
        let mut types = vec![ColumnType::String; names.len()];
        for (name, kind) in declared_columns(declared)? {
            let index = names.iter().position(|known| *known == name);
            let index = index.ok_or_else(|| {
                format!(
                    "column {name} is declared, the header has only {}",
                    names.join(", ")
                )
            })?;
            types[index] = kind;
        }
        Ok(Table::new(dialect, names, &types))
    }

    /// Columns of the narrowest types that hold all of `sample`: int64, float64, else text. Without a value: text.
    pub(crate) fn inferred<'a>(
        dialect: Dialect,
        names: &[String],
        sample: impl Iterator<Item = &'a Bytes>,
    ) -> Table {
        let mut types: Vec<Option<ColumnType>> = vec![None; names.len()];
        for fields in sample
            .filter_map(|row| dialect.split(row).ok())
            .filter(|fields| fields.len() == names.len())
        {
            for (kind, field) in types.iter_mut().zip(&fields) {
                if !dialect.is_null(field, kind.unwrap_or(ColumnType::Int64)) {
                    *kind = Some(widen(*kind, &field.text));
                }
            }
        }
        let types: Vec<ColumnType> = types
            .into_iter()
            .map(|kind| kind.unwrap_or(ColumnType::String))
            .collect();
        Table::new(dialect, names, &types)
    }

    fn new(dialect: Dialect, names: &[String], types: &[ColumnType]) -> Table {
        let columns: Vec<(Arc<str>, ColumnType)> = names
            .iter()
            .map(|name| Arc::from(name.as_str()))
            .zip(types.iter().copied())
            .collect();
        let fields = columns.iter().map(|(name, kind)| Field {
            name: Arc::clone(name),
            schema: Arc::new(kind.schema().optional()),
        });
        let schema = Arc::new(Schema::new(Kind::Struct(fields.collect())));
        Table {
            dialect,
            columns,
            schema,
        }
    }

    /// The types, as [`declared`](Self::declared) reads them.
    pub(crate) fn types(&self) -> String {
        let columns = self
            .columns
            .iter()
            .filter(|(_, kind)| *kind != ColumnType::String);
        columns
            .map(|(name, kind)| format!("{name}:{}", kind.name()))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The schema of the rows: every column optional.
    pub(crate) fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Index of a column.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(known, _)| &**known == name)
    }

    /// The values of one record, text as slices of it.
    ///
    /// # Errors
    /// A sentence naming the column and its value.
    pub(crate) fn row(&self, record: &Bytes) -> Result<Struct, String> {
        let fields = self.dialect.split(record)?;
        if fields.len() != self.columns.len() {
            return Err(format!(
                "{} fields where the header has {}",
                fields.len(),
                self.columns.len()
            ));
        }
        let values = self
            .columns
            .iter()
            .zip(fields)
            .map(|((name, kind), field)| self.value(name, *kind, field));
        Ok(Struct::new(
            Arc::clone(&self.schema),
            values.collect::<Result<_, _>>()?,
        ))
    }

    fn value(&self, name: &str, kind: ColumnType, field: RawField) -> Result<Value, String> {
        if self.dialect.is_null(&field, kind) {
            return Ok(Value::Null);
        }
        let text = Text::from_utf8(field.text).map_err(|_| format!("column {name}: not UTF-8"))?;
        if kind == ColumnType::String {
            return Ok(Value::String(text));
        }
        kind.parse(text.trim())
            .ok_or_else(|| format!("column {name}: {:?} is no {}", text.as_str(), kind.name()))
    }
}

/// Reads `year:int64,dep_delay:float64`.
///
/// # Errors
/// A sentence naming the part that is wrong.
pub(crate) fn declared_columns(declared: &str) -> Result<Vec<(String, ColumnType)>, String> {
    let parts = declared
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let parts = parts.map(|part| {
        let (name, kind) = part
            .rsplit_once(':')
            .ok_or_else(|| format!("{part} is not <column>:<type>"))?;
        let kind = ColumnType::ALL
            .iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(kind.trim()));
        let (kind, _) = kind.ok_or_else(|| {
            format!("{part}: the types are int32, int64, float64, boolean, string, timestamp")
        })?;
        Ok((name.trim().to_owned(), *kind))
    });
    parts.collect()
}

fn widen(kind: Option<ColumnType>, field: &[u8]) -> ColumnType {
    let text = std::str::from_utf8(field).unwrap_or("x").trim();
    match kind {
        None | Some(ColumnType::Int64) if is_integer(text) => ColumnType::Int64,
        None | Some(ColumnType::Int64 | ColumnType::Float64) if is_number(text) => {
            ColumnType::Float64
        }
        _ => ColumnType::String,
    }
}

/// Digits that an integer keeps: no leading zeros, as in a postcode.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (digits == "0" || !digits.starts_with('0'))
        && text.parse::<i64>().is_ok()
        && !text.starts_with('+')
}

/// A plain decimal number: `1E5` may as well be a tail number, `inf` a name.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    plain && !padded && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect() -> Dialect {
        Dialect {
            delimiter: b',',
            nulls: vec!["NA".to_owned()],
            empty_is_null: true,
        }
    }

    fn names(header: &'static str) -> Vec<String> {
        Table::header(&dialect(), &Bytes::from_static(header.as_bytes())).unwrap()
    }

    fn row(table: &Table, record: &'static str) -> Result<Vec<Value>, String> {
        table
            .row(&Bytes::from_static(record.as_bytes()))
            .map(|row| row.values().to_vec())
    }

    #[test]
    fn types_are_the_narrowest_that_hold_the_sample() {
        let sample = ["1,1.5,x,NA,007,9E1,,-3", "NA,2,NA,NA,1,1,1.0,+3"]
            .map(|row| Bytes::from_static(row.as_bytes()));
        let table = Table::inferred(dialect(), &names("a,b,c,d,e,f,g,h"), sample.iter());
        assert_eq!(table.types(), "a:int64,b:float64,g:float64");
        assert_eq!(
            Table::declared(dialect(), &names("a,b,c,d,e,f,g,h"), &table.types())
                .unwrap()
                .types(),
            table.types()
        );
    }

    #[test]
    fn fields_are_typed_and_nulls_are_nulls() {
        let table = Table::declared(
            dialect(),
            &names("\u{feff}id,\"na me\",delay,at"),
            "id:int64,delay:float64,at:timestamp",
        )
        .unwrap();
        assert_eq!(
            row(&table, "7,\"a \"\"b\"\", c\",-1.5,2013-01-01T10:00:00Z").unwrap(),
            [
                Value::Int64(7),
                "a \"b\", c".into(),
                Value::Float64(-1.5),
                Value::Timestamp(1_357_034_400_000)
            ]
        );
        assert_eq!(
            row(&table, "NA,,,5").unwrap(),
            [Value::Null, Value::Null, Value::Null, Value::Timestamp(5)]
        );
        assert_eq!(
            row(&table, "1,\"\",NA,NA").unwrap()[1],
            Value::from(""),
            "a quoted field is never null"
        );
        assert_eq!(row(&table, "1,\"NA\",NA,NA").unwrap()[1], Value::from("NA"));
    }

    #[test]
    fn a_row_that_does_not_parse_says_which_column() {
        let table =
            Table::declared(dialect(), &names("id,delay"), "id:int64,delay:float64").unwrap();
        assert_eq!(
            row(&table, "x,1"),
            Err("column id: \"x\" is no int64".to_owned())
        );
        assert_eq!(
            row(&table, "1"),
            Err("1 fields where the header has 2".to_owned())
        );
        assert_eq!(
            row(&table, "\"1,2"),
            Err("a quote is never closed".to_owned())
        );
        assert_eq!(
            row(&table, "\"1\"x,2"),
            Err("field 1: text behind the closing quote".to_owned())
        );
        assert_eq!(
            Table::declared(dialect(), &names("id"), "ix:int64").unwrap_err(),
            "column ix is declared, the header has only id"
        );
        assert!(
            declared_columns("id:colour")
                .unwrap_err()
                .contains("the types are")
        );
        assert_eq!(
            Table::header(&dialect(), &Bytes::from_static(b"a,a")),
            Err("column 2 of the header is a again".to_owned())
        );
        let latin = Bytes::from_static(b"1,\xff");
        let text = Table::declared(dialect(), &names("id,name"), "").unwrap();
        assert_eq!(text.row(&latin).unwrap_err(), "column name: not UTF-8");
    }
}
