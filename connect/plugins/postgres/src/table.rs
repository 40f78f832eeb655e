//! The shape of a table, the rows of records for it, and the statements. Pure.
//!
//! Owns naming, quoting, DDL and the choice of columns; `writer.rs` runs the statements. Values are borrowed from the records.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use flumen_connect::record::SinkRecord;
use flumen_connect::schema::{DATE, DECIMAL, Kind, Schema, TIME, TIMESTAMP};
use flumen_connect::value::Value;

use crate::encode::Encoding;
use crate::options::{Options, PkMode};

/// A column as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) encoding: Encoding,
    /// The type as SQL says it, with its modifier: `numeric(10,2)`.
    pub(crate) sql_type: String,
}

/// A table as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Quoted, with its schema if one was configured.
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

/// Quotes one identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `sales.${topic}` → `"sales"."orders"`.
pub(crate) fn table_name(format: &str, topic: &str) -> String {
    format
        .split('.')
        .map(|part| quote(&part.replace("${topic}", topic)))
        .collect::<Vec<_>>()
        .join(".")
}

/// One record as a row: a value per column of the table, `None` where the record says nothing of it.
#[derive(Debug, Clone)]
pub(crate) struct Row<'a> {
    /// Index of the record among those that are written.
    pub(crate) at: usize,
    pub(crate) values: Vec<Option<&'a Value>>,
    /// The record deletes the row of its key.
    pub(crate) delete: bool,
}

/// Fields of a value with their names.
fn fields(value: &Value) -> Option<Vec<(&str, &Value)>> {
    match value {
        Value::Struct(row) => Some(row.iter().collect()),
        Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| Some((key.as_str()?, value)))
            .collect(),
        _ => None,
    }
}

/// The named values of a record: of its key, as far as it is the primary key, then of its value.
///
/// # Errors
/// A sentence: the record has no fields.
pub(crate) fn named<'a>(
    options: &'a Options,
    record: &'a SinkRecord,
) -> Result<Vec<(&'a str, &'a Value)>, String> {
    let mut named = Vec::new();
    if options.pk_mode == PkMode::RecordKey {
        match (fields(&record.key.value), options.pk_fields.as_slice()) {
            (Some(fields), []) => named.extend(fields),
            (Some(fields), wanted) => named.extend(
                fields
                    .into_iter()
                    .filter(|(name, _)| wanted.iter().any(|want| want == name)),
            ),
            (None, [name]) if !record.key.value.is_null() => {
                named.push((name.as_str(), &record.key.value))
            }
            (None, _) => {
                return Err(format!(
                    "the key is {} and cannot be the columns {}",
                    record.key.value.type_name(),
                    options.pk_fields.join(", ")
                ));
            }
        }
    }
    if record.value.value.is_null() {
        return if options.delete_enabled {
            Ok(named)
        } else {
            Err("the value is null; delete.enabled would delete the row".to_owned())
        };
    }
    let value = fields(&record.value.value);
    let value = value.ok_or_else(|| {
        format!(
            "the value is {}, not a struct or an object with named fields",
            record.value.value.type_name()
        )
    })?;
    for (name, value) in value {
        if !named.iter().any(|(known, _)| *known == name) {
            named.push((name, value));
        }
    }
    Ok(named)
}

impl Table {
    /// The row of a record.
    ///
    /// # Errors
    /// A sentence naming the column that is missing here or in the record.
    pub(crate) fn row<'a>(
        &self,
        options: &'a Options,
        at: usize,
        record: &'a SinkRecord,
    ) -> Result<Row<'a>, String> {
        let mut values = vec![None; self.columns.len()];
        for (name, value) in named(options, record)? {
            let index = self.columns.iter().position(|column| column.name == name);
            let index = index.ok_or_else(|| format!("table {} has no column {name}", self.name))?;
            values[index] = Some(value);
        }
        for key in &options.pk_fields {
            let index = self.columns.iter().position(|column| column.name == *key);
            if index.is_none_or(|index| values[index].is_none_or(Value::is_null)) {
                return Err(format!("the primary key column {key} has no value"));
            }
        }
        Ok(Row {
            at,
            values,
            delete: record.value.value.is_null(),
        })
    }

    /// Indexes of the primary key's columns.
    pub(crate) fn key_columns(&self, options: &Options) -> Vec<usize> {
        let index = |key: &String| self.columns.iter().position(|column| column.name == *key);
        options.pk_fields.iter().filter_map(index).collect()
    }

    /// `COPY … FROM STDIN BINARY` for these columns; `None` where one of them has no binary form here.
    pub(crate) fn copy(&self, columns: &[usize]) -> Option<String> {
        if columns
            .iter()
            .any(|index| self.columns[*index].encoding == Encoding::Other)
        {
            return None;
        }
        Some(format!(
            "COPY {} ({}) FROM STDIN BINARY",
            self.name,
            self.names(columns)
        ))
    }

    /// `INSERT … SELECT … FROM unnest($1, $2 …)`, with `ON CONFLICT` where there is a key.
    pub(crate) fn insert(&self, columns: &[usize], key: &[usize]) -> String {
        let mut sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {}",
            self.name,
            self.names(columns),
            self.casts(columns),
            self.unnest(columns)
        );
        if !key.is_empty() {
            let others: Vec<String> = columns
                .iter()
                .filter(|index| !key.contains(index))
                .map(|index| quote(&self.columns[*index].name))
                .collect();
            let sets: Vec<String> = others
                .iter()
                .map(|name| format!("{name}=EXCLUDED.{name}"))
                .collect();
            let action = if sets.is_empty() {
                "NOTHING".to_owned()
            } else {
                format!("UPDATE SET {}", sets.join(","))
            };
            let _ = write!(sql, " ON CONFLICT ({}) DO {action}", self.names(key));
        }
        sql
    }

    /// `DELETE … USING unnest($1 …)` by key.
    pub(crate) fn delete(&self, key: &[usize]) -> String {
        let on: Vec<String> = key
            .iter()
            .enumerate()
            .map(|(at, index)| {
                format!(
                    "t.{}=u.c{at}{}",
                    quote(&self.columns[*index].name),
                    self.cast(*index)
                )
            })
            .collect();
        format!(
            "DELETE FROM {} t USING {} WHERE {}",
            self.name,
            self.unnest(key),
            on.join(" AND ")
        )
    }

    fn names(&self, columns: &[usize]) -> String {
        columns
            .iter()
            .map(|index| quote(&self.columns[*index].name))
            .collect::<Vec<_>>()
            .join(",")
    }

    fn casts(&self, columns: &[usize]) -> String {
        columns
            .iter()
            .enumerate()
            .map(|(at, index)| format!("u.c{at}{}", self.cast(*index)))
            .collect::<Vec<_>>()
            .join(",")
    }

    fn cast(&self, index: usize) -> String {
        let column = &self.columns[index];
        if column.encoding == Encoding::Other {
            format!("::{}", column.sql_type)
        } else {
            String::new()
        }
    }

    fn unnest(&self, columns: &[usize]) -> String {
        let arrays: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, index)| {
                format!(
                    "${}::{}[]",
                    at + 1,
                    self.columns[*index].encoding.element().0
                )
            })
            .collect();
        let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
        format!("unnest({}) AS u({})", arrays.join(","), names.join(","))
    }
}

/// `CREATE TABLE` for records like these.
///
/// A column's type is the declared one (`column.types`), else the schema's, else the narrowest that holds the values. Keys are NOT NULL and the primary key.
/// # Errors
/// A sentence: no record has a field, or a key column does not occur.
pub(crate) fn create_table(
    options: &Options,
    name: &str,
    records: &[&SinkRecord],
) -> Result<String, String> {
    let mut columns: Vec<(String, Option<&'static str>)> = Vec::new();
    for record in records {
        let Ok(named) = named(options, record) else {
            continue;
        };
        let schemas = [record.key.schema.as_deref(), record.value.schema.as_deref()];
        for (field, value) in named {
            let declared = schemas
                .iter()
                .flatten()
                .flat_map(|schema| schema.fields())
                .find(|known| &*known.name == field);
            let found = match declared {
                Some(field) => Some(type_of_schema(&field.schema)),
                None => type_of_value(value),
            };
            match columns.iter_mut().find(|(known, _)| known == field) {
                Some((_, known)) => *known = widest(*known, found),
                None => columns.push((field.to_owned(), found)),
            }
        }
    }
    if columns.is_empty() {
        return Err(format!(
            "no record tells which columns table {name} should have"
        ));
    }
    if let Some(missing) = options
        .pk_fields
        .iter()
        .find(|key| !columns.iter().any(|(name, _)| name == *key))
    {
        return Err(format!(
            "the primary key column {missing} does not occur in the records for table {name}"
        ));
    }
    let declared: BTreeMap<&str, &str> = options
        .column_types
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.as_str()))
        .collect();
    let mut parts: Vec<String> = columns
        .iter()
        .map(|(name, kind)| {
            let kind = declared
                .get(name.as_str())
                .copied()
                .or(*kind)
                .unwrap_or("text");
            let required = if options.pk_fields.contains(name) {
                " NOT NULL"
            } else {
                ""
            };
            format!("{} {kind}{required}", quote(name))
        })
        .collect();
    if !options.pk_fields.is_empty() {
        parts.push(format!(
            "PRIMARY KEY ({})",
            options
                .pk_fields
                .iter()
                .map(|key| quote(key))
                .collect::<Vec<_>>()
                .join(",")
        ));
    }
    Ok(format!(
        "CREATE TABLE IF NOT EXISTS {name} ({})",
        parts.join(", ")
    ))
}

fn type_of_schema(schema: &Schema) -> &'static str {
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

fn type_of_value(value: &Value) -> Option<&'static str> {
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

fn widest(known: Option<&'static str>, found: Option<&'static str>) -> Option<&'static str> {
    match (known, found) {
        (known, None) => known,
        (None, found) => found,
        (Some(known), Some(found)) if known == found => Some(known),
        (Some("bigint"), Some("double precision")) | (Some("double precision"), Some("bigint")) => {
            Some("double precision")
        }
        _ => Some("text"),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
