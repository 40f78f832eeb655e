//! Schemas: what a value may be, by Kafka Connect's types and logical names.
//!
//! Owns [`Schema`]. Sources attach one to their records, the JSON converter writes it into the envelope, sinks create tables from it.
//! A schema is made once and shared by `Arc`; it never changes afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::value::Value;

/// Name of the logical type of [`Value::Decimal`]; parameter `scale` holds the scale.
pub const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
/// Name of the logical type of [`Value::Date`], over int32.
pub const DATE: &str = "org.apache.kafka.connect.data.Date";
/// Name of the logical type of [`Value::Time`], over int32.
pub const TIME: &str = "org.apache.kafka.connect.data.Time";
/// Name of the logical type of [`Value::Timestamp`], over int64.
pub const TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";

/// The shape of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// See [`Value::Int8`].
    Int8,
    /// See [`Value::Int16`].
    Int16,
    /// See [`Value::Int32`].
    Int32,
    /// See [`Value::Int64`].
    Int64,
    /// See [`Value::Float32`].
    Float32,
    /// See [`Value::Float64`].
    Float64,
    /// See [`Value::Boolean`].
    Boolean,
    /// See [`Value::String`].
    String,
    /// See [`Value::Bytes`].
    Bytes,
    /// Elements of one schema.
    Array(Arc<Schema>),
    /// Keys and values of one schema each.
    Map(Arc<Schema>, Arc<Schema>),
    /// Named fields, in order.
    Struct(Vec<Field>),
}

/// A named field of a struct.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The field's name.
    pub name: Arc<str>,
    /// What it holds.
    pub schema: Arc<Schema>,
}

/// What a value may be.
///
/// Source: Kafka `org.apache.kafka.connect.data.Schema`.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The shape.
    pub kind: Kind,
    /// Whether null is allowed.
    pub optional: bool,
    /// A name: of a record type, or of a logical type such as [`TIMESTAMP`].
    pub name: Option<String>,
    /// Version of a named schema.
    pub version: Option<i32>,
    /// A sentence for people.
    pub doc: Option<String>,
    /// What null or an absent field stands for.
    pub default: Option<Value>,
    /// Parameters of a logical type.
    pub parameters: BTreeMap<String, String>,
}

impl Schema {
    /// A required value of `kind`, unnamed.
    pub fn new(kind: Kind) -> Schema {
        Schema {
            kind,
            optional: false,
            name: None,
            version: None,
            doc: None,
            default: None,
            parameters: BTreeMap::new(),
        }
    }

    /// The logical type `name` over `kind`, version 1, as Kafka builds it.
    pub fn logical(name: &str, kind: Kind) -> Schema {
        Schema {
            name: Some(name.to_owned()),
            version: Some(1),
            ..Schema::new(kind)
        }
    }

    /// A decimal of `scale` digits behind the point.
    pub fn decimal(scale: i32) -> Schema {
        let mut schema = Schema::logical(DECIMAL, Kind::Bytes);
        let _ = schema
            .parameters
            .insert("scale".to_owned(), scale.to_string());
        schema
    }

    /// A struct of fields.
    ///
    /// ```
    /// use flumen_connect::schema::{Kind, Schema};
    /// let order = Schema::of([("id", Schema::new(Kind::Int64)), ("note", Schema::new(Kind::String).optional())]);
    /// assert_eq!(order.fields().len(), 2);
    /// ```
    pub fn of<'a>(fields: impl IntoIterator<Item = (&'a str, Schema)>) -> Schema {
        let fields = fields.into_iter().map(|(name, schema)| Field {
            name: name.into(),
            schema: Arc::new(schema),
        });
        Schema::new(Kind::Struct(fields.collect()))
    }

    /// The same, with null allowed.
    #[must_use]
    pub fn optional(self) -> Schema {
        Schema {
            optional: true,
            ..self
        }
    }

    /// The same, named.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Schema {
        Schema {
            name: Some(name.into()),
            ..self
        }
    }

    /// The fields of a struct; empty for every other kind.
    pub fn fields(&self) -> &[Field] {
        match &self.kind {
            Kind::Struct(fields) => fields,
            _ => &[],
        }
    }

    /// Scale of a decimal; 0 when it is not stated.
    pub fn scale(&self) -> i32 {
        self.parameters
            .get("scale")
            .and_then(|scale| scale.parse().ok())
            .unwrap_or(0)
    }

    /// Kafka's name of the kind, as the JSON envelope spells it.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Int8 => "int8",
            Kind::Int16 => "int16",
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::Float32 => "float",
            Kind::Float64 => "double",
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Array(_) => "array",
            Kind::Map(..) => "map",
            Kind::Struct(_) => "struct",
        }
    }
}
