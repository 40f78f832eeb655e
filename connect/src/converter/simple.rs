//! The converters without structure: text, bytes, one number.

use std::sync::Arc;

use bytes::Bytes;

use super::Converter;
use super::json::{DecimalFormat, write_json};
use crate::config::Props;
use crate::error::DataError;
use crate::record::Data;
use crate::value::{Text, Value};

pub(super) fn make_string(options: &Props, _is_key: bool) -> Result<Arc<dyn Converter>, String> {
    match options.get("encoding").map_or("UTF-8", String::as_str) {
        name if name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("utf8") => {
            Ok(Arc::new(StringConverter))
        }
        other => Err(format!("encoding {other} is not supported; only UTF-8 is")),
    }
}

pub(super) fn make_byte_array(
    _options: &Props,
    _is_key: bool,
) -> Result<Arc<dyn Converter>, String> {
    Ok(Arc::new(ByteArrayConverter))
}

/// Text as UTF-8.
///
/// Towards the topic every value has a text: numbers as digits, bytes as they are, structs, maps and lists as JSON (Kafka writes Java's `Struct{a=1}`).
/// Source: Kafka `StringConverter`.
#[derive(Debug, Clone, Copy)]
pub struct StringConverter;

impl Converter for StringConverter {
    fn encode(&self, _topic: &str, data: &Data) -> Result<Option<Bytes>, DataError> {
        match &data.value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.as_bytes().clone())),
            Value::Bytes(bytes) => Ok(Some(bytes.clone())),
            Value::Decimal(decimal) => Ok(Some(decimal.to_string().into())),
            other => write_json(other, None, DecimalFormat::Numeric).map(Some),
        }
    }

    fn decode(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Data, DataError> {
        let Some(bytes) = bytes else {
            return Ok(Data::NULL);
        };
        let text = Text::from_utf8(bytes.clone())
            .map_err(|_| DataError::new("not UTF-8; use ByteArrayConverter for arbitrary bytes"))?;
        Ok(Data::schemaless(Value::String(text)))
    }
}

/// Bytes as they are.
///
/// Source: Kafka `ByteArrayConverter`.
#[derive(Debug, Clone, Copy)]
pub struct ByteArrayConverter;

impl Converter for ByteArrayConverter {
    fn encode(&self, _topic: &str, data: &Data) -> Result<Option<Bytes>, DataError> {
        match &data.value {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes.clone())),
            Value::String(text) => Ok(Some(text.as_bytes().clone())),
            other => Err(DataError::new(format!(
                "ByteArrayConverter takes bytes, not {}",
                other.type_name()
            ))),
        }
    }

    fn decode(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Data, DataError> {
        Ok(bytes.map_or(Data::NULL, |bytes| {
            Data::schemaless(Value::Bytes(bytes.clone()))
        }))
    }
}

/// One number or truth value, big-endian, as Kafka's serializers write it.
///
/// Source: Kafka `NumberConverter` and its children, `BooleanConverter`.
#[derive(Debug, Clone, Copy)]
pub enum NumberConverter {
    /// One byte, 0 or 1.
    Boolean,
    /// Two bytes.
    Short,
    /// Four bytes.
    Integer,
    /// Eight bytes.
    Long,
    /// Four bytes, IEEE 754.
    Float,
    /// Eight bytes, IEEE 754.
    Double,
}

macro_rules! make_number {
    ($($name:ident => $variant:ident),*) => { $(
        pub(super) fn $name(_options: &Props, _is_key: bool) -> Result<Arc<dyn Converter>, String> {
            Ok(Arc::new(NumberConverter::$variant))
        }
    )* };
}
make_number!(make_boolean => Boolean, make_short => Short, make_integer => Integer, make_long => Long, make_float => Float, make_double => Double);

impl Converter for NumberConverter {
    fn encode(&self, _topic: &str, data: &Data) -> Result<Option<Bytes>, DataError> {
        let value = &data.value;
        if value.is_null() {
            return Ok(None);
        }
        let bytes = match self {
            NumberConverter::Boolean => match value {
                Value::Boolean(truth) => Some(Bytes::copy_from_slice(&[u8::from(*truth)])),
                _ => None,
            },
            NumberConverter::Short => value
                .as_i64()
                .and_then(|v| i16::try_from(v).ok())
                .map(|v| Bytes::copy_from_slice(&v.to_be_bytes())),
            NumberConverter::Integer => value
                .as_i64()
                .and_then(|v| i32::try_from(v).ok())
                .map(|v| Bytes::copy_from_slice(&v.to_be_bytes())),
            NumberConverter::Long => value
                .as_i64()
                .map(|v| Bytes::copy_from_slice(&v.to_be_bytes())),
            NumberConverter::Float => match value {
                Value::Float32(v) => Some(Bytes::copy_from_slice(&v.to_be_bytes())),
                _ => None,
            },
            NumberConverter::Double => value
                .as_f64()
                .map(|v| Bytes::copy_from_slice(&v.to_be_bytes())),
        };
        bytes.map(Some).ok_or_else(|| {
            DataError::new(format!(
                "{self:?} converter cannot hold {} {value:?}",
                value.type_name()
            ))
        })
    }

    fn decode(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Data, DataError> {
        let Some(bytes) = bytes else {
            return Ok(Data::NULL);
        };
        let wrong = |_| DataError::new(format!("{} bytes are no {self:?}", bytes.len()));
        let value = match self {
            NumberConverter::Boolean => match <[u8; 1]>::try_from(&bytes[..]).map_err(wrong)? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                [other] => return Err(DataError::new(format!("byte {other} is no boolean"))),
            },
            NumberConverter::Short => {
                Value::Int16(i16::from_be_bytes(bytes[..].try_into().map_err(wrong)?))
            }
            NumberConverter::Integer => {
                Value::Int32(i32::from_be_bytes(bytes[..].try_into().map_err(wrong)?))
            }
            NumberConverter::Long => {
                Value::Int64(i64::from_be_bytes(bytes[..].try_into().map_err(wrong)?))
            }
            NumberConverter::Float => {
                Value::Float32(f32::from_be_bytes(bytes[..].try_into().map_err(wrong)?))
            }
            NumberConverter::Double => {
                Value::Float64(f64::from_be_bytes(bytes[..].try_into().map_err(wrong)?))
            }
        };
        Ok(Data::schemaless(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_passes_without_a_copy_and_other_values_have_a_text() {
        let line = Bytes::from_static("naïve".as_bytes());
        let data = StringConverter.decode("t", Some(&line)).unwrap();
        let back = StringConverter.encode("t", &data).unwrap().unwrap();
        assert_eq!(back.as_ptr(), line.as_ptr());
        let text = |value| {
            StringConverter
                .encode("t", &Data::schemaless(value))
                .unwrap()
        };
        assert_eq!(text(Value::Null), None);
        assert_eq!(text(Value::Int64(-3)).unwrap(), "-3");
        assert_eq!(text(Value::Boolean(true)).unwrap(), "true");
        assert_eq!(
            text(Value::Map(vec![("a".into(), Value::Float64(0.5))])).unwrap(),
            r#"{"a":0.5}"#
        );
        assert!(
            StringConverter
                .decode("t", Some(&Bytes::from_static(&[0xff])))
                .is_err()
        );
    }

    #[test]
    fn numbers_are_big_endian_and_of_one_width() {
        let data = NumberConverter::Long
            .decode("t", Some(&Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 0])))
            .unwrap();
        assert_eq!(data.value, Value::Int64(256));
        assert!(
            NumberConverter::Integer
                .decode("t", Some(&Bytes::from_static(&[0; 8])))
                .is_err()
        );
        assert!(
            NumberConverter::Short
                .encode("t", &Data::schemaless(Value::Int64(40_000)))
                .is_err()
        );
        assert_eq!(
            NumberConverter::Double
                .encode("t", &Data::schemaless(Value::Int32(1)))
                .unwrap()
                .unwrap()[..2],
            [0x3f, 0xf0]
        );
    }
}
