//! Schemas in JSON, as the envelope carries them, and payloads by a schema.
//!
//! Private to `json.rs`. The order of the fields is Kafka's (`JsonConverter.asJsonSchema`), so that the bytes are too.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{DecimalFormat, write_json};
use crate::error::DataError;
use crate::schema::{DATE, DECIMAL, Field, Kind, Schema, TIME, TIMESTAMP};
use crate::value::{Decimal, Struct, Text, Value};

/// The JSON form; field order is the order on the wire.
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Box<Wire>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Box<Wire>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Box<Wire>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<Wire>>,
    #[serde(default)]
    optional: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

pub(super) fn parse(json: &str) -> Result<Schema, DataError> {
    let wire: Wire =
        serde_json::from_str(json).map_err(|e| DataError::new(format!("no schema: {e}")))?;
    from_wire(wire)
}

pub(super) fn write(schema: &Schema, decimal: DecimalFormat) -> Result<String, DataError> {
    let wire = to_wire(schema, decimal, None)?;
    serde_json::to_string(&wire).map_err(|e| DataError::new(e.to_string()))
}

fn from_wire(wire: Wire) -> Result<Schema, DataError> {
    let part = |part: Option<Box<Wire>>, what: &str| match part {
        Some(part) => from_wire(*part).map(Arc::new),
        None => Err(DataError::new(format!(
            "schema of type {} without {what}",
            wire.kind
        ))),
    };
    let kind = match wire.kind.as_str() {
        "int8" => Kind::Int8,
        "int16" => Kind::Int16,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "float" => Kind::Float32,
        "double" => Kind::Float64,
        "boolean" => Kind::Boolean,
        "string" => Kind::String,
        "bytes" => Kind::Bytes,
        "array" => Kind::Array(part(wire.items, "items")?),
        "map" => Kind::Map(part(wire.keys, "keys")?, part(wire.values, "values")?),
        "struct" => {
            let fields = wire
                .fields
                .ok_or_else(|| DataError::new("schema of type struct without fields"))?;
            let fields = fields.into_iter().map(|mut field| {
                let name = field
                    .field
                    .take()
                    .ok_or_else(|| DataError::new("struct field without a name"))?;
                Ok(Field {
                    name: name.into(),
                    schema: Arc::new(from_wire(field)?),
                })
            });
            Kind::Struct(fields.collect::<Result<_, DataError>>()?)
        }
        other => return Err(DataError::new(format!("Unknown schema type: {other}"))),
    };
    let parameters = wire.parameters.unwrap_or_default();
    let mut schema = Schema {
        kind,
        optional: wire.optional,
        name: wire.name,
        version: wire.version,
        doc: wire.doc,
        default: None,
        parameters,
    };
    if let Some(default) = wire.default {
        let json = bytes::Bytes::copy_from_slice(default.get().as_bytes());
        schema.default = Some(coerce(
            &Arc::new(schema.clone()),
            super::parse(&json, &json)?,
            false,
        )?);
    }
    Ok(schema)
}

fn to_wire(
    schema: &Schema,
    decimal: DecimalFormat,
    field: Option<&str>,
) -> Result<Wire, DataError> {
    let part = |part: &Schema| to_wire(part, decimal, None).map(|wire| Some(Box::new(wire)));
    let default = schema.default.as_ref().filter(|default| !default.is_null());
    let default = default
        .map(|default| write_json(default, None, decimal))
        .transpose()?;
    let default =
        default.map(|json| RawValue::from_string(String::from_utf8_lossy(&json).into_owned()));
    let mut wire = Wire {
        kind: schema.type_name().to_owned(),
        items: None,
        keys: None,
        values: None,
        fields: None,
        optional: schema.optional,
        name: schema.name.clone(),
        version: schema.version,
        doc: schema.doc.clone(),
        parameters: (!schema.parameters.is_empty()).then(|| schema.parameters.clone()),
        default: default
            .transpose()
            .map_err(|e| DataError::new(e.to_string()))?,
        field: field.map(str::to_owned),
    };
    match &schema.kind {
        Kind::Array(items) => wire.items = part(items)?,
        Kind::Map(keys, values) => (wire.keys, wire.values) = (part(keys)?, part(values)?),
        Kind::Struct(fields) => {
            let fields = fields
                .iter()
                .map(|field| to_wire(&field.schema, decimal, Some(&field.name)));
            wire.fields = Some(fields.collect::<Result<_, _>>()?);
        }
        _ => {}
    }
    Ok(wire)
}

/// A payload, parsed without a schema, as `schema` says. Nothing is cut or rounded: what does not fit is an error.
pub(super) fn coerce(
    schema: &Arc<Schema>,
    value: Value,
    replace_null: bool,
) -> Result<Value, DataError> {
    if value.is_null() {
        return match &schema.default {
            Some(default) if replace_null => Ok(default.clone()),
            _ if schema.optional => Ok(Value::Null),
            _ => Err(DataError::new(format!(
                "Invalid null value for required {} field",
                schema.type_name().to_ascii_uppercase()
            ))),
        };
    }
    match (&schema.kind, value) {
        (Kind::Array(items), Value::Array(values)) => {
            let values = values
                .into_iter()
                .map(|value| coerce(items, value, replace_null));
            Ok(Value::Array(values.collect::<Result<_, _>>()?))
        }
        (Kind::Map(keys, values), Value::Map(pairs)) => {
            let pairs = pairs.into_iter().map(|(key, value)| {
                Ok((
                    coerce(keys, key, replace_null)?,
                    coerce(values, value, replace_null)?,
                ))
            });
            Ok(Value::Map(pairs.collect::<Result<_, DataError>>()?))
        }
        (Kind::Map(keys, values), Value::Array(pairs)) => {
            let pairs = pairs.into_iter().map(|pair| match pair {
                Value::Array(pair) => match <[Value; 2]>::try_from(pair) {
                    Ok([key, value]) => Ok((
                        coerce(keys, key, replace_null)?,
                        coerce(values, value, replace_null)?,
                    )),
                    Err(_) => Err(DataError::new("a map's entry is an array of key and value")),
                },
                _ => Err(DataError::new("a map's entry is an array of key and value")),
            });
            Ok(Value::Map(pairs.collect::<Result<_, DataError>>()?))
        }
        (Kind::Struct(fields), value @ Value::Map(_)) => {
            let values = fields.iter().map(|field| {
                let value = value.field(&field.name).cloned().unwrap_or_default();
                coerce(&field.schema, value, replace_null)
                    .map_err(|e| DataError::new(format!("field {}: {e}", field.name)))
            });
            let values = values.collect::<Result<_, _>>()?;
            Ok(Value::Struct(Box::new(Struct::new(
                Arc::clone(schema),
                values,
            ))))
        }
        (_, value) => primitive(schema, &value).ok_or_else(|| mismatch(schema, &value)),
    }
}

fn mismatch(schema: &Schema, value: &Value) -> DataError {
    let name = schema.name.as_deref().unwrap_or(schema.type_name());
    DataError::new(format!("{} {value:?} is no {name}", value.type_name()))
}

fn primitive(schema: &Schema, value: &Value) -> Option<Value> {
    match (schema.name.as_deref(), &schema.kind) {
        (Some(DECIMAL), Kind::Bytes) => return decimal(schema.scale(), value),
        (Some(DATE), Kind::Int32) => return Some(Value::Date(value.as_i64()?.try_into().ok()?)),
        (Some(TIME), Kind::Int32) => return Some(Value::Time(value.as_i64()?.try_into().ok()?)),
        (Some(TIMESTAMP), Kind::Int64) => return Some(Value::Timestamp(value.as_i64()?)),
        _ => {}
    }
    Some(match &schema.kind {
        Kind::Int8 => Value::Int8(value.as_i64()?.try_into().ok()?),
        Kind::Int16 => Value::Int16(value.as_i64()?.try_into().ok()?),
        Kind::Int32 => Value::Int32(value.as_i64()?.try_into().ok()?),
        Kind::Int64 => Value::Int64(value.as_i64()?),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float32 was asked for: the nearest one is the value"
        )]
        Kind::Float32 => Value::Float32(float(value)? as f32),
        Kind::Float64 => Value::Float64(float(value)?),
        Kind::Boolean => match value {
            Value::Boolean(v) => Value::Boolean(*v),
            _ => return None,
        },
        Kind::String => match value {
            Value::String(text) => Value::String(text.clone()),
            _ => return None,
        },
        Kind::Bytes => Value::Bytes(BASE64.decode(value.as_str()?).ok()?.into()),
        Kind::Array(_) | Kind::Map(..) | Kind::Struct(_) => return None,
    })
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) if *text == Text::from("NaN") => Some(f64::NAN),
        Value::String(text) if *text == Text::from("Infinity") => Some(f64::INFINITY),
        Value::String(text) if *text == Text::from("-Infinity") => Some(f64::NEG_INFINITY),
        other => other.as_f64(),
    }
}

fn decimal(scale: i32, value: &Value) -> Option<Value> {
    let found = match value {
        Value::String(text) => {
            Decimal::from_be_bytes(&BASE64.decode(text.as_bytes()).ok()?, scale)?
        }
        Value::Int64(v) => Decimal {
            unscaled: i128::from(*v).checked_mul(10_i128.checked_pow(scale.try_into().ok()?)?)?,
            scale,
        },
        Value::Float64(v) => {
            let parsed = Decimal::parse(&v.to_string())?;
            let missing = u32::try_from(scale.checked_sub(parsed.scale)?).ok()?;
            Decimal {
                unscaled: parsed.unscaled.checked_mul(10_i128.checked_pow(missing)?)?,
                scale,
            }
        }
        Value::Decimal(decimal) if decimal.scale == scale => **decimal,
        _ => return None,
    };
    Some(Value::Decimal(Box::new(found)))
}
