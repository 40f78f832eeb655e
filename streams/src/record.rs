//! The record: what flows through a topology.

use std::sync::Arc;

use bytes::Bytes;

/// A key, a value and an event time, with the headers it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time in ms since 1970.
    pub timestamp: i64,
    /// Headers, in order; stateless steps keep them.
    pub headers: Headers,
}

impl<K, V> Record<K, V> {
    /// The same record with another key.
    pub fn with_key<L>(self, key: L) -> Record<L, V> {
        Record {
            key,
            value: self.value,
            timestamp: self.timestamp,
            headers: self.headers,
        }
    }

    /// The same record with another value.
    pub fn with_value<W>(self, value: W) -> Record<K, W> {
        Record {
            key: self.key,
            value,
            timestamp: self.timestamp,
            headers: self.headers,
        }
    }
}

/// Record headers: names may repeat, order is kept. Costs eight bytes where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<Header>>>);

/// A name and a value.
type Header = (Bytes, Option<Bytes>);

impl Headers {
    /// No headers.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Names (UTF-8 by convention) and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        self.0
            .iter()
            .flat_map(|headers| headers.iter())
            .map(|(name, value)| (name, value.as_ref()))
    }

    /// The last value under `name` (Kafka: `Headers.lastHeader`).
    pub fn last(&self, name: &str) -> Option<&Bytes> {
        self.0
            .iter()
            .flat_map(|headers| headers.iter())
            .rev()
            .find(|(key, _)| key == name.as_bytes())
            .and_then(|(_, value)| value.as_ref())
    }
}

impl FromIterator<(Bytes, Option<Bytes>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (Bytes, Option<Bytes>)>>(headers: I) -> Self {
        let headers: Vec<_> = headers.into_iter().collect();
        Self((!headers.is_empty()).then(|| Arc::new(headers)))
    }
}
