//! Values in Postgres' binary format. Pure.
//!
//! Owns which value fits which column and the bytes of each; `plan.rs` calls it. `COPY … BINARY`
//! and array parameters use the same bytes per element: an i32 length (-1 is null) and the value.
//!
//! The column's type decides. What does not fit is an error that names the value; nothing is cut:
//!
//! | column | takes |
//! |---|---|
//! | smallint, integer, bigint | integers and whole floats in range, text that is an integer |
//! | real, double precision | numbers in range (real: the nearest one), text that is a number, `NaN`, `Infinity` |
//! | numeric | numbers, text that is a number; Postgres rounds to the column's scale |
//! | boolean | booleans, text `true` and `false` |
//! | text, varchar, char | text as it is, every other value as JSON writes it |
//! | json, jsonb | structs, maps, lists, numbers, booleans; text is taken to *be* JSON |
//! | timestamptz | RFC 3339 text with its offset, Connect timestamps, integers as ms since 1970 |
//! | timestamp | the same, as UTC; also text without an offset |
//! | date, time | ISO 8601 text, Connect dates and times; for a date also RFC 3339, its day in UTC |
//! | bytea | bytes, text in Postgres' hex form `\x…` |
//! | uuid | text |
//! | an array | lists of scalars |
//! | anything else | its text, which Postgres reads |

use bytes::{BufMut, BytesMut};
use flumen_connect::converter::{Converter, JsonConverter};
use flumen_connect::record::Data;
use flumen_connect::value::Value;
use jiff::civil;

use crate::numeric::put_numeric;

/// Milliseconds and days from 1970 to 2000, where Postgres' clock begins.
const EPOCH_MS: i64 = 946_684_800_000;
const EPOCH_DAYS: i32 = 10_957;

/// How a column's values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Text,
    Json,
    Jsonb,
    Bytea,
    Numeric,
    TimestampTz,
    Timestamp,
    Date,
    Time,
    Uuid,
    /// An array of any type: its text in Postgres' braces, and Postgres casts it.
    Array,
    /// Any other type: its text, and Postgres casts it.
    Other,
}

impl Encoding {
    /// By the type's oid (`pg_type.dat`, stable since ever) and whether it is an array.
    pub(crate) fn of(oid: u32, array: bool) -> Encoding {
        match oid {
            16 => Encoding::Bool,
            17 => Encoding::Bytea,
            20 => Encoding::Int8,
            21 => Encoding::Int2,
            23 => Encoding::Int4,
            25 | 1042 | 1043 => Encoding::Text,
            114 => Encoding::Json,
            3802 => Encoding::Jsonb,
            700 => Encoding::Float4,
            701 => Encoding::Float8,
            1082 => Encoding::Date,
            1083 => Encoding::Time,
            1114 => Encoding::Timestamp,
            1184 => Encoding::TimestampTz,
            1700 => Encoding::Numeric,
            2950 => Encoding::Uuid,
            _ if array => Encoding::Array,
            _ => Encoding::Other,
        }
    }

    /// Whether Postgres must be asked to cast: there is no binary form of the column's type here.
    pub(crate) fn needs_cast(self) -> bool {
        matches!(self, Encoding::Array | Encoding::Other)
    }

    /// Name and oid of the type that array parameters have.
    pub(crate) fn element(self) -> (&'static str, u32) {
        match self {
            Encoding::Bool => ("bool", 16),
            Encoding::Int2 => ("int2", 21),
            Encoding::Int4 => ("int4", 23),
            Encoding::Int8 => ("int8", 20),
            Encoding::Float4 => ("float4", 700),
            Encoding::Float8 => ("float8", 701),
            Encoding::Text | Encoding::Array | Encoding::Other => ("text", 25),
            Encoding::Json => ("json", 114),
            Encoding::Jsonb => ("jsonb", 3802),
            Encoding::Bytea => ("bytea", 17),
            Encoding::Numeric => ("numeric", 1700),
            Encoding::TimestampTz => ("timestamptz", 1184),
            Encoding::Timestamp => ("timestamp", 1114),
            Encoding::Date => ("date", 1082),
            Encoding::Time => ("time", 1083),
            Encoding::Uuid => ("uuid", 2950),
        }
    }

    /// Appends length and bytes of `value`.
    ///
    /// # Errors
    /// A sentence; what was appended before it must be dropped.
    pub(crate) fn put(self, value: &Value, out: &mut BytesMut) -> Result<(), String> {
        if value.is_null() {
            out.put_i32(-1);
            return Ok(());
        }
        let at = out.len();
        out.put_i32(0);
        self.put_value(value, out).ok_or_else(|| {
            format!(
                "{} does not fit a column of type {}",
                shown(value),
                self.element().0
            )
        })?;
        let len = i32::try_from(out.len() - at - 4)
            .map_err(|_| "a value of more than 2 GiB".to_owned())?;
        out[at..at + 4].copy_from_slice(&len.to_be_bytes());
        Ok(())
    }

    fn put_value(self, value: &Value, out: &mut BytesMut) -> Option<()> {
        match self {
            Encoding::Bool => out.put_u8(u8::from(boolean(value)?)),
            Encoding::Int2 => out.put_i16(integer(value)?.try_into().ok()?),
            Encoding::Int4 => out.put_i32(integer(value)?.try_into().ok()?),
            Encoding::Int8 => out.put_i64(integer(value)?),
            Encoding::Float4 => out.put_f32(single(float(value)?)?),
            Encoding::Float8 => out.put_f64(float(value)?),
            Encoding::Text | Encoding::Other => return put_text(value, out),
            Encoding::Array => return put_array(value, out),
            Encoding::Json => return put_json(value, out),
            Encoding::Jsonb => {
                out.put_u8(1);
                return put_json(value, out);
            }
            Encoding::Bytea => match value {
                Value::Bytes(bytes) => out.put_slice(bytes),
                other => out.put_slice(&hex(other.as_str()?.strip_prefix("\\x")?)?),
            },
            Encoding::Numeric => return put_numeric(value, out),
            Encoding::TimestampTz => out.put_i64(instant_micros(value)?),
            Encoding::Timestamp => {
                out.put_i64(instant_micros(value).or_else(|| civil_micros(value))?);
            }
            Encoding::Date => out.put_i32(days(value)?.checked_sub(EPOCH_DAYS)?),
            Encoding::Time => out.put_i64(time_micros(value)?),
            Encoding::Uuid => out.put_slice(&uuid(value.as_str()?)?),
        }
        Some(())
    }
}

/// The value in an error: short, and never a page of data.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("{:?}", text.as_str()),
        other => format!("{other:?}"),
    };
    let short: String = text.chars().take(60).collect();
    format!(
        "{} {short}{}",
        value.type_name(),
        if short.len() < text.len() { "…" } else { "" }
    )
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(v) => Some(*v),
        Value::String(text) => text.as_str().parse().ok(),
        _ => None,
    }
}

/// Integers, and floats without a fraction: JSON has one kind of number.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(_) | Value::Date(_) | Value::Time(_) => None,
        Value::Float32(_) | Value::Float64(_) => {
            let v = value.as_f64()?;
            // 2^53: beyond it a float does not say which integer is meant.
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            (v.fract() == 0.0 && v.abs() <= 9_007_199_254_740_992.0).then_some(v as i64)
        }
        Value::Decimal(decimal) if decimal.scale == 0 => decimal.unscaled.try_into().ok(),
        Value::String(text) => text.as_str().parse().ok(),
        other => other.as_i64(),
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            number => number.parse().ok().filter(|v: &f64| v.is_finite()),
        },
        Value::Decimal(decimal) => decimal.to_string().parse().ok(),
        Value::Timestamp(_) | Value::Date(_) | Value::Time(_) => None,
        other => other.as_f64(),
    }
}

/// The nearest single; none where that would be infinite or nothing, as Postgres refuses it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the nearest single is the column's value; what overflows is refused"
)]
fn single(v: f64) -> Option<f32> {
    let single = v as f32;
    let fits = single.is_finite() == v.is_finite() && (single == 0.0) == (v == 0.0);
    (fits || v.is_nan()).then_some(single)
}

fn put_text(value: &Value, out: &mut BytesMut) -> Option<()> {
    match value {
        Value::String(text) => out.put_slice(text.as_bytes()),
        Value::Boolean(v) => out.put_slice(if *v { b"true" } else { b"false" }),
        Value::Decimal(decimal) => out.put_slice(decimal.to_string().as_bytes()),
        Value::Timestamp(ms) => out.put_slice(
            jiff::Timestamp::from_millisecond(*ms)
                .ok()?
                .to_string()
                .as_bytes(),
        ),
        Value::Date(_) | Value::Time(_) | Value::Bytes(_) => return None,
        other => return put_json(other, out),
    }
    Some(())
}

/// Structs, maps, lists and scalars as JSON; text is taken to *be* JSON, as Debezium writes it.
fn put_json(value: &Value, out: &mut BytesMut) -> Option<()> {
    if let Value::String(text) = value {
        out.put_slice(text.as_bytes());
        return Some(());
    }
    let json = JsonConverter::new(false)
        .encode("", &Data::schemaless(value.clone()))
        .ok()??;
    out.put_slice(&json);
    Some(())
}

/// A list as Postgres writes one: `{1,NULL,"a \"b\""}`; lists of lists have more braces.
fn put_array(value: &Value, out: &mut BytesMut) -> Option<()> {
    let Value::Array(elements) = value else {
        return matches!(value, Value::String(_)).then(|| put_text(value, out))?;
    };
    for (at, element) in elements.iter().enumerate() {
        out.put_u8(if at == 0 { b'{' } else { b',' });
        match element {
            Value::Null => out.put_slice(b"NULL"),
            Value::Array(_) => put_array(element, out)?,
            _ => {
                let mut text = BytesMut::new();
                put_text(element, &mut text)?;
                out.put_u8(b'"');
                for byte in text {
                    if matches!(byte, b'"' | b'\\') {
                        out.put_u8(b'\\');
                    }
                    out.put_u8(byte);
                }
                out.put_u8(b'"');
            }
        }
    }
    out.put_slice(if elements.is_empty() { b"{}" } else { b"}" });
    Some(())
}

fn instant_micros(value: &Value) -> Option<i64> {
    let millis = match value {
        Value::Timestamp(ms) | Value::Int64(ms) => *ms,
        Value::Date(days) => i64::from(*days) * 86_400_000,
        Value::String(text) => {
            let micros = text
                .as_str()
                .parse::<jiff::Timestamp>()
                .ok()?
                .as_microsecond();
            return micros.checked_sub(EPOCH_MS * 1000);
        }
        _ => return None,
    };
    millis.checked_sub(EPOCH_MS)?.checked_mul(1000)
}

/// A wall clock without a zone: `2013-01-01T10:00:00`.
fn civil_micros(value: &Value) -> Option<i64> {
    let time: civil::DateTime = value.as_str()?.parse().ok()?;
    let micros = time
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?
        .timestamp()
        .as_microsecond();
    micros.checked_sub(EPOCH_MS * 1000)
}

fn days(value: &Value) -> Option<i32> {
    const DAY_MS: i64 = 86_400_000;
    match value {
        Value::Date(days) => Some(*days),
        Value::Timestamp(ms) => ms.div_euclid(DAY_MS).try_into().ok(),
        Value::String(text) => {
            let text = text.as_str();
            let ms = match text.parse::<jiff::Timestamp>() {
                Ok(instant) => instant.as_millisecond(),
                Err(_) => {
                    let date: civil::Date = text.parse().ok()?;
                    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
                    midnight.timestamp().as_millisecond()
                }
            };
            ms.div_euclid(DAY_MS).try_into().ok()
        }
        _ => None,
    }
}

fn time_micros(value: &Value) -> Option<i64> {
    match value {
        Value::Time(ms) => Some(i64::from(*ms) * 1000),
        Value::String(text) => {
            let time: civil::Time = text.as_str().parse().ok()?;
            let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60
                + i64::from(time.second());
            Some(seconds * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1000)
        }
        _ => None,
    }
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    hex(&digits)?.try_into().ok()
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => {
            let digit = |c: u8| char::from(c).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        }
        _ => None,
    };
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(encoding: Encoding, value: impl Into<Value>) -> Vec<u8> {
        let mut out = BytesMut::new();
        encoding.put(&value.into(), &mut out).unwrap();
        out.to_vec()
    }

    fn refused(encoding: Encoding, value: impl Into<Value>) -> String {
        encoding
            .put(&value.into(), &mut BytesMut::new())
            .unwrap_err()
    }

    #[test]
    fn what_does_not_fit_is_refused_and_named() {
        assert_eq!(
            refused(Encoding::Int2, Value::Int64(40_000)),
            "INT64 Int64(40000) does not fit a column of type int2"
        );
        assert_eq!(
            refused(Encoding::Int8, Value::Float64(1.5)),
            "FLOAT64 Float64(1.5) does not fit a column of type int8"
        );
        assert_eq!(
            refused(Encoding::TimestampTz, "2013-01-01T10:00:00"),
            "STRING \"2013-01-01T10:00:00\" does not fit a column of type timestamptz"
        );
        let _ = refused(Encoding::Int8, Value::Float64(1e18));
        let _ = refused(Encoding::Bool, Value::Int64(1));
        let _ = refused(Encoding::Uuid, "123");
        let _ = refused(Encoding::Bytea, "text");
        assert!(refused(Encoding::Int4, "x".repeat(500)).len() < 130);
    }

    #[test]
    fn numbers_and_times_have_postgres_bytes() {
        assert_eq!(
            bytes(Encoding::Int4, Value::Float64(5.0)),
            [0, 0, 0, 4, 0, 0, 0, 5]
        );
        assert_eq!(bytes(Encoding::Bool, Value::Null), [0xff; 4]);
        assert_eq!(
            bytes(Encoding::TimestampTz, "2000-01-01T00:00:01Z")[4..],
            1_000_000_i64.to_be_bytes()
        );
        assert_eq!(
            bytes(Encoding::TimestampTz, Value::Timestamp(EPOCH_MS)),
            bytes(Encoding::TimestampTz, "2000-01-01T01:00:00+01:00")
        );
        assert_eq!(
            bytes(Encoding::Timestamp, "1999-12-31T23:59:59")[4..],
            (-1_000_000_i64).to_be_bytes()
        );
        assert_eq!(
            bytes(Encoding::Date, "2000-01-02")[4..],
            1_i32.to_be_bytes()
        );
        assert_eq!(
            bytes(Encoding::Date, Value::Date(EPOCH_DAYS)),
            bytes(Encoding::Date, "2000-01-01")
        );
        assert_eq!(
            bytes(Encoding::Time, "00:00:01.5")[4..],
            1_500_000_i64.to_be_bytes()
        );
        assert_eq!(
            bytes(Encoding::Jsonb, Value::Array(vec![Value::Int64(1)]))[4..],
            *b"\x01[1]"
        );
    }
}
