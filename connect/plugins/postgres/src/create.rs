//! What a missing table should look like. Pure.
//!
//! Owns the rules of `auto.create`; `catalogue.rs` runs the statement. A column's type is, in this
//! order: the one declared in `column.types`; the one of the records' schema; the narrowest that
//! holds the values of the first batch (integers `bigint`, other numbers `double precision`, both
//! `double precision`, text `text`, lists and objects `jsonb`, anything mixed, and what is null
//! throughout, `text`). A later batch does not change it: declare what may vary.

use std::collections::BTreeMap;

use flumen_connect::record::{Data, SinkRecord};
use flumen_connect::schema::{DATE, DECIMAL, Kind, Schema, TIME, TIMESTAMP};
use flumen_connect::value::Value;

use crate::options::{Options, PkMode};
use crate::plan::fields;
use crate::table::quote;

/// Columns in the order they were met, each with its type if there was anything to tell it.
type Columns = Vec<(String, Option<&'static str>)>;

/// `CREATE TABLE` for records like these. Key columns come first, are NOT NULL and the primary key.
///
/// # Errors
/// A sentence: no record has a field, or a key column does not occur.
pub(crate) fn create_table<'a>(
    options: &Options,
    name: &str,
    records: impl IntoIterator<Item = &'a SinkRecord>,
) -> Result<String, String> {
    let mut columns = Columns::new();
    for record in records {
        if options.pk_mode == PkMode::RecordKey {
            add_key(options, &record.key, &mut columns);
        }
        add_fields(&record.value, |_| true, &mut columns);
    }
    for (name, _) in &options.column_types {
        if !columns.is_empty() && !columns.iter().any(|(known, _)| known == name) {
            columns.push((name.clone(), None));
        }
    }
    if columns.is_empty() {
        return Err(format!(
            "no record tells which columns table {name} should have"
        ));
    }
    let is_key = |name: &String| options.pk_fields.contains(name);
    let known = |key: &&String| columns.iter().any(|(name, _)| name == *key);
    if let Some(missing) = options.pk_fields.iter().find(|key| !known(key)) {
        return Err(format!(
            "the primary key column {missing} does not occur in the records for table {name}"
        ));
    }
    columns.sort_by_key(|(name, _)| !is_key(name));
    let declared: BTreeMap<&str, &str> = options
        .column_types
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.as_str()))
        .collect();
    let column = |(name, found): &(String, Option<&'static str>)| {
        let kind = declared.get(name.as_str()).copied().or(*found);
        let required = if is_key(name) { " NOT NULL" } else { "" };
        format!("{} {}{required}", quote(name), kind.unwrap_or("text"))
    };
    let mut parts: Vec<String> = columns.iter().map(column).collect();
    if !options.pk_fields.is_empty() {
        let key: Vec<String> = options.pk_fields.iter().map(|name| quote(name)).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(",")));
    }
    Ok(format!(
        "CREATE TABLE IF NOT EXISTS {name} ({})",
        parts.join(", ")
    ))
}

/// The columns of the primary key, where it is the record's key.
fn add_key(options: &Options, key: &Data, columns: &mut Columns) {
    match options.pk_fields.as_slice() {
        [name] if fields(&key.value).is_none() => {
            let found = match &key.schema {
                Some(schema) => Some(of_schema(schema)),
                None => of_value(&key.value),
            };
            add(columns, name, found);
        }
        names => add_fields(key, |name| names.iter().any(|known| known == name), columns),
    }
}

fn add_fields(data: &Data, wanted: impl Fn(&str) -> bool, columns: &mut Columns) {
    let declared = data.schema.as_deref().map_or(&[][..], Schema::fields);
    for field in declared.iter().filter(|field| wanted(&field.name)) {
        add(columns, &field.name, Some(of_schema(&field.schema)));
    }
    if !declared.is_empty() {
        return;
    }
    for (name, value) in fields(&data.value).into_iter().flatten() {
        let name = String::from_utf8_lossy(name);
        if wanted(&name) {
            add(columns, &name, of_value(value));
        }
    }
}

fn add(columns: &mut Columns, name: &str, found: Option<&'static str>) {
    match columns.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = widest(*known, found),
        None => columns.push((name.to_owned(), found)),
    }
}

fn of_schema(schema: &Schema) -> &'static str {
    match (schema.name.as_deref(), &schema.kind) {
        (Some(DECIMAL), _) => "numeric",
        (Some(DATE), _) => "date",
        (Some(TIME), _) => "time",
        (Some(TIMESTAMP), _) => "timestamptz",
        (_, Kind::Int8 | Kind::Int16) => "smallint",
        (_, Kind::Int32) => "integer",
        (_, Kind::Int64) => "bigint",
        (_, Kind::Float32) => "real",
        (_, Kind::Float64) => "double precision",
        (_, Kind::Boolean) => "boolean",
        (_, Kind::String) => "text",
        (_, Kind::Bytes) => "bytea",
        (_, Kind::Array(_) | Kind::Map(..) | Kind::Struct(_)) => "jsonb",
    }
}

fn of_value(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(_) => "boolean",
        Value::Int8(_) | Value::Int16(_) => "smallint",
        Value::Int32(_) => "integer",
        Value::Int64(_) => "bigint",
        Value::Float32(_) => "real",
        Value::Float64(_) => "double precision",
        Value::String(_) => "text",
        Value::Bytes(_) => "bytea",
        Value::Decimal(_) => "numeric",
        Value::Date(_) => "date",
        Value::Time(_) => "time",
        Value::Timestamp(_) => "timestamptz",
        Value::Array(_) | Value::Map(_) | Value::Struct(_) => "jsonb",
    })
}

/// The type that holds both.
fn widest(known: Option<&'static str>, found: Option<&'static str>) -> Option<&'static str> {
    const NUMBERS: [&str; 6] = [
        "smallint",
        "integer",
        "bigint",
        "real",
        "double precision",
        "numeric",
    ];
    let (Some(known), Some(found)) = (known, found) else {
        return known.or(found);
    };
    let rank = |kind: &str| NUMBERS.iter().position(|number| *number == kind);
    Some(match (rank(known), rank(found)) {
        _ if known == found => known,
        (Some(a), Some(b)) if a.max(b) == 3 => "double precision",
        (Some(a), Some(b)) => NUMBERS[a.max(b)],
        _ => "text",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;
    use crate::plan::tests::record;

    fn created(pairs: &[(&str, &str)], records: &[SinkRecord]) -> Result<String, String> {
        create_table(&options(pairs), "\"t\"", records)
    }

    #[test]
    fn declared_types_come_before_those_of_the_values() {
        let pairs = [
            ("insert.mode", "upsert"),
            ("pk.mode", "record_value"),
            ("pk.fields", "carrier,hour"),
            ("column.types", "hour:timestamptz,later:numeric(10,2)"),
        ];
        let first = record(
            Value::Null,
            &[
                ("mean", Value::Int64(5)),
                ("hour", "2013-01-01T10:00:00Z".into()),
                ("carrier", "UA".into()),
                ("max", Value::Null),
            ],
        );
        let second = record(
            Value::Null,
            &[
                ("mean", Value::Float64(0.5)),
                ("tags", Value::Array(vec![])),
            ],
        );
        assert_eq!(
            created(&pairs, &[first, second]).unwrap(),
            "CREATE TABLE IF NOT EXISTS \"t\" (\"hour\" timestamptz NOT NULL, \"carrier\" text NOT NULL, \
             \"mean\" double precision, \"max\" text, \"tags\" jsonb, \"later\" numeric(10,2), \
             PRIMARY KEY (\"carrier\",\"hour\"))"
        );
        let other = record(Value::Null, &[("x", Value::Null)]);
        assert_eq!(
            created(&pairs, &[other]).unwrap_err(),
            "the primary key column carrier does not occur in the records for table \"t\""
        );
    }

    #[test]
    fn a_schema_tells_every_column_even_of_nulls() {
        let schema = Schema::of([
            ("id", Schema::new(Kind::Int32)),
            ("price", Schema::decimal(2).optional()),
            ("at", Schema::logical(TIMESTAMP, Kind::Int64).optional()),
        ]);
        let values = vec![Value::Int32(1), Value::Null, Value::Null];
        let value = flumen_connect::value::Struct::new(schema.clone().into(), values);
        let typed = SinkRecord {
            value: Data::with_schema(schema.into(), Value::Struct(Box::new(value))),
            ..record(Value::Null, &[])
        };
        assert_eq!(
            created(&[], &[typed]).unwrap(),
            "CREATE TABLE IF NOT EXISTS \"t\" (\"id\" integer, \"price\" numeric, \"at\" timestamptz)"
        );
    }

    #[test]
    fn the_records_key_is_a_column_or_some() {
        let single = [("pk.mode", "record_key"), ("pk.fields", "id")];
        let one = record(Value::Int64(7), &[("a", true_value())]);
        assert_eq!(
            created(&single, &[one]).unwrap(),
            "CREATE TABLE IF NOT EXISTS \"t\" (\"id\" bigint NOT NULL, \"a\" boolean, PRIMARY KEY (\"id\"))"
        );
        let key = Value::Map(vec![
            ("id".into(), "x".into()),
            ("other".into(), Value::Int64(1)),
        ]);
        assert_eq!(
            created(&single, &[record(key, &[])]).unwrap(),
            "CREATE TABLE IF NOT EXISTS \"t\" (\"id\" text NOT NULL, PRIMARY KEY (\"id\"))"
        );
        assert!(
            created(&[], &[record(Value::Null, &[])])
                .unwrap_err()
                .contains("which columns")
        );
    }

    fn true_value() -> Value {
        Value::Boolean(true)
    }

    #[test]
    fn numbers_widen_and_anything_else_becomes_text() {
        let wide = |a: &'static str, b: &'static str| widest(Some(a), Some(b)).unwrap();
        assert_eq!(wide("smallint", "bigint"), "bigint");
        assert_eq!(wide("bigint", "double precision"), "double precision");
        assert_eq!(wide("real", "integer"), "double precision");
        assert_eq!(wide("double precision", "numeric"), "numeric");
        assert_eq!(wide("bigint", "text"), "text");
        assert_eq!(wide("jsonb", "boolean"), "text");
        assert_eq!(widest(None, Some("date")), Some("date"));
    }
}
