//! Names, rows and statements.

use super::*;
use flumen_connect::record::Data;

fn options(pairs: &[(&str, &str)]) -> Options {
    let mut props: flumen_connect::config::Props =
        [("connection.url".to_owned(), "postgres://x".to_owned())].into();
    props.extend(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    Options::new(&crate::options::config_def().settings(&props).unwrap())
}

fn record(key: Value, fields: &[(&str, Value)]) -> SinkRecord {
    let value = Value::Map(
        fields
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()))
            .collect(),
    );
    SinkRecord {
        offset: 0,
        timestamp: 0,
        key: Data::schemaless(key),
        value: Data::schemaless(value),
        headers: Vec::new(),
    }
}

fn table() -> Table {
    let column = |name: &str, encoding, sql_type: &str| Column {
        name: name.to_owned(),
        encoding,
        sql_type: sql_type.to_owned(),
    };
    Table {
        name: table_name("${topic}", "o\"x"),
        columns: vec![
            column("id", Encoding::Int8, "bigint"),
            column("at", Encoding::TimestampTz, "timestamptz"),
            column("net", Encoding::Other, "inet"),
        ],
    }
}

#[test]
fn statements_quote_cast_and_update_all_but_the_key() {
    let table = table();
    assert_eq!(
        table.copy(&[0, 1]).unwrap(),
        "COPY \"o\"\"x\" (\"id\",\"at\") FROM STDIN BINARY"
    );
    assert_eq!(table.copy(&[0, 2]), None);
    assert_eq!(
        table.insert(&[0, 1, 2], &[0]),
        "INSERT INTO \"o\"\"x\" (\"id\",\"at\",\"net\") SELECT u.c0,u.c1,u.c2::inet FROM unnest($1::int8[],$2::timestamptz[],$3::text[]) AS u(c0,c1,c2) \
         ON CONFLICT (\"id\") DO UPDATE SET \"at\"=EXCLUDED.\"at\",\"net\"=EXCLUDED.\"net\""
    );
    assert!(table.insert(&[0], &[0]).ends_with("DO NOTHING"));
    assert_eq!(
        table.delete(&[0]),
        "DELETE FROM \"o\"\"x\" t USING unnest($1::int8[]) AS u(c0) WHERE t.\"id\"=u.c0"
    );
    assert_eq!(table_name("sales.${topic}_x", "a.b"), "\"sales\".\"a.b_x\"");
}

#[test]
fn a_row_has_the_key_and_says_which_column_is_wrong() {
    let by_key = options(&[
        ("pk.mode", "record_key"),
        ("pk.fields", "id"),
        ("insert.mode", "upsert"),
    ]);
    let good = record(Value::Int64(7), &[("at", Value::Null)]);
    let row = table().row(&by_key, 3, &good).unwrap();
    assert_eq!(
        (row.at, row.values),
        (3, vec![Some(&Value::Int64(7)), Some(&Value::Null), None])
    );
    let wrong =
        |options: &Options, record: &SinkRecord| table().row(options, 0, record).unwrap_err();
    assert_eq!(
        wrong(&by_key, &record(Value::Null, &[])),
        "the key is NULL and cannot be the columns id"
    );
    assert_eq!(
        wrong(
            &by_key,
            &record(Value::Int64(1), &[("colour", Value::Null)])
        ),
        "table \"o\"\"x\" has no column colour"
    );
    let by_value = options(&[("pk.mode", "record_value"), ("pk.fields", "id")]);
    assert_eq!(
        wrong(&by_value, &record(Value::Null, &[("at", Value::Null)])),
        "the primary key column id has no value"
    );
    let tombstone = SinkRecord {
        value: Data::NULL,
        ..record(Value::Int64(1), &[])
    };
    assert!(wrong(&by_key, &tombstone).contains("delete.enabled"));
    let deletes = options(&[
        ("pk.mode", "record_key"),
        ("pk.fields", "id"),
        ("insert.mode", "upsert"),
        ("delete.enabled", "true"),
    ]);
    assert!(table().row(&deletes, 0, &tombstone).unwrap().delete);
}

#[test]
fn a_table_is_made_from_declared_types_schemas_or_values() {
    let by_value = options(&[
        ("pk.mode", "record_value"),
        ("pk.fields", "carrier,hour"),
        ("insert.mode", "upsert"),
        ("column.types", "hour:timestamptz"),
    ]);
    let first = record(
        Value::Null,
        &[
            ("carrier", "UA".into()),
            ("hour", "2013-01-01T10:00:00Z".into()),
            ("mean", Value::Int64(5)),
            ("max", Value::Null),
        ],
    );
    let second = record(
        Value::Null,
        &[("mean", Value::Float64(0.5)), ("carrier", "AA".into())],
    );
    assert_eq!(
        create_table(&by_value, "\"t\"", &[&first, &second]).unwrap(),
        "CREATE TABLE IF NOT EXISTS \"t\" (\"carrier\" text NOT NULL, \"hour\" timestamptz NOT NULL, \"mean\" double precision, \"max\" text, PRIMARY KEY (\"carrier\",\"hour\"))"
    );
    let schema = Schema::of([
        ("id", Schema::new(Kind::Int32)),
        ("price", Schema::decimal(2).optional()),
    ]);
    let value = Value::Struct(Box::new(flumen_connect::value::Struct::new(
        schema.clone().into(),
        vec![Value::Int32(1), Value::Null],
    )));
    let typed = SinkRecord {
        value: Data::with_schema(schema.into(), value),
        ..record(Value::Null, &[])
    };
    assert_eq!(
        create_table(&options(&[]), "\"t\"", &[&typed]).unwrap(),
        "CREATE TABLE IF NOT EXISTS \"t\" (\"id\" integer, \"price\" numeric)"
    );
    assert!(
        create_table(&by_value, "\"t\"", &[&typed])
            .unwrap_err()
            .contains("carrier")
    );
}
