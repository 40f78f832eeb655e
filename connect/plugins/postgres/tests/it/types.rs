//! Every type of column, by COPY and by arrays, and what each refuses.

use flumen_connect::record::{Data, SinkBatch};
use flumen_connect::value::{Decimal, Value};

use crate::harness::{self, open, values, write};
use crate::server::Server;

/// Column type, JSON value, what Postgres prints.
const GOOD: &[(&str, &str, &str)] = &[
    ("smallint", "-32768", "-32768"),
    ("integer", "5.0", "5"),
    ("bigint", "\"9007199254740993\"", "9007199254740993"),
    ("bigint", "-9223372036854775808", "-9223372036854775808"),
    ("real", "0.1", "0.1"),
    ("double precision", "1e300", "1e+300"),
    ("double precision", "\"-Infinity\"", "-Infinity"),
    ("numeric", "1e-7", "0.0000001"),
    ("numeric(10,2)", "12345.678", "12345.68"),
    (
        "numeric",
        "\"123456789012345678901234567890\"",
        "123456789012345678901234567890",
    ),
    ("numeric", "\"-0.00012300\"", "-0.00012300"),
    ("boolean", "true", "t"),
    ("boolean", "\"false\"", "f"),
    ("text", "\"grüße\"", "grüße"),
    ("text", "{\"a\":[1,null]}", "{\"a\":[1,null]}"),
    ("varchar(3)", "\"abc\"", "abc"),
    ("char(3)", "\"ab\"", "ab "),
    (
        "jsonb",
        "{\"b\":1,\"a\":[true,\"x\"]}",
        "{\"a\": [true, \"x\"], \"b\": 1}",
    ),
    ("json", "[1, 2]", "[1,2]"),
    ("jsonb", "\"{\\\"already\\\":1}\"", "{\"already\": 1}"),
    (
        "timestamptz",
        "\"2013-01-01T05:00:00-05:00\"",
        "2013-01-01 10:00:00+00",
    ),
    ("timestamptz", "1356998400123", "2013-01-01 00:00:00.123+00"),
    (
        "timestamp",
        "\"2013-01-01T05:00:00Z\"",
        "2013-01-01 05:00:00",
    ),
    (
        "timestamp",
        "\"1889-12-31T23:59:59.5\"",
        "1889-12-31 23:59:59.5",
    ),
    ("date", "\"2013-02-28\"", "2013-02-28"),
    ("date", "\"2013-02-28T22:00:00-05:00\"", "2013-03-01"),
    ("time", "\"23:59:59.999999\"", "23:59:59.999999"),
    ("bytea", "\"\\\\x00ff\"", "\\x00ff"),
    (
        "uuid",
        "\"F47AC10B-58CC-4372-A567-0E02B2C3D479\"",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    ),
    ("inet", "\"10.0.0.1\"", "10.0.0.1"),
    ("interval", "\"1 day 2 hours\"", "1 day 02:00:00"),
    ("mood", "\"happy\"", "happy"),
    ("even", "4", "4"),
    ("int[]", "[1,null,3]", "{1,NULL,3}"),
    (
        "text[]",
        "[\"a b\",\"q\\\"\\\\\",\"\"]",
        "{\"a b\",\"q\\\"\\\\\",\"\"}",
    ),
    ("int[]", "[[1,2],[3,4]]", "{{1,2},{3,4}}"),
    ("int[]", "[]", "{}"),
];

/// Column type, JSON value, words of the reason.
const BAD: &[(&str, &str, &str)] = &[
    (
        "smallint",
        "32768",
        "column c: INT64 Int64(32768) does not fit a column of type int2",
    ),
    ("integer", "1.5", "does not fit a column of type int4"),
    (
        "bigint",
        "9223372036854775808",
        "does not fit a column of type int8",
    ),
    ("real", "1e300", "does not fit a column of type float4"),
    ("numeric(4,2)", "123.4", "numeric field overflow"),
    (
        "numeric",
        "\"12,5\"",
        "does not fit a column of type numeric",
    ),
    ("boolean", "1", "does not fit a column of type bool"),
    ("text", "\"nul \\u0000\"", "invalid byte sequence"),
    ("varchar(3)", "\"abcd\"", "value too long"),
    (
        "jsonb",
        "\"not json\"",
        "invalid input syntax for type json",
    ),
    (
        "timestamptz",
        "\"2013-01-01T05:00:00\"",
        "does not fit a column of type timestamptz",
    ),
    (
        "timestamptz",
        "\"yesterday\"",
        "does not fit a column of type timestamptz",
    ),
    (
        "date",
        "\"2013-02-30\"",
        "does not fit a column of type date",
    ),
    ("bytea", "\"text\"", "does not fit a column of type bytea"),
    ("uuid", "\"123\"", "does not fit a column of type uuid"),
    (
        "inet",
        "\"300.0.0.1\"",
        "invalid input syntax for type inet",
    ),
    ("mood", "\"angry\"", "invalid input value for enum mood"),
    ("even", "3", "violates check constraint"),
    ("int NOT NULL", "null", "violates not-null constraint"),
];

async fn start() -> Option<Server> {
    let server = Server::start().await?;
    let _ = server.query("ALTER ROLE postgres SET timezone = 'UTC'; CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0)").await;
    Some(server)
}

const UPSERT: [(&str, &str); 3] = [
    ("insert.mode", "upsert"),
    ("pk.mode", "record_value"),
    ("pk.fields", "id"),
];

#[tokio::test]
async fn every_type_takes_its_values_by_copy_and_by_arrays() {
    let Some(server) = start().await else { return };
    for pairs in [&[][..], &UPSERT] {
        let columns: Vec<String> = (0..)
            .zip(GOOD)
            .map(|(at, (kind, ..))| format!("c{at} {kind}"))
            .collect();
        let _ = server
            .query("DROP TABLE IF EXISTS flights, _connect_offsets")
            .await;
        let _ = server
            .query(&format!(
                "CREATE TABLE flights (id int PRIMARY KEY, {})",
                columns.join(",")
            ))
            .await;
        let fields: Vec<String> = (0..)
            .zip(GOOD)
            .map(|(at, (_, json, _))| format!("\"c{at}\":{json}"))
            .collect();
        let full = format!("{{\"id\":1,{}}}", fields.join(","));
        let mut task = harness::task(&server.host(), pairs);
        let _ = open(&mut *task, "one", &[0]).await;
        // The columns with a binary form alone, so that COPY is used; then all; then nulls.
        let copied: Vec<&String> = fields
            .iter()
            .zip(GOOD)
            .filter(|(_, (kind, ..))| {
                !kind.contains("[]") && !["inet", "interval", "mood", "even"].contains(kind)
            })
            .map(|(field, _)| field)
            .collect();
        let copied = copied.into_iter().cloned().collect::<Vec<_>>().join(",");
        let nulls: Vec<String> = (0..GOOD.len())
            .map(|at| format!("\"c{at}\":null"))
            .collect();
        let rows = [
            full,
            format!("{{\"id\":2,{copied}}}"),
            format!("{{\"id\":3,{}}}", nulls.join(",")),
        ];
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let _ = write(&mut *task, &[values(0, &rows)]).await.unwrap();
        for (at, (kind, json, expected)) in (0..).zip(GOOD) {
            let found = server
                .query(&format!("SELECT c{at} FROM flights ORDER BY id"))
                .await;
            assert_eq!(found[0], *expected, "{kind} {json}");
            assert!(
                found[1] == *expected || found[1] == "-",
                "{kind} {json}: {}",
                found[1]
            );
            assert_eq!(found[2], "-", "{kind}");
        }
        let found = server
            .query("SELECT c0, c20 FROM flights WHERE id = 2")
            .await;
        assert_eq!(found, ["-32768|2013-01-01 10:00:00+00"]);
    }
}

#[tokio::test]
async fn every_type_refuses_what_does_not_fit_with_a_reason() {
    let Some(server) = start().await else { return };
    let mut task = harness::task(&server.host(), &[]);
    for (kind, json, words) in BAD {
        let _ = server.query("DROP TABLE IF EXISTS flights").await;
        let _ = server
            .query(&format!("CREATE TABLE flights (c {kind})"))
            .await;
        let at = open(&mut *task, "one", &[0]).await[0];
        let error = write(&mut *task, &[values(at, &[&format!("{{\"c\":{json}}}")])])
            .await
            .unwrap_err();
        let flumen_connect::error::TaskError::Records(records) = &error else {
            panic!("{kind} {json}: {error}")
        };
        assert!(
            records[0].reason.contains(words),
            "{kind} {json}: {}",
            records[0].reason
        );
    }
}

#[tokio::test]
async fn connects_own_types_keep_their_meaning() {
    let Some(server) = start().await else { return };
    let mut task = harness::task(&server.host(), &[("auto.create", "true")]);
    let _ = open(&mut *task, "one", &[0]).await;
    let decimal = Value::Decimal(Box::new(Decimal {
        unscaled: -12_345,
        scale: 3,
    }));
    let pairs = [
        ("decimal", decimal),
        ("date", Value::Date(15_706)),
        ("time", Value::Time(3_600_001)),
        ("timestamp", Value::Timestamp(1_356_998_400_123)),
        ("bytes", Value::Bytes(bytes::Bytes::from_static(&[0, 255]))),
        ("float", Value::Float32(0.5)),
        ("small", Value::Int16(-5)),
    ];
    let value = Value::Map(
        pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect(),
    );
    let mut batch: SinkBatch = values(0, &["{}"]);
    batch.records[0].value = Data::schemaless(value);
    let _ = write(&mut *task, &[batch]).await.unwrap();
    let rows = server.query("SELECT * FROM flights").await;
    assert_eq!(
        rows,
        ["-12.345|2013-01-01|01:00:00.001|2013-01-01 00:00:00.123+00|\\x00ff|0.5|-5"]
    );
    let types = server.query("SELECT string_agg(format_type(atttypid, atttypmod), ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'flights'::regclass AND attnum > 0").await;
    assert_eq!(
        types,
        ["numeric,date,time without time zone,timestamp with time zone,bytea,real,smallint"]
    );
}
