//! Serdes: how keys and values become bytes and back. Byte layouts are Kafka's where Kafka has one.
//!
//! Called at the edges only: sources, sinks, stores and repartitions. A serde is shared by threads and holds no state.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::SerdeError;
use crate::window::{Window, Windowed};

/// Writes values of `T` and reads them back.
pub trait Serde<T>: Send + Sync {
    /// Appends the bytes of `value` to `out`.
    /// # Errors
    /// A value the format cannot express.
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError>;

    /// Reads a value.
    /// # Errors
    /// Bytes that are no `T`.
    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError>;

    /// Reads a value from a part of `owner`, which may be kept instead of copied. By default as [`Serde::deserialize`].
    /// # Errors
    /// Bytes that are no `T`.
    fn deserialize_shared(&self, bytes: &[u8], _owner: &Bytes) -> Result<T, SerdeError> {
        self.deserialize(bytes)
    }

    /// Whether `value` is written as null (no key, or a tombstone). Only nullable serdes say yes.
    fn is_null(&self, _value: &T) -> bool {
        false
    }

    /// The value that null stands for.
    /// # Errors
    /// [`SerdeError::Null`] unless the serde is nullable.
    fn null(&self) -> Result<T, SerdeError> {
        Err(SerdeError::Null)
    }
}

impl<T> Serde<T> for Arc<dyn Serde<T>> {
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        (**self).serialize(value, out)
    }
    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError> {
        (**self).deserialize(bytes)
    }
    fn deserialize_shared(&self, bytes: &[u8], owner: &Bytes) -> Result<T, SerdeError> {
        (**self).deserialize_shared(bytes, owner)
    }
    fn is_null(&self, value: &T) -> bool {
        (**self).is_null(value)
    }
    fn null(&self) -> Result<T, SerdeError> {
        (**self).null()
    }
}

/// See [`nullable`].
#[derive(Clone, Copy, Debug)]
pub struct Nullable<S>(S);

/// The serde of `Option<T>`: `None` is null on the wire, as a missing key or a tombstone.
pub fn nullable<S>(serde: S) -> Nullable<S> {
    Nullable(serde)
}

impl<T, S: Serde<T>> Serde<Option<T>> for Nullable<S> {
    fn serialize(&self, value: &Option<T>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        match value {
            Some(value) => self.0.serialize(value, out),
            None => Ok(()),
        }
    }
    fn deserialize(&self, bytes: &[u8]) -> Result<Option<T>, SerdeError> {
        self.0.deserialize(bytes).map(Some)
    }
    fn deserialize_shared(&self, bytes: &[u8], owner: &Bytes) -> Result<Option<T>, SerdeError> {
        self.0.deserialize_shared(bytes, owner).map(Some)
    }
    fn is_null(&self, value: &Option<T>) -> bool {
        value.is_none()
    }
    fn null(&self) -> Result<Option<T>, SerdeError> {
        Ok(None)
    }
}

/// UTF-8 text (Kafka: `StringSerializer`).
#[derive(Clone, Copy, Debug)]
pub struct StringSerde;

/// UTF-8 text.
pub fn string() -> StringSerde {
    StringSerde
}

impl Serde<String> for StringSerde {
    fn serialize(&self, value: &String, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }
    fn deserialize(&self, bytes: &[u8]) -> Result<String, SerdeError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(SerdeError::Malformed(error.to_string())),
        }
    }
}

/// Bytes as they are; reading shares the batch they came in.
#[derive(Clone, Copy, Debug)]
pub struct BytesSerde;

/// Bytes as they are.
pub fn bytes() -> BytesSerde {
    BytesSerde
}

impl Serde<Bytes> for BytesSerde {
    fn serialize(&self, value: &Bytes, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(value);
        Ok(())
    }
    fn deserialize(&self, bytes: &[u8]) -> Result<Bytes, SerdeError> {
        Ok(Bytes::copy_from_slice(bytes))
    }
    fn deserialize_shared(&self, bytes: &[u8], owner: &Bytes) -> Result<Bytes, SerdeError> {
        Ok(owner.slice_ref(bytes))
    }
}

/// Big-endian numbers, as Kafka's `IntegerSerializer`, `LongSerializer` and `DoubleSerializer` write them.
#[derive(Clone, Copy, Debug)]
pub struct NumberSerde<T>(PhantomData<T>);

macro_rules! number {
    ($($name:ident $doc:literal),*) => {$(
        #[doc = $doc]
        pub fn $name() -> NumberSerde<$name> {
            NumberSerde(PhantomData)
        }
        impl Serde<$name> for NumberSerde<$name> {
            fn serialize(&self, value: &$name, out: &mut Vec<u8>) -> Result<(), SerdeError> {
                out.extend_from_slice(&value.to_be_bytes());
                Ok(())
            }
            fn deserialize(&self, bytes: &[u8]) -> Result<$name, SerdeError> {
                match <[u8; size_of::<$name>()]>::try_from(bytes) {
                    Ok(array) => Ok(<$name>::from_be_bytes(array)),
                    Err(_) => Err(SerdeError::Length { expected: size_of::<$name>(), actual: bytes.len() }),
                }
            }
        }
    )*};
}

number!(
    i16 "16 bits, big endian, signed (Kafka: `ShortSerializer`).",
    i32 "32 bits, big endian, signed (Kafka: `IntegerSerializer`).",
    i64 "64 bits, big endian, signed (Kafka: `LongSerializer`).",
    u32 "32 bits, big endian.",
    u64 "64 bits, big endian.",
    f32 "IEEE 754 single, big endian (Kafka: `FloatSerializer`).",
    f64 "IEEE 754 double, big endian (Kafka: `DoubleSerializer`)."
);

/// Nothing: whatever the bytes are, they are ignored; written as null.
#[derive(Clone, Copy, Debug)]
pub struct NothingSerde;

/// For the key of a topic whose keys do not matter: reads any key, or none, as `()` and writes null.
pub fn nothing() -> NothingSerde {
    NothingSerde
}

impl Serde<()> for NothingSerde {
    fn serialize(&self, (): &(), _out: &mut Vec<u8>) -> Result<(), SerdeError> {
        Ok(())
    }
    fn deserialize(&self, _bytes: &[u8]) -> Result<(), SerdeError> {
        Ok(())
    }
    fn is_null(&self, (): &()) -> bool {
        true
    }
    fn null(&self) -> Result<(), SerdeError> {
        Ok(())
    }
}

/// JSON of any type that serde knows.
pub struct JsonSerde<T>(PhantomData<fn() -> T>);

/// JSON of any type that serde knows.
pub fn json<T: Serialize + DeserializeOwned>() -> JsonSerde<T> {
    JsonSerde(PhantomData)
}

impl<T: Serialize + DeserializeOwned> Serde<T> for JsonSerde<T> {
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        serde_json::to_writer(out, value).map_err(malformed)
    }
    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError> {
        serde_json::from_slice(bytes).map_err(malformed)
    }
}

/// MessagePack of any type that serde knows, structs with their field names: fields may be added later.
pub struct MessagePackSerde<T>(PhantomData<fn() -> T>);

/// MessagePack of any type that serde knows: compact, self-describing, the default of [`Materialized`](crate::Materialized).
pub fn message_pack<T: Serialize + DeserializeOwned>() -> MessagePackSerde<T> {
    MessagePackSerde(PhantomData)
}

impl<T: Serialize + DeserializeOwned> Serde<T> for MessagePackSerde<T> {
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        rmp_serde::encode::write_named(out, value).map_err(malformed)
    }
    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError> {
        rmp_serde::from_slice(bytes).map_err(malformed)
    }
}

fn malformed(error: impl std::fmt::Display) -> SerdeError {
    SerdeError::Malformed(error.to_string())
}

/// Keys of a windowed table: the key's bytes, then the window's start as 64 bits big endian (Kafka: `TimeWindowedSerializer`).
/// The size is not written; the reader must know it.
#[derive(Clone, Copy, Debug)]
pub struct WindowedSerde<S> {
    key: S,
    size_ms: i64,
}

/// The serde of `Windowed<K>` for windows of `size_ms`.
pub fn windowed<S>(key: S, size_ms: i64) -> WindowedSerde<S> {
    WindowedSerde { key, size_ms }
}

impl<K, S: Serde<K>> Serde<Windowed<K>> for WindowedSerde<S> {
    fn serialize(&self, value: &Windowed<K>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        self.key.serialize(&value.key, out)?;
        out.extend_from_slice(&value.window.start.to_be_bytes());
        Ok(())
    }
    fn deserialize(&self, bytes: &[u8]) -> Result<Windowed<K>, SerdeError> {
        let Some((key, start)) = bytes.split_last_chunk::<8>() else {
            return Err(SerdeError::Length {
                expected: 8,
                actual: bytes.len(),
            });
        };
        let start = i64::from_be_bytes(*start);
        let key = self.key.deserialize(key)?;
        Ok(Windowed {
            key,
            window: Window {
                start,
                end: start.saturating_add(self.size_ms),
            },
        })
    }
}

macro_rules! plain {
    ($($name:ident),*) => {$(
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<T> Copy for $name<T> {}
        impl<T> std::fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}
plain!(JsonSerde, MessagePackSerde);

#[cfg(test)]
mod tests {
    use super::*;

    fn written<T>(serde: &impl Serde<T>, value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        serde.serialize(value, &mut out).unwrap();
        out
    }

    #[track_caller]
    fn round_trip<T: PartialEq + std::fmt::Debug>(serde: &impl Serde<T>, value: &T, bytes: &[u8]) {
        assert_eq!(written(serde, value), bytes);
        assert_eq!(serde.deserialize(bytes).unwrap(), *value);
    }

    #[test]
    fn numbers_are_big_endian_as_kafkas() {
        round_trip(&i32(), &-2, &[0xff, 0xff, 0xff, 0xfe]);
        round_trip(&i64(), &258, &[0, 0, 0, 0, 0, 0, 1, 2]);
        round_trip(&f64(), &1.5, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            i64().deserialize(&[1]),
            Err(SerdeError::Length {
                expected: 8,
                actual: 1
            })
        );
    }

    #[test]
    fn windowed_key_is_the_key_then_the_start() {
        let key = Windowed {
            key: "AA".to_owned(),
            window: Window {
                start: 1000,
                end: 1500,
            },
        };
        round_trip(&windowed(string(), 500), &key, b"AA\0\0\0\0\0\0\x03\xe8");
    }

    #[test]
    fn message_pack_keeps_field_names() {
        #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
        struct Mean {
            n: u8,
        }
        round_trip(&message_pack(), &Mean { n: 7 }, b"\x81\xa1n\x07");
        round_trip(&json(), &Mean { n: 7 }, br#"{"n":7}"#);
    }

    #[test]
    fn null_needs_a_nullable_serde() {
        assert_eq!(Serde::<String>::null(&string()), Err(SerdeError::Null));
        assert_eq!(nullable(string()).null(), Ok(None));
        assert!(nullable(string()).is_null(&None));
        assert_eq!(written(&nullable(string()), &Some("a".to_owned())), b"a");
    }

    #[test]
    fn text_that_is_not_utf8_is_an_error() {
        assert!(matches!(
            string().deserialize(&[0xff]),
            Err(SerdeError::Malformed(_))
        ));
    }
}
