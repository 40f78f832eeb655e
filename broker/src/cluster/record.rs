//! The vocabulary of the metadata log: what can change in the cluster, and its bytes.
//!
//! Written by `cluster/mod.rs` as the values of one batch per decision, replayed at start. Additive only: a kind keeps its number for
//! ever, a new field makes a new version of its kind, and an old version is read for ever.
//!
//! ```text
//! value  = frame:u8(=1) kind:u16 version:u16 fields…     numbers big endian
//! string = length:u32 utf8          list = count:u32 items          id = 16 bytes          option = present:u8 [item]
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flumen_protocol::id::{BrokerId, LeaderEpoch, ProducerId, TopicId};

/// What a configuration belongs to (Kafka's `ConfigResource.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A topic; the name is the topic's.
    Topic,
    /// A broker; the name is its id, or empty for all brokers.
    Broker,
}

/// One change of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataRecord {
    /// A topic exists from here on.
    Topic(TopicRecord),
    /// A partition exists, or its leadership changed.
    Partition(PartitionRecord),
    /// A topic and its partitions are gone.
    RemoveTopic(RemoveTopicRecord),
    /// A configuration was set, or unset.
    Config(ConfigRecord),
    /// Producer ids below this are taken.
    ProducerIds(ProducerIdsRecord),
    /// A broker registered.
    Broker(BrokerRecord),
    /// A feature of the cluster has this level.
    Feature(FeatureRecord),
}

/// See [`MetadataRecord::Topic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// Its name.
    pub name: String,
    /// Its id, never used again.
    pub id: TopicId,
}

/// See [`MetadataRecord::Partition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRecord {
    /// The topic.
    pub topic_id: TopicId,
    /// Number within the topic.
    pub partition: i32,
    /// Who holds it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Who is in sync.
    pub isr: Vec<BrokerId>,
    /// Who leads; -1 for nobody.
    pub leader: BrokerId,
    /// Grows with each new leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with each change.
    pub partition_epoch: i32,
}

/// See [`MetadataRecord::RemoveTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveTopicRecord {
    /// The topic.
    pub id: TopicId,
}

/// See [`MetadataRecord::Config`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRecord {
    /// What it belongs to.
    pub kind: ResourceKind,
    /// Whose it is.
    pub resource: String,
    /// Kafka's dotted name.
    pub key: String,
    /// The value; `None` takes the setting away.
    pub value: Option<String>,
}

/// See [`MetadataRecord::ProducerIds`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerIdsRecord {
    /// Who got the block that ends here.
    pub broker: BrokerId,
    /// First id not taken.
    pub next_producer_id: ProducerId,
}

/// See [`MetadataRecord::Broker`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRecord {
    /// Its id.
    pub id: BrokerId,
    /// New with each start of its process.
    pub incarnation: [u8; 16],
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
}

/// See [`MetadataRecord::Feature`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureRecord {
    /// Kafka's name, as `transaction.version`.
    pub name: String,
    /// Its level; 0 means off.
    pub level: i16,
}

/// Why a value of the metadata log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end early, or a string is not UTF-8.
    #[error("metadata record is damaged")]
    Damaged,
    /// Written by a newer version.
    #[error(
        "metadata record of kind {kind} version {version} is not known: was it written by a newer version?"
    )]
    Unknown {
        /// The kind's number.
        kind: u16,
        /// Its version.
        version: u16,
    },
}

const FRAME: u8 = 1;

impl MetadataRecord {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = BytesMut::new();
        w.put_u8(FRAME);
        let kind = |w: &mut BytesMut, kind: u16| {
            w.put_u16(kind);
            w.put_u16(0);
        };
        match self {
            MetadataRecord::Topic(topic) => {
                kind(&mut w, 1);
                put_string(&mut w, &topic.name);
                w.put_slice(&topic.id.0);
            }
            MetadataRecord::Partition(partition) => {
                kind(&mut w, 2);
                put_partition(&mut w, partition);
            }
            MetadataRecord::RemoveTopic(remove) => {
                kind(&mut w, 3);
                w.put_slice(&remove.id.0);
            }
            MetadataRecord::Config(config) => {
                kind(&mut w, 4);
                w.put_u8(match config.kind {
                    ResourceKind::Topic => 2,
                    ResourceKind::Broker => 4,
                });
                put_string(&mut w, &config.resource);
                put_string(&mut w, &config.key);
                put_option(&mut w, config.value.as_deref());
            }
            MetadataRecord::ProducerIds(ids) => {
                kind(&mut w, 5);
                w.put_i32(ids.broker);
                w.put_i64(ids.next_producer_id);
            }
            MetadataRecord::Broker(broker) => {
                kind(&mut w, 6);
                w.put_i32(broker.id);
                w.put_slice(&broker.incarnation);
                put_string(&mut w, &broker.host);
                w.put_u16(broker.port);
                put_option(&mut w, broker.rack.as_deref());
            }
            MetadataRecord::Feature(feature) => {
                kind(&mut w, 7);
                put_string(&mut w, &feature.name);
                w.put_i16(feature.level);
            }
        }
        w.freeze()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`]: the broker must not start on metadata it cannot read.
    pub fn decode(mut r: Bytes) -> Result<MetadataRecord, RecordError> {
        use RecordError::Damaged;
        let frame = r.try_get_u8().map_err(|_| Damaged)?;
        let kind = r.try_get_u16().map_err(|_| Damaged)?;
        let version = r.try_get_u16().map_err(|_| Damaged)?;
        if frame != FRAME || version != 0 {
            return Err(RecordError::Unknown { kind, version });
        }
        let r = &mut r;
        Ok(match kind {
            1 => MetadataRecord::Topic(TopicRecord {
                name: get_string(r)?,
                id: get_id(r)?,
            }),
            2 => MetadataRecord::Partition(get_partition(r)?),
            3 => MetadataRecord::RemoveTopic(RemoveTopicRecord { id: get_id(r)? }),
            4 => MetadataRecord::Config(get_config(r)?),
            5 => MetadataRecord::ProducerIds(ProducerIdsRecord {
                broker: r.try_get_i32().map_err(|_| Damaged)?,
                next_producer_id: r.try_get_i64().map_err(|_| Damaged)?,
            }),
            6 => MetadataRecord::Broker(get_broker(r)?),
            7 => MetadataRecord::Feature(FeatureRecord {
                name: get_string(r)?,
                level: r.try_get_i16().map_err(|_| Damaged)?,
            }),
            _ => return Err(RecordError::Unknown { kind, version }),
        })
    }
}

fn put_partition(w: &mut BytesMut, partition: &PartitionRecord) {
    w.put_slice(&partition.topic_id.0);
    w.put_i32(partition.partition);
    put_brokers(w, &partition.replicas);
    put_brokers(w, &partition.isr);
    w.put_i32(partition.leader);
    w.put_i32(partition.leader_epoch);
    w.put_i32(partition.partition_epoch);
}

fn get_partition(r: &mut Bytes) -> Result<PartitionRecord, RecordError> {
    Ok(PartitionRecord {
        topic_id: get_id(r)?,
        partition: get_i32(r)?,
        replicas: get_brokers(r)?,
        isr: get_brokers(r)?,
        leader: get_i32(r)?,
        leader_epoch: get_i32(r)?,
        partition_epoch: get_i32(r)?,
    })
}

fn get_config(r: &mut Bytes) -> Result<ConfigRecord, RecordError> {
    Ok(ConfigRecord {
        kind: match r.try_get_u8().map_err(|_| RecordError::Damaged)? {
            2 => ResourceKind::Topic,
            4 => ResourceKind::Broker,
            _ => return Err(RecordError::Damaged),
        },
        resource: get_string(r)?,
        key: get_string(r)?,
        value: get_option(r)?,
    })
}

fn get_broker(r: &mut Bytes) -> Result<BrokerRecord, RecordError> {
    Ok(BrokerRecord {
        id: get_i32(r)?,
        incarnation: get_id(r)?.0,
        host: get_string(r)?,
        port: r.try_get_u16().map_err(|_| RecordError::Damaged)?,
        rack: get_option(r)?,
    })
}

fn put_string(w: &mut BytesMut, text: &str) {
    w.put_u32(
        u32::try_from(text.len()).expect("names and values come from requests below 100 MiB"),
    );
    w.put_slice(text.as_bytes());
}

fn put_option(w: &mut BytesMut, text: Option<&str>) {
    w.put_u8(u8::from(text.is_some()));
    if let Some(text) = text {
        put_string(w, text);
    }
}

fn put_brokers(w: &mut BytesMut, brokers: &[BrokerId]) {
    w.put_u32(u32::try_from(brokers.len()).expect("fewer replicas than 2^32"));
    for broker in brokers {
        w.put_i32(*broker);
    }
}

fn get_i32(r: &mut Bytes) -> Result<i32, RecordError> {
    r.try_get_i32().map_err(|_| RecordError::Damaged)
}

fn get_count(r: &mut Bytes, item: usize) -> Result<usize, RecordError> {
    let count = r.try_get_u32().map_err(|_| RecordError::Damaged)? as usize;
    if count > r.remaining() / item {
        return Err(RecordError::Damaged);
    }
    Ok(count)
}

fn get_string(r: &mut Bytes) -> Result<String, RecordError> {
    let length = get_count(r, 1)?;
    String::from_utf8(r.split_to(length).to_vec()).map_err(|_| RecordError::Damaged)
}

fn get_option(r: &mut Bytes) -> Result<Option<String>, RecordError> {
    match r.try_get_u8().map_err(|_| RecordError::Damaged)? {
        0 => Ok(None),
        _ => get_string(r).map(Some),
    }
}

fn get_id(r: &mut Bytes) -> Result<TopicId, RecordError> {
    let mut id = [0; 16];
    r.try_copy_to_slice(&mut id)
        .map_err(|_| RecordError::Damaged)?;
    Ok(TopicId(id))
}

fn get_brokers(r: &mut Bytes) -> Result<Vec<BrokerId>, RecordError> {
    let count = get_count(r, 4)?;
    (0..count).map(|_| get_i32(r)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<MetadataRecord> {
        let id = TopicId([7; 16]);
        vec![
            MetadataRecord::Topic(TopicRecord {
                name: "flights".to_owned(),
                id,
            }),
            MetadataRecord::Partition(PartitionRecord {
                topic_id: id,
                partition: 3,
                replicas: vec![1, 2],
                isr: vec![1],
                leader: 1,
                leader_epoch: 4,
                partition_epoch: 9,
            }),
            MetadataRecord::RemoveTopic(RemoveTopicRecord { id }),
            MetadataRecord::Config(ConfigRecord {
                kind: ResourceKind::Topic,
                resource: "flights".to_owned(),
                key: "retention.ms".to_owned(),
                value: Some("-1".to_owned()),
            }),
            MetadataRecord::Config(ConfigRecord {
                kind: ResourceKind::Broker,
                resource: String::new(),
                key: "log.retention.ms".to_owned(),
                value: None,
            }),
            MetadataRecord::ProducerIds(ProducerIdsRecord {
                broker: 1,
                next_producer_id: 2000,
            }),
            MetadataRecord::Broker(BrokerRecord {
                id: 1,
                incarnation: [9; 16],
                host: "localhost".to_owned(),
                port: 9092,
                rack: None,
            }),
            MetadataRecord::Feature(FeatureRecord {
                name: "transaction.version".to_owned(),
                level: 2,
            }),
        ]
    }

    #[test]
    fn every_kind_survives_its_bytes() {
        for record in one_of_each() {
            assert_eq!(MetadataRecord::decode(record.encode()), Ok(record));
        }
    }

    #[test]
    fn bytes_of_version_zero_do_not_change() {
        let topic = MetadataRecord::Topic(TopicRecord {
            name: "ab".to_owned(),
            id: TopicId([1; 16]),
        });
        let mut expected = vec![1, 0, 1, 0, 0, 0, 0, 0, 2, b'a', b'b'];
        expected.extend([1; 16]);
        assert_eq!(topic.encode(), expected);
    }

    #[test]
    fn every_truncation_is_an_error() {
        for record in one_of_each() {
            let whole = record.encode();
            for length in 0..whole.len() {
                assert!(
                    MetadataRecord::decode(whole.slice(..length)).is_err(),
                    "{record:?} cut to {length}"
                );
            }
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_number() {
        let bytes = Bytes::from_static(&[1, 0, 2, 0, 1]);
        assert_eq!(
            MetadataRecord::decode(bytes),
            Err(RecordError::Unknown {
                kind: 2,
                version: 1
            })
        );
    }
}
