//! Converters: bytes in a topic ⇄ values of a connector.
//!
//! Owns the trait and the list of those that every worker has. Both tasks call them, once per key and per value. They hold no state but caches.

mod json;
mod simple;

use std::fmt::Debug;

use bytes::Bytes;

pub use json::{DecimalFormat, JsonConverter};
pub use simple::{ByteArrayConverter, NumberConverter, StringConverter};

use crate::error::DataError;
use crate::record::Data;
use crate::registry::MakeConverter;

/// Bytes ⇄ values.
///
/// Source: Kafka `org.apache.kafka.connect.storage.Converter`.
pub trait Converter: Send + Sync + Debug {
    /// The bytes of `data`; `None` is Kafka's null (a tombstone, no key).
    ///
    /// # Errors
    /// The value does not fit its schema or this format: the record is rejected by `errors.tolerance`.
    fn encode(&self, topic: &str, data: &Data) -> Result<Option<Bytes>, DataError>;

    /// The value in `bytes`. Text and bytes of the result are slices of `bytes` where the format allows it.
    ///
    /// # Errors
    /// `bytes` are not of this format: the record is rejected by `errors.tolerance`.
    fn decode(&self, topic: &str, bytes: Option<&Bytes>) -> Result<Data, DataError>;
}

/// Kafka's class names, and what makes the converter of that name.
pub const ALL: &[(&str, MakeConverter)] = &[
    ("org.apache.kafka.connect.json.JsonConverter", json::make),
    (
        "org.apache.kafka.connect.storage.StringConverter",
        simple::make_string,
    ),
    (
        "org.apache.kafka.connect.converters.ByteArrayConverter",
        simple::make_byte_array,
    ),
    (
        "org.apache.kafka.connect.converters.BooleanConverter",
        simple::make_boolean,
    ),
    (
        "org.apache.kafka.connect.converters.ShortConverter",
        simple::make_short,
    ),
    (
        "org.apache.kafka.connect.converters.IntegerConverter",
        simple::make_integer,
    ),
    (
        "org.apache.kafka.connect.converters.LongConverter",
        simple::make_long,
    ),
    (
        "org.apache.kafka.connect.converters.FloatConverter",
        simple::make_float,
    ),
    (
        "org.apache.kafka.connect.converters.DoubleConverter",
        simple::make_double,
    ),
];
