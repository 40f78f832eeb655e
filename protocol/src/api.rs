//! THE table: which APIs exist, with which key and in which versions (Kafka 4.3). Everything that
//! asks "does this version exist", "which header does it have" asks here. What a broker *serves* is
//! the broker's own list.

mod table;

use std::fmt;
use std::ops::RangeInclusive;

pub use table::ApiKey;

/// One row of the table.
#[derive(Debug)]
struct Api {
    key: ApiKey,
    name: &'static str,
    versions: (i16, i16),
    advertised: (i16, i16),
    flexible_from: Option<i16>,
}

/// The row of a key.
fn row(key: ApiKey) -> &'static Api {
    find(key.code()).expect("the table has a row for every key; both are generated from one list")
}

/// The row of a key's number.
fn find(code: i16) -> Option<&'static Api> {
    let place = table::TABLE.binary_search_by_key(&code, |row| row.key.code());
    place.ok().map(|place| &table::TABLE[place])
}

/// The versions of an API that this build reads and writes.
///
/// ```
/// use flumen_protocol::api::{self, ApiKey};
/// assert_eq!(api::versions(ApiKey::Fetch), 4..=18);
/// ```
pub fn versions(key: ApiKey) -> RangeInclusive<i16> {
    let (min, max) = row(key).versions;
    min..=max
}

/// The versions of an API that ApiVersions shows. They differ for Produce only: librdkafka takes a
/// broker without Produce 0 for one without compression, so 0-13 is shown and 0-2 is refused
/// (KAFKA-18659).
pub fn advertised(key: ApiKey) -> RangeInclusive<i16> {
    let (min, max) = row(key).advertised;
    min..=max
}

impl ApiKey {
    /// Every API, in the order of keys.
    pub fn all() -> impl Iterator<Item = Self> {
        table::TABLE.iter().map(|row| row.key)
    }

    /// The API of a key; `None` if this build does not know it.
    pub fn from_code(code: i16) -> Option<Self> {
        find(code).map(|row| row.key)
    }

    /// Kafka's key.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name: `Fetch`.
    pub fn name(self) -> &'static str {
        row(self).name
    }

    /// Whether this build reads and writes `version`.
    pub fn has_version(self, version: i16) -> bool {
        versions(self).contains(&version)
    }

    /// Whether `version` has compact lengths and tagged fields (KIP-482).
    pub fn is_flexible(self, version: i16) -> bool {
        row(self).flexible_from.is_some_and(|from| version >= from)
    }

    /// Version of the header before a request: 2 where the body is flexible, else 1.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Version of the header before a response: 1 where the body is flexible, else 0. ApiVersions
    /// always has 0: a client that asked in a version the broker does not know must be able to read
    /// the answer.
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self.is_flexible(version) && self != Self::ApiVersions)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kafkas() {
        assert_eq!(ApiKey::from_code(0), Some(ApiKey::Produce));
        assert_eq!(ApiKey::from_code(18), Some(ApiKey::ApiVersions));
        assert_eq!(
            ApiKey::from_code(75).map(ApiKey::name),
            Some("DescribeTopicPartitions")
        );
        assert_eq!(ApiKey::from_code(4), None);
        for key in ApiKey::all() {
            assert_eq!(ApiKey::from_code(key.code()), Some(key));
        }
    }

    #[test]
    fn produce_shows_versions_that_it_refuses() {
        assert_eq!(versions(ApiKey::Produce), 3..=13);
        assert_eq!(advertised(ApiKey::Produce), 0..=13);
        assert_eq!(advertised(ApiKey::Fetch), versions(ApiKey::Fetch));
    }

    #[test]
    fn the_answer_to_api_versions_never_has_a_flexible_header() {
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
        assert_eq!(ApiKey::Fetch.response_header_version(12), 1);
        assert_eq!(ApiKey::Fetch.response_header_version(11), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }
}
