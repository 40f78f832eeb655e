//! Golden JSON of Kafka Connect's converter, both ways.

use super::*;
use crate::schema::{Kind, Schema};
use crate::value::{Decimal, Struct};
use proptest::prelude::*;

fn check(schema: Schema, value: Value, json: &str) {
    let converter = JsonConverter::new(true);
    let data = Data::with_schema(Arc::new(schema), value);
    let bytes = converter.encode("t", &data).unwrap().unwrap();
    assert_eq!(std::str::from_utf8(&bytes).unwrap(), json);
    assert_eq!(converter.decode("t", Some(&bytes)).unwrap(), data, "{json}");
}

#[test]
fn primitives_with_their_envelope_are_as_kafka_writes_them() {
    check(
        Schema::new(Kind::Boolean),
        Value::Boolean(true),
        r#"{"schema":{"type":"boolean","optional":false},"payload":true}"#,
    );
    check(
        Schema::new(Kind::Int8),
        Value::Int8(12),
        r#"{"schema":{"type":"int8","optional":false},"payload":12}"#,
    );
    check(
        Schema::new(Kind::Int64),
        Value::Int64(4_398_046_511_104),
        r#"{"schema":{"type":"int64","optional":false},"payload":4398046511104}"#,
    );
    check(
        Schema::new(Kind::Float64),
        Value::Float64(12.34),
        r#"{"schema":{"type":"double","optional":false},"payload":12.34}"#,
    );
    check(
        Schema::new(Kind::Bytes),
        Value::Bytes(Bytes::from_static(b"test-string")),
        r#"{"schema":{"type":"bytes","optional":false},"payload":"dGVzdC1zdHJpbmc="}"#,
    );
    check(
        Schema::new(Kind::String).optional(),
        Value::Null,
        r#"{"schema":{"type":"string","optional":true},"payload":null}"#,
    );
}

#[test]
fn logical_types_carry_name_version_and_parameters() {
    check(
        Schema::decimal(2),
        Value::Decimal(Box::new(Decimal {
            unscaled: 156,
            scale: 2,
        })),
        r#"{"schema":{"type":"bytes","optional":false,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2"}},"payload":"AJw="}"#,
    );
    check(
        Schema::logical(crate::schema::TIMESTAMP, Kind::Int64),
        Value::Timestamp(4_000_000_000),
        r#"{"schema":{"type":"int64","optional":false,"name":"org.apache.kafka.connect.data.Timestamp","version":1},"payload":4000000000}"#,
    );
    check(
        Schema::logical(crate::schema::DATE, Kind::Int32),
        Value::Date(10_000),
        r#"{"schema":{"type":"int32","optional":false,"name":"org.apache.kafka.connect.data.Date","version":1},"payload":10000}"#,
    );
}

#[test]
fn containers_nest_and_field_names_stand_last() {
    let int = || Arc::new(Schema::new(Kind::Int32));
    check(
        Schema::new(Kind::Array(int())),
        Value::Array(vec![Value::Int32(1), Value::Int32(2)]),
        r#"{"schema":{"type":"array","items":{"type":"int32","optional":false},"optional":false},"payload":[1,2]}"#,
    );
    check(
        Schema::new(Kind::Map(int(), int())),
        Value::Map(vec![(Value::Int32(1), Value::Int32(12))]),
        r#"{"schema":{"type":"map","keys":{"type":"int32","optional":false},"values":{"type":"int32","optional":false},"optional":false},"payload":[[1,12]]}"#,
    );
    let row = Schema::of([
        ("id", Schema::new(Kind::Int64)),
        ("note", Schema::new(Kind::String).optional()),
    ])
    .named("order");
    check(
        row.clone(),
        Value::Struct(Box::new(Struct::new(
            Arc::new(row),
            vec![Value::Int64(7), "a\"b".into()],
        ))),
        r#"{"schema":{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"},{"type":"string","optional":true,"field":"note"}],"optional":false,"name":"order"},"payload":{"id":7,"note":"a\"b"}}"#,
    );
}

#[test]
fn a_default_stands_in_for_null() {
    let json = Bytes::from_static(
        br#"{"schema":{"type":"int32","optional":true,"default":5},"payload":null}"#,
    );
    let data = JsonConverter::new(true).decode("t", Some(&json)).unwrap();
    assert_eq!(data.value, Value::Int32(5));
    let keep = make(
        &[("replace.null.with.default".to_owned(), "false".to_owned())].into(),
        false,
    )
    .unwrap();
    assert_eq!(keep.decode("t", Some(&json)).unwrap().value, Value::Null);
}

#[test]
fn plain_json_is_exact_and_text_is_a_slice() {
    let converter = JsonConverter::new(false);
    let json = Bytes::from_static(
        br#"{"a":1,"b":[0.1,18446744073709551615,null],"c":"text","d":"es\nc"}"#,
    );
    let data = converter.decode("t", Some(&json)).unwrap();
    assert_eq!(data.value.field("a"), Some(&Value::Int64(1)));
    let Some(Value::String(text)) = data.value.field("c") else {
        panic!("text")
    };
    assert!(json.as_ptr_range().contains(&text.as_bytes().as_ptr()));
    let numeric = make(
        &[
            ("schemas.enable".to_owned(), "false".to_owned()),
            ("decimal.format".to_owned(), "NUMERIC".to_owned()),
        ]
        .into(),
        false,
    )
    .unwrap();
    assert_eq!(numeric.encode("t", &data).unwrap().unwrap(), json);
    assert_eq!(converter.decode("t", None).unwrap(), Data::NULL);
    assert_eq!(converter.encode("t", &Data::NULL).unwrap(), None);
}

#[test]
fn what_does_not_fit_is_refused_with_a_reason() {
    let refused = |json: &'static str, reason: &str| {
        let error = JsonConverter::new(true)
            .decode("t", Some(&Bytes::from_static(json.as_bytes())))
            .unwrap_err();
        assert!(error.0.contains(reason), "{json}: {error}");
    };
    refused("", "no JSON");
    refused(r#"{"a":1}"#, "requires \"schema\" and \"payload\" fields");
    refused(r#"[1,2"#, "no JSON");
    refused(
        r#"{"schema":{"type":"int8"},"payload":300}"#,
        "INT64 Int64(300) is no int8",
    );
    refused(
        r#"{"schema":{"type":"int32"},"payload":null}"#,
        "Invalid null value for required INT32 field",
    );
    refused(
        r#"{"schema":{"type":"colour"},"payload":1}"#,
        "Unknown schema type: colour",
    );
    refused(
        r#"{"schema":{"type":"array"},"payload":[]}"#,
        "without items",
    );
    refused(
        r#"{"schema":{"type":"struct","fields":[{"type":"string","field":"x"}]},"payload":{"x":1}}"#,
        "field x: INT64 Int64(1) is no string",
    );
    let plain = |json: &'static [u8]| {
        JsonConverter::new(false).decode("t", Some(&Bytes::from_static(json)))
    };
    assert!(plain(b"{} x").is_err());
    assert!(plain(&[b'['; 100_000]).is_err(), "depth is bounded");
    assert!(plain(b"\"\xff\"").is_err());
}

proptest! {
    #[test]
    fn any_plain_value_comes_back(value in plain_value()) {
        let converter = JsonConverter::new(false);
        let data = Data::schemaless(value);
        match converter.encode("t", &data).unwrap() {
            None => prop_assert!(data.value.is_null()),
            Some(bytes) => prop_assert_eq!(converter.decode("t", Some(&bytes)).unwrap(), data),
        }
    }
}

fn plain_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Int64),
        any::<f64>()
            .prop_filter("finite, not an integer's spelling", |v| v.is_finite())
            .prop_map(Value::Float64),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((".*".prop_map(Value::from), inner), 0..6).prop_map(Value::Map),
        ]
    })
}
