//! Rows, net effects and statements.

use super::*;
use crate::encode::Encoding;
use crate::options::tests::options;
use crate::table::Column;
use flumen_connect::record::Data;
use proptest::prelude::*;

/// A record whose value has these fields.
pub(crate) fn record(key: Value, fields: &[(&str, Value)]) -> SinkRecord {
    let pairs = fields.iter();
    let value = pairs.map(|(name, value)| ((*name).into(), value.clone()));
    SinkRecord {
        offset: 0,
        timestamp: 0,
        key: Data::schemaless(key),
        value: Data::schemaless(Value::Map(value.collect())),
        headers: Vec::new(),
    }
}

fn tombstone(key: i64) -> SinkRecord {
    SinkRecord {
        value: Data::NULL,
        ..record(Value::Int64(key), &[])
    }
}

fn table() -> Table {
    let column = |name: &str, encoding, sql_type: &str| Column {
        name: name.to_owned(),
        encoding,
        sql_type: sql_type.to_owned(),
    };
    Table {
        name: "\"t\"".to_owned(),
        columns: vec![
            column("id", Encoding::Int2, "smallint"),
            column("a", Encoding::Int2, "smallint"),
            column("b", Encoding::Int2, "smallint"),
        ],
    }
}

const BY_KEY: [(&str, &str); 4] = [
    ("insert.mode", "upsert"),
    ("pk.mode", "record_key"),
    ("pk.fields", "id"),
    ("delete.enabled", "true"),
];

fn planned(options: &Options, records: &[SinkRecord]) -> Result<Vec<Statement>, Refused> {
    plan(options, &table(), records.iter().enumerate())
}

/// Numbers of the first parameter's array, and so on: `[[1, 2], [null, 5]]`.
fn numbers(statement: &Statement) -> Vec<Vec<Option<i16>>> {
    let Body::Arrays(arrays) = &statement.body else {
        panic!("no arrays")
    };
    let array = |bytes: &Bytes| {
        let (mut rest, mut found) = (&bytes[20..], Vec::new());
        while !rest.is_empty() {
            let null = rest[..4] == *NULL;
            found.push((!null).then(|| i16::from_be_bytes([rest[4], rest[5]])));
            rest = &rest[if null { 4 } else { 6 }..];
        }
        found
    };
    arrays.iter().map(array).collect()
}

#[test]
fn inserts_are_copied_and_rows_of_one_shape_go_together() {
    let records = [
        record(Value::Null, &[("id", Value::Int64(1)), ("a", Value::Null)]),
        record(Value::Null, &[("b", Value::Int64(2))]),
        record(
            Value::Null,
            &[("a", Value::Int64(3)), ("id", Value::Int64(4))],
        ),
    ];
    let statements = planned(&options(&[]), &records).unwrap();
    assert_eq!(
        statements[0].sql,
        "COPY \"t\" (\"id\",\"a\") FROM STDIN BINARY"
    );
    assert_eq!(statements[1].sql, "COPY \"t\" (\"b\") FROM STDIN BINARY");
    let mut expected = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    expected.extend(b"\0\x02\0\0\0\x02\0\x01\xff\xff\xff\xff");
    expected.extend(b"\0\x02\0\0\0\x02\0\x04\0\0\0\x02\0\x03\xff\xff");
    assert_eq!(statements[0].body, Body::Copy(vec![expected.into()]));
}

#[test]
fn the_net_effect_of_a_key_merges_fields_and_forgets_before_a_tombstone() {
    let number = Value::Int64;
    let records = [
        record(number(2), &[("a", number(20))]),
        record(number(1), &[("a", number(10)), ("b", number(11))]),
        record(number(2), &[("b", number(21))]),
        record(number(1), &[("a", number(12))]),
        tombstone(3),
        record(number(4), &[("a", number(40))]),
        tombstone(4),
        record(number(4), &[("b", number(41))]),
        record(number(5), &[("b", number(51))]),
        tombstone(5),
    ];
    let statements = planned(&options(&BY_KEY), &records).unwrap();
    let numbers: Vec<_> = statements.iter().map(numbers).collect();
    let some = |numbers: &[i16]| numbers.iter().copied().map(Some).collect::<Vec<_>>();
    assert!(statements[0].sql.starts_with("DELETE FROM"));
    assert_eq!(numbers[0], [some(&[3, 4, 5])]);
    assert_eq!(
        numbers[1],
        [some(&[1, 2]), some(&[12, 20]), some(&[11, 21])]
    );
    assert_eq!(numbers[2], [some(&[4]), some(&[41])]);
    assert_eq!(statements.len(), 3);
}

#[test]
fn statements_hold_at_most_a_batch() {
    let mut pairs = BY_KEY.to_vec();
    pairs.push(("batch.size", "2"));
    let records: Vec<SinkRecord> = (0..5)
        .map(|id| record(Value::Int64(id), &[("a", Value::Int64(id))]))
        .collect();
    let statements = planned(&options(&pairs), &records).unwrap();
    let sizes: Vec<usize> = statements
        .iter()
        .map(|statement| numbers(statement)[0].len())
        .collect();
    assert_eq!(sizes, [2, 2, 1]);
}

#[test]
fn what_does_not_fit_is_refused_with_its_column() {
    let refused = |pairs: &[(&str, &str)], record: SinkRecord| {
        let good = super::tests::record(
            Value::Int64(1),
            &[("id", Value::Int64(1)), ("a", Value::Int64(1))],
        );
        let refused = planned(&options(pairs), &[good, record]).unwrap_err();
        assert_eq!(refused.records[0].0, 1);
        (refused.records[0].1.clone(), refused.unknown_field)
    };
    let int = Value::Int64;
    let colour = record(int(1), &[("a", int(1)), ("colour", Value::Null)]);
    assert_eq!(
        refused(&[], colour.clone()),
        ("table \"t\" has no column colour".to_owned(), true)
    );
    let big = record(int(1), &[("a", int(70_000))]);
    let why = "column a: INT64 Int64(70000) does not fit a column of type int2";
    assert_eq!(refused(&[], big), (why.to_owned(), false));
    let tombstone = super::tests::tombstone(1);
    assert!(refused(&[], tombstone).0.contains("delete.enabled"));
    let nothing = record(int(1), &[]);
    assert!(
        refused(&[], nothing)
            .0
            .contains("no field that is a column")
    );
    let line = SinkRecord {
        value: Data::schemaless("text".into()),
        ..record(int(1), &[])
    };
    assert_eq!(
        refused(&[], line).0,
        "the value is STRING, not a struct or an object with named fields"
    );
    let no_key = record(Value::Null, &[("a", int(1))]);
    assert_eq!(
        refused(&BY_KEY, no_key.clone()).0,
        "the key is NULL and cannot be the columns id"
    );
    let by_value = [("pk.mode", "record_value"), ("pk.fields", "id")];
    assert_eq!(
        refused(&by_value, no_key).0,
        "the primary key column id has no value"
    );
    let ignored = planned(&options(&[("unknown.fields", "ignore")]), &[colour]).unwrap();
    assert_eq!(ignored[0].sql, "COPY \"t\" (\"a\") FROM STDIN BINARY");
}

#[test]
fn the_key_of_the_record_goes_before_a_field_of_that_name() {
    let both = record(
        Value::Int64(7),
        &[("id", Value::Int64(8)), ("a", Value::Int64(1))],
    );
    let statements = planned(&options(&BY_KEY), &[both]).unwrap();
    assert_eq!(numbers(&statements[0])[0], [Some(7)]);
}

proptest! {
    /// Whatever comes: applying the statements equals applying the records one by one.
    #[test]
    fn a_batch_equals_its_records_one_by_one(steps in proptest::collection::vec((0..4_i64, 0..4_u8, any::<i8>()), 0..40)) {
        let mut records = Vec::new();
        let mut expected: BTreeMap<i16, [Option<i16>; 2]> = BTreeMap::new();
        for (id, kind, number) in steps {
            let (value, key) = (Value::Int64(number.into()), i16::try_from(id).unwrap());
            let fields: &[&str] = [&["a"][..], &["b"], &["a", "b"], &[]][usize::from(kind)];
            if fields.is_empty() {
                let _ = expected.remove(&key);
                records.push(tombstone(id));
                continue;
            }
            for field in fields {
                expected.entry(key).or_default()[usize::from(*field == "b")] = Some(number.into());
            }
            let fields: Vec<(&str, Value)> = fields.iter().map(|name| (*name, value.clone())).collect();
            records.push(record(Value::Int64(id), &fields));
        }
        let mut actual: BTreeMap<i16, [Option<i16>; 2]> = BTreeMap::new();
        for statement in planned(&options(&BY_KEY), &records).unwrap() {
            let numbers = numbers(&statement);
            for (row, id) in numbers[0].iter().flatten().enumerate() {
                if statement.sql.starts_with("DELETE") {
                    let _ = actual.remove(id);
                    continue;
                }
                let columns = statement.sql.split(['(', ')']).nth(1).unwrap().split(',');
                for (column, values) in columns.zip(&numbers).skip(1) {
                    actual.entry(*id).or_default()[usize::from(column == "\"b\"")] = values[row];
                }
            }
        }
        prop_assert_eq!(actual, expected);
    }
}
