//! Source positions as records of the offsets topic: `["<connector>", {partition}]` → `{offset}`, null where it is forgotten. Pure.
//!
//! Owns the JSON, which is Kafka Connect's byte for byte, and the map the records add up to. `source_task.rs` writes them in the transaction of the
//! records they describe; `topics.rs` reads them back. Source: Kafka `OffsetStorageWriter`.

use std::collections::BTreeMap;

use crate::record::{SourceOffset, SourcePartition, SourcePosition};

/// The key of a source partition's position.
pub fn encode_key(connector: &str, partition: &SourcePartition) -> String {
    serde_json::to_string(&(connector, partition)).expect("JSON values have a JSON form")
}

/// The value of a position.
pub fn encode_offset(offset: &SourceOffset) -> String {
    serde_json::to_string(offset).expect("JSON values have a JSON form")
}

/// Positions of one connector, as the topic's records add up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Positions(BTreeMap<String, SourcePosition>);

impl Positions {
    /// Takes a record, in order; those of other connectors, and what cannot be read, change nothing.
    pub fn apply(&mut self, connector: &str, key: &[u8], value: Option<&[u8]>) {
        let Ok((owner, partition)) = serde_json::from_slice::<(String, SourcePartition)>(key)
        else {
            return;
        };
        if owner != connector {
            return;
        }
        // Other workers may write the fields of a partition in another order: the map's order is ours.
        let id = encode_key(connector, &partition);
        match value.map(serde_json::from_slice::<Option<SourceOffset>>) {
            Some(Ok(Some(offset))) => drop(self.0.insert(id, SourcePosition { partition, offset })),
            None | Some(Ok(None)) => drop(self.0.remove(&id)),
            Some(Err(e)) => tracing::warn!(
                connector,
                "a stored position cannot be read and is passed over: {e}"
            ),
        }
    }

    /// The positions, by partition.
    pub fn into_vec(self) -> Vec<SourcePosition> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_have_kafkas_bytes_and_the_last_one_counts() {
        let partition: SourcePartition = [("filename".to_owned(), "/x".into())].into();
        let offset: SourceOffset = [("position".to_owned(), 12.into())].into();
        let key = encode_key("c", &partition);
        assert_eq!(
            (key.as_str(), encode_offset(&offset).as_str()),
            (r#"["c",{"filename":"/x"}]"#, r#"{"position":12}"#)
        );
        let mut positions = Positions::default();
        positions.apply("c", key.as_bytes(), Some(br#"{"position":5}"#));
        positions.apply("c", key.as_bytes(), Some(encode_offset(&offset).as_bytes()));
        positions.apply("c", br#"["other",{}]"#, Some(b"{}"));
        positions.apply("c", b"garbage", None);
        positions.apply("c", key.as_bytes(), Some(b"garbage"));
        assert_eq!(
            positions.clone().into_vec(),
            [SourcePosition { partition, offset }]
        );
        positions.apply("c", key.as_bytes(), None);
        assert!(positions.into_vec().is_empty());
    }
}
