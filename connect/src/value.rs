//! Values between a connector and a converter: Kafka Connect's types, held so that bytes are not copied.
//!
//! Owns [`Value`] and its parts ([`Text`], [`Decimal`], [`Struct`]). Plugins make and read them, converters turn them
//! into bytes. It never knows a wire format: JSON is in `converter/json.rs`.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::schema::{Kind, Schema};

/// One value of Connect's type system.
///
/// Sixteen shapes: the eight primitives, text and bytes as slices of the buffer they were read from, Kafka's four logical
/// types, and three containers. [`Value::Null`] stands for an absent value of any type.
/// Source: Kafka `ConnectSchema.SCHEMA_TYPE_CLASSES`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// No value: a null field, a tombstone, an empty key.
    #[default]
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// 8 bits, signed.
    Int8(i8),
    /// 16 bits, signed.
    Int16(i16),
    /// 32 bits, signed.
    Int32(i32),
    /// 64 bits, signed.
    Int64(i64),
    /// IEEE 754 single.
    Float32(f32),
    /// IEEE 754 double.
    Float64(f64),
    /// UTF-8 text.
    String(Text),
    /// Raw bytes.
    Bytes(Bytes),
    /// `org.apache.kafka.connect.data.Decimal`: unscaled integer and scale.
    Decimal(Box<Decimal>),
    /// `org.apache.kafka.connect.data.Date`: days since 1970-01-01.
    Date(i32),
    /// `org.apache.kafka.connect.data.Time`: milliseconds since midnight.
    Time(i32),
    /// `org.apache.kafka.connect.data.Timestamp`: milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
    /// Values of one type.
    Array(Vec<Value>),
    /// Pairs in the order they were read; a schemaless JSON object is one with text keys.
    Map(Vec<(Value, Value)>),
    /// Fields by a schema.
    Struct(Box<Struct>),
}

impl Value {
    /// Whether this is [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The field `name` of a struct, or of a map with text keys (the last one, should JSON repeat it); `None` when there is none of that name.
    ///
    /// ```
    /// use flumen_connect::value::Value;
    /// let order = Value::Map(vec![("id".into(), Value::Int64(7)), ("note".into(), Value::Null)]);
    /// assert_eq!(order.field("id"), Some(&Value::Int64(7)));
    /// assert_eq!(order.field("note"), Some(&Value::Null));
    /// assert_eq!(order.field("missing"), None);
    /// ```
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct(row) => row.get(name),
            Value::Map(pairs) => pairs.iter().rev().find_map(|(key, value)| match key {
                Value::String(text) if text.as_bytes().as_ref() == name.as_bytes() => Some(value),
                _ => None,
            }),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The integer, whatever its width; logical dates and times count as theirs.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::Int8(v) => Some(i64::from(v)),
            Value::Int16(v) => Some(i64::from(v)),
            Value::Int32(v) | Value::Date(v) | Value::Time(v) => Some(i64::from(v)),
            Value::Int64(v) | Value::Timestamp(v) => Some(v),
            _ => None,
        }
    }

    /// The number as a double: floats and integers of any width.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Float32(v) => Some(f64::from(*v)),
            Value::Float64(v) => Some(*v),
            other => other.as_i64().map(|v| v as f64),
        }
    }

    /// The name of the type in Kafka's words, for messages: `INT32`, `STRING`, `MAP`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Boolean(_) => "BOOLEAN",
            Value::Int8(_) => "INT8",
            Value::Int16(_) => "INT16",
            Value::Int32(_) => "INT32",
            Value::Int64(_) => "INT64",
            Value::Float32(_) => "FLOAT32",
            Value::Float64(_) => "FLOAT64",
            Value::String(_) => "STRING",
            Value::Bytes(_) => "BYTES",
            Value::Decimal(_) => "DECIMAL",
            Value::Date(_) => "DATE",
            Value::Time(_) => "TIME",
            Value::Timestamp(_) => "TIMESTAMP",
            Value::Array(_) => "ARRAY",
            Value::Map(_) => "MAP",
            Value::Struct(_) => "STRUCT",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(Text::from(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(Text::from(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int64(number)
    }
}

/// UTF-8 text that is a slice of somebody's buffer: cloning counts a reference, it does not copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Bytes);

impl Text {
    /// Takes `bytes` as text.
    ///
    /// # Errors
    /// Gives the bytes back when they are not UTF-8: keep them as [`Value::Bytes`] or refuse the record.
    pub fn from_utf8(bytes: Bytes) -> Result<Text, Bytes> {
        if std::str::from_utf8(&bytes).is_ok() {
            Ok(Text(bytes))
        } else {
            Err(bytes)
        }
    }

    /// The part of `whole` that `part` borrows from it, without a copy.
    ///
    /// # Panics
    /// When `part` does not lie inside `whole`.
    pub fn slice_of(whole: &Bytes, part: &str) -> Text {
        if part.is_empty() {
            Text::default()
        } else {
            Text(whole.slice_ref(part.as_bytes()))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when the text was made")
    }

    /// The bytes of the text, without a check.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(Bytes::from(text))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An exact decimal number: `unscaled × 10^-scale`.
///
/// 128 bits hold 38 digits, Postgres' and most databases' practical limit; a longer one is refused by the converter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// The digits as one integer.
    pub unscaled: i128,
    /// How many of them stand behind the point.
    pub scale: i32,
}

impl Decimal {
    /// Reads big-endian two's complement, as Kafka writes `BigInteger.toByteArray()`; `None` beyond 128 bits.
    pub fn from_be_bytes(bytes: &[u8], scale: i32) -> Option<Decimal> {
        let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
        let fill = if negative { 0xff } else { 0 };
        let skip = bytes
            .iter()
            .take(bytes.len().saturating_sub(16))
            .take_while(|b| **b == fill)
            .count();
        let rest = &bytes[skip..];
        if rest.len() > 16 {
            return None;
        }
        let mut whole = [fill; 16];
        whole[16 - rest.len()..].copy_from_slice(rest);
        let unscaled = i128::from_be_bytes(whole);
        ((unscaled < 0) == negative).then_some(Decimal { unscaled, scale })
    }

    /// The shortest big-endian two's complement form, as `BigInteger.toByteArray()`.
    pub fn to_be_bytes(self) -> Vec<u8> {
        let whole = self.unscaled.to_be_bytes();
        let fill = if self.unscaled < 0 { 0xff } else { 0 };
        let mut start = 0;
        while start < 15 && whole[start] == fill && (whole[start + 1] & 0x80) == (fill & 0x80) {
            start += 1;
        }
        whole[start..].to_vec()
    }

    /// Reads `-12.50`; `None` for anything else, and beyond 38 digits.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut unscaled: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            if !digit.is_ascii_digit() {
                return None;
            }
            unscaled = unscaled
                .checked_mul(10)?
                .checked_add(i128::from(digit - b'0'))?;
        }
        Some(Decimal {
            unscaled: sign * unscaled,
            scale: i32::try_from(fraction.len()).ok()?,
        })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.unscaled.unsigned_abs().to_string();
        if self.unscaled < 0 {
            f.write_str("-")?;
        }
        let scale = usize::try_from(self.scale).unwrap_or(0);
        if scale == 0 {
            f.write_str(&digits)?;
            return (0..self.scale.unsigned_abs()).try_for_each(|_| f.write_str("0"));
        }
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{whole}.{fraction}")
    }
}

/// Values by the fields of a schema of kind struct, in the schema's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Struct {
    schema: Arc<Schema>,
    values: Vec<Value>,
}

impl Struct {
    /// Values in the order of the schema's fields.
    ///
    /// # Panics
    /// When `schema` is no struct or the counts differ: both come from the same plugin or converter.
    pub fn new(schema: Arc<Schema>, values: Vec<Value>) -> Struct {
        assert_eq!(
            schema.fields().len(),
            values.len(),
            "one value per field of {:?}",
            schema.name
        );
        Struct { schema, values }
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The values, one per field.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value of the field `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let Kind::Struct(fields) = &self.schema.kind else {
            return None;
        };
        fields
            .iter()
            .position(|field| &*field.name == name)
            .map(|index| &self.values[index])
    }

    /// Field names with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.schema
            .fields()
            .iter()
            .map(|field| &*field.name)
            .zip(&self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit_in_kafkas_bytes() {
        for (text, hex) in [
            ("0", vec![0]),
            ("1.28", vec![0, 0x80]),
            ("-1.28", vec![0x80]),
            ("-1.29", vec![0xff, 0x7f]),
        ] {
            let decimal = Decimal::parse(text).unwrap();
            assert_eq!(decimal.to_be_bytes(), hex, "{text}");
            assert_eq!(Decimal::from_be_bytes(&hex, decimal.scale), Some(decimal));
            assert_eq!(decimal.to_string(), text);
        }
        assert_eq!(
            Decimal {
                unscaled: -5,
                scale: 3
            }
            .to_string(),
            "-0.005"
        );
        assert_eq!(
            Decimal {
                unscaled: 12,
                scale: -2
            }
            .to_string(),
            "1200"
        );
        assert_eq!(Decimal::from_be_bytes(&[1; 17], 0), None);
        assert_eq!(Decimal::parse("1.2.3"), None);
        assert_eq!(Decimal::parse("-"), None);
    }

    #[test]
    fn text_is_a_slice_and_refuses_what_is_not_utf8() {
        let whole = Bytes::from_static("grüße".as_bytes());
        let text = Text::slice_of(&whole, std::str::from_utf8(&whole[2..6]).unwrap());
        assert_eq!(text.as_str(), "üß");
        assert_eq!(text.as_bytes().as_ptr(), whole[2..].as_ptr());
        assert!(Text::from_utf8(whole.slice(0..3)).is_err());
    }
}
