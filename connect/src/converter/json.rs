//! JSON, with and without Kafka Connect's schema envelope.
//!
//! Owns parsing and writing of payloads; `schema_json.rs` does the schemas. With `schemas.enable` a message is `{"schema": …, "payload": …}`, without
//! it is the payload alone. Reading is lazy about text: strings without escapes are slices of the message.

#[path = "schema_json.rs"]
mod schema_json;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use foldhash::HashMap;
use parking_lot::Mutex;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::Converter;
use crate::config::Props;
use crate::error::DataError;
use crate::record::Data;
use crate::schema::Schema;
use crate::value::{Text, Value};

/// How a decimal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalFormat {
    /// Base64 of its unscaled big-endian bytes: Kafka's default, exact everywhere.
    Base64,
    /// A JSON number.
    Numeric,
}

/// Values as JSON.
///
/// Options: `schemas.enable` (true), `schemas.cache.size` (1000), `decimal.format` (BASE64), `replace.null.with.default` (true).
/// Differs from Kafka where Kafka loses data without a word: integers beyond 64 bits stay exact (a decimal of scale 0), a number that does not fit
/// the schema's type is an error. Source: Kafka `JsonConverter`.
#[derive(Debug)]
pub struct JsonConverter {
    schemas_enable: bool,
    decimal: DecimalFormat,
    replace_null: bool,
    cache_size: usize,
    read: Mutex<HashMap<Box<str>, Arc<Schema>>>,
    written: Mutex<Vec<(Arc<Schema>, Arc<str>)>>,
}

pub(super) fn make(options: &Props, is_key: bool) -> Result<Arc<dyn Converter>, String> {
    let flag = |name: &str| match options
        .get(name)
        .map(|value| value.trim().to_ascii_lowercase())
        .as_deref()
    {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(format!(
            "Invalid value {other} for configuration {name}: Expected value to be either true or false"
        )),
    };
    let decimal = match options
        .get("decimal.format")
        .map(|value| value.to_ascii_uppercase())
        .as_deref()
    {
        None | Some("BASE64") => DecimalFormat::Base64,
        Some("NUMERIC") => DecimalFormat::Numeric,
        Some(other) => {
            return Err(format!(
                "Invalid value {other} for configuration decimal.format: String must be one of: BASE64, NUMERIC"
            ));
        }
    };
    let _ = is_key;
    let mut converter = JsonConverter::new(flag("schemas.enable")?);
    converter.decimal = decimal;
    converter.replace_null = flag("replace.null.with.default")?;
    if let Some(size) = options.get("schemas.cache.size") {
        converter.cache_size = size.trim().parse().map_err(|_| format!("Invalid value {size} for configuration schemas.cache.size: Not a number of type INT"))?;
    }
    Ok(Arc::new(converter))
}

impl JsonConverter {
    /// With the envelope or without it, everything else at its default.
    pub fn new(schemas_enable: bool) -> JsonConverter {
        JsonConverter {
            schemas_enable,
            decimal: DecimalFormat::Base64,
            replace_null: true,
            cache_size: 1000,
            read: Mutex::new(HashMap::default()),
            written: Mutex::new(Vec::new()),
        }
    }

    fn schema_of(&self, raw: &str) -> Result<Option<Arc<Schema>>, DataError> {
        if raw == "null" {
            return Ok(None);
        }
        if let Some(schema) = self.read.lock().get(raw) {
            return Ok(Some(Arc::clone(schema)));
        }
        let schema = Arc::new(schema_json::parse(raw)?);
        let mut cache = self.read.lock();
        if cache.len() >= self.cache_size {
            cache.clear();
        }
        let _ = cache.insert(raw.into(), Arc::clone(&schema));
        Ok(Some(schema))
    }

    fn json_of(&self, schema: &Arc<Schema>) -> Result<Arc<str>, DataError> {
        let mut cache = self.written.lock();
        if let Some((_, json)) = cache.iter().find(|(known, _)| Arc::ptr_eq(known, schema)) {
            return Ok(Arc::clone(json));
        }
        let json: Arc<str> = schema_json::write(schema, self.decimal)?.into();
        if cache.len() >= 16 {
            let _ = cache.remove(0);
        }
        cache.push((Arc::clone(schema), Arc::clone(&json)));
        Ok(json)
    }
}

/// The envelope, its parts unparsed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    schema: &'a RawValue,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl Converter for JsonConverter {
    fn encode(&self, _topic: &str, data: &Data) -> Result<Option<Bytes>, DataError> {
        if data.schema.is_none() && data.value.is_null() {
            return Ok(None);
        }
        if !self.schemas_enable {
            let json = Json {
                value: &data.value,
                schema: data.schema.as_deref(),
                decimal: self.decimal,
                replace_null: self.replace_null,
            };
            return json.to_bytes(Vec::with_capacity(128)).map(Some);
        }
        let schema = data
            .schema
            .as_ref()
            .map(|schema| self.json_of(schema))
            .transpose()?;
        let schema = schema.as_deref().unwrap_or("null");
        let mut out = Vec::with_capacity(schema.len() + 128);
        out.extend_from_slice(b"{\"schema\":");
        out.extend_from_slice(schema.as_bytes());
        out.extend_from_slice(b",\"payload\":");
        let json = Json {
            value: &data.value,
            schema: data.schema.as_deref(),
            decimal: self.decimal,
            replace_null: self.replace_null,
        };
        let mut out = Vec::from(json.to_bytes(out)?);
        out.push(b'}');
        Ok(Some(out.into()))
    }

    fn decode(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Data, DataError> {
        let Some(bytes) = bytes else {
            return Ok(Data::NULL);
        };
        if !self.schemas_enable {
            return Ok(Data::schemaless(parse(bytes, bytes)?));
        }
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|e| {
            if e.is_syntax() || e.is_eof() {
                DataError::new(format!("no JSON: {e}"))
            } else {
                DataError::new(NO_ENVELOPE)
            }
        })?;
        let schema = self.schema_of(envelope.schema.get())?;
        let payload = parse(bytes, envelope.payload.get().as_bytes())?;
        let value = match &schema {
            Some(schema) => schema_json::coerce(schema, payload, self.replace_null)?,
            None => payload,
        };
        Ok(Data { schema, value })
    }
}

/// Kafka's words.
const NO_ENVELOPE: &str = "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields and may not contain additional fields. \
    If you are trying to deserialize plain JSON data, set schemas.enable=false in your converter configuration.";

/// Parses `json`, which lies inside `whole`, without a schema.
///
/// Objects become maps with text keys, integers [`Value::Int64`], other numbers [`Value::Float64`].
fn parse(whole: &Bytes, json: &[u8]) -> Result<Value, DataError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Parse { whole }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    value.map_err(|e| DataError::new(format!("no JSON: {e}")))
}

#[derive(Clone, Copy)]
struct Parse<'a> {
    whole: &'a Bytes,
}

impl<'de> DeserializeSeed<'de> for Parse<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Parse<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Boolean(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int64(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(match i64::try_from(v) {
            Ok(v) => Value::Int64(v),
            Err(_) => Value::Decimal(Box::new(crate::value::Decimal {
                unscaled: i128::from(v),
                scale: 0,
            })),
        })
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float64(v))
    }
    fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Value, E> {
        Ok(Value::String(Text::slice_of(self.whole, v)))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::with_capacity(8);
        while let Some(key) = map.next_key_seed(self)? {
            pairs.push((key, map.next_value_seed(self)?));
        }
        Ok(Value::Map(pairs))
    }
}

/// `value` as JSON text; `schema` gives defaults for nulls.
pub(super) fn write_json(
    value: &Value,
    schema: Option<&Schema>,
    decimal: DecimalFormat,
) -> Result<Bytes, DataError> {
    Json {
        value,
        schema,
        decimal,
        replace_null: true,
    }
    .to_bytes(Vec::new())
}

/// A value on its way to JSON.
#[derive(Clone, Copy)]
struct Json<'a> {
    value: &'a Value,
    schema: Option<&'a Schema>,
    decimal: DecimalFormat,
    replace_null: bool,
}

impl<'a> Json<'a> {
    fn to_bytes(self, mut out: Vec<u8>) -> Result<Bytes, DataError> {
        serde_json::to_writer(&mut out, &self).map_err(|e| DataError::new(e.to_string()))?;
        Ok(out.into())
    }

    fn of(self, value: &'a Value, schema: Option<&'a Schema>) -> Json<'a> {
        Json {
            value,
            schema,
            ..self
        }
    }

    fn map<S: Serializer>(
        self,
        pairs: &'a [(Value, Value)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let (keys, values) = match self.schema.map(|schema| &schema.kind) {
            Some(crate::schema::Kind::Map(keys, values)) => (Some(&**keys), Some(&**values)),
            _ => (None, None),
        };
        if pairs.iter().all(|(key, _)| matches!(key, Value::String(_))) {
            let mut map = serializer.serialize_map(Some(pairs.len()))?;
            for (key, value) in pairs {
                map.serialize_entry(
                    key.as_str().expect("all keys are text"),
                    &self.of(value, values),
                )?;
            }
            return map.end();
        }
        let mut seq = serializer.serialize_seq(Some(pairs.len()))?;
        for (key, value) in pairs {
            seq.serialize_element(&[self.of(key, keys), self.of(value, values)])?;
        }
        seq.end()
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Null => match self.schema {
                Some(Schema {
                    default: Some(default),
                    ..
                }) if self.replace_null && !default.is_null() => {
                    self.of(default, None).serialize(serializer)
                }
                Some(Schema {
                    optional: false, ..
                }) => Err(S::Error::custom(
                    "Conversion error: null value for field that is required and has no default value",
                )),
                _ => serializer.serialize_unit(),
            },
            Value::Boolean(v) => serializer.serialize_bool(*v),
            Value::Int8(v) => serializer.serialize_i8(*v),
            Value::Int16(v) => serializer.serialize_i16(*v),
            Value::Int32(v) | Value::Date(v) | Value::Time(v) => serializer.serialize_i32(*v),
            Value::Int64(v) | Value::Timestamp(v) => serializer.serialize_i64(*v),
            Value::Float32(v) if v.is_finite() => serializer.serialize_f32(*v),
            Value::Float64(v) if v.is_finite() => serializer.serialize_f64(*v),
            // Jackson quotes what JSON cannot say.
            Value::Float32(v) => serializer.serialize_str(non_finite(f64::from(*v))),
            Value::Float64(v) => serializer.serialize_str(non_finite(*v)),
            Value::String(text) => serializer.serialize_str(text.as_str()),
            Value::Bytes(bytes) => serializer.serialize_str(&BASE64.encode(bytes)),
            Value::Decimal(decimal) if self.decimal == DecimalFormat::Base64 => {
                serializer.serialize_str(&BASE64.encode(decimal.to_be_bytes()))
            }
            Value::Decimal(decimal) => {
                let number =
                    RawValue::from_string(decimal.to_string()).map_err(S::Error::custom)?;
                number.serialize(serializer)
            }
            Value::Array(values) => {
                let element = match self.schema.map(|schema| &schema.kind) {
                    Some(crate::schema::Kind::Array(element)) => Some(&**element),
                    _ => None,
                };
                serializer.collect_seq(values.iter().map(|value| self.of(value, element)))
            }
            Value::Map(pairs) => self.map(pairs, serializer),
            Value::Struct(row) => {
                let mut map = serializer.serialize_map(Some(row.values().len()))?;
                for (field, value) in row.schema().fields().iter().zip(row.values()) {
                    map.serialize_entry(&*field.name, &self.of(value, Some(&field.schema)))?;
                }
                map.end()
            }
        }
    }
}

fn non_finite(v: f64) -> &'static str {
    if v.is_nan() {
        "NaN"
    } else if v > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
