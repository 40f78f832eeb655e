//! Record batch v2, the unit that producers send, logs store and consumers fetch: a view over bytes, never a copy.
//!
//! Used by everything that touches records. Batches are made by `builder.rs`; here they are read, checked, and
//! changed in place where a broker or a producer must.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..8 | base offset | the offset of the first record; set by the broker |
//! | 8..12 | batch length | of what follows this field |
//! | 12..16 | partition leader epoch | set by the broker |
//! | 16 | magic | 2 |
//! | 17..21 | CRC-32C | over everything from the attributes to the end |
//! | 21..23 | attributes | 0-2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon |
//! | 23..27 | last offset delta | |
//! | 27..35 | base timestamp | of the first record, or the delete horizon |
//! | 35..43 | max timestamp | |
//! | 43..51 | producer id | -1 without idempotence |
//! | 51..53 | producer epoch | |
//! | 53..57 | base sequence | |
//! | 57..61 | record count | |
//! | 61.. | records | compressed together if there is a codec |
//!
//! Base offset and leader epoch lie outside the CRC, so that the broker can set them without reading the records.
//! Source: Kafka `DefaultRecordBatch`.

use bytes::Bytes;

use crate::compression::{self, Compression, CompressionError, DecompressionLimit};
use crate::record::{Record, RecordError, RecordRef};

/// Base offset and length: what comes before the part that `batch_length` counts.
pub const LOG_OVERHEAD: usize = 12;
/// Size of the header; the records follow.
pub const HEADER_BYTES: usize = 61;
/// The only version of the format that we store.
pub const MAGIC: i8 = 2;
/// No producer id: the batch is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// No producer epoch.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// No sequence.
pub const NO_SEQUENCE: i32 = -1;
/// No timestamp.
pub const NO_TIMESTAMP: i64 = -1;

const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;
const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
const ATTRIBUTE_CONTROL: i16 = 1 << 5;
pub(crate) const ATTRIBUTE_DELETE_HORIZON: i16 = 1 << 6;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;

/// CRC-32C (Castagnoli), as Kafka uses it for batches and for snapshots of producer state.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Why bytes are not a batch that can be used. Variants by what the receiver answers.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the batch says it has. In a fetch: the response was cut, fetch again. In a produce request: corrupt.
    #[error("batch needs {needed} bytes, {available} are there")]
    Incomplete {
        /// Bytes the batch claims, or the size of a header.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// Magic 0 or 1: message sets from before Kafka 0.11. Answer `UNSUPPORTED_FOR_MESSAGE_FORMAT`.
    #[error("message format v{0} is not supported, only v2")]
    OldMagic(i8),
    /// The bytes were damaged, or are no batch. Answer `CORRUPT_MESSAGE`.
    #[error("corrupt batch: {0}")]
    Corrupt(&'static str),
    /// The stored CRC does not match. Answer `CORRUPT_MESSAGE`.
    #[error("CRC is {computed:#010x}, the batch says {stored:#010x}")]
    CrcMismatch {
        /// From the header.
        stored: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// The header or a record inside does not follow the format. Answer `INVALID_RECORD`.
    #[error("invalid record {index}: {source}")]
    InvalidRecord {
        /// Index within the batch.
        index: usize,
        /// What is wrong.
        source: RecordError,
    },
    /// The records could not be decompressed. Answer `CORRUPT_MESSAGE`, `MESSAGE_TOO_LARGE` over the limit.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Who set the timestamps of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker: every record carries the batch's max timestamp.
    LogAppendTime,
}

/// The fixed part of a batch, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes after this field; see [`Self::size_in_bytes`].
    pub batch_length: i32,
    /// Epoch of the leader that appended it; -1 from a producer.
    pub partition_leader_epoch: i32,
    /// Version of the format.
    pub magic: i8,
    /// Stored CRC-32C.
    pub crc: u32,
    /// Codec and flags, as bits.
    pub attributes: i16,
    /// Offset of the last record minus the base offset. Compaction may have removed that record.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, in milliseconds since 1970; the delete horizon if [`Self::delete_horizon`].
    pub base_timestamp: i64,
    /// Largest timestamp, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// Who sent it, -1 without idempotence.
    pub producer_id: i64,
    /// Incarnation of the producer.
    pub producer_epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
    /// Records inside; 0 is legal in compacted logs only.
    pub record_count: i32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`, which need not hold the records.
    ///
    /// # Errors
    /// [`BatchError::Incomplete`], [`BatchError::OldMagic`], or [`BatchError::Corrupt`] if the length cannot be true.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // The magic stands at the same place in every version: an old message set may be shorter than our header.
        match bytes.get(MAGIC_AT).map(|magic| *magic as i8) {
            Some(magic @ 0..=1) => return Err(BatchError::OldMagic(magic)),
            None | Some(MAGIC) => {}
            Some(_) => return Err(BatchError::Corrupt("unknown magic")),
        }
        let header = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or(BatchError::Incomplete {
                needed: HEADER_BYTES,
                available: bytes.len(),
            })?;
        let decoded = Self::decode(header);
        if decoded.batch_length < (HEADER_BYTES - LOG_OVERHEAD) as i32 {
            return Err(BatchError::Corrupt("length is smaller than a header"));
        }
        Ok(decoded)
    }

    fn decode(b: &[u8; HEADER_BYTES]) -> Self {
        fn at<const N: usize>(b: &[u8; HEADER_BYTES], from: usize) -> [u8; N] {
            b[from..from + N].try_into().expect("inside the header")
        }
        Self {
            base_offset: i64::from_be_bytes(at(b, 0)),
            batch_length: i32::from_be_bytes(at(b, 8)),
            partition_leader_epoch: i32::from_be_bytes(at(b, 12)),
            magic: b[MAGIC_AT] as i8,
            crc: u32::from_be_bytes(at(b, CRC_AT)),
            attributes: i16::from_be_bytes(at(b, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(at(b, 23)),
            base_timestamp: i64::from_be_bytes(at(b, 27)),
            max_timestamp: i64::from_be_bytes(at(b, 35)),
            producer_id: i64::from_be_bytes(at(b, 43)),
            producer_epoch: i16::from_be_bytes(at(b, 51)),
            base_sequence: i32::from_be_bytes(at(b, 53)),
            record_count: i32::from_be_bytes(at(b, 57)),
        }
    }

    /// Writes all fields to the start of `bytes`, the stored `crc` included; see [`seal`].
    ///
    /// # Panics
    /// If `bytes` is shorter than a header.
    pub fn write(&self, bytes: &mut [u8]) {
        bytes[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        bytes[MAGIC_AT] = self.magic as u8;
        bytes[CRC_AT..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[ATTRIBUTES_AT..23].copy_from_slice(&self.attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// The codec.
    ///
    /// # Errors
    /// [`CompressionError::Unknown`] for a number nobody has given out.
    pub fn compression(&self) -> Result<Compression, CompressionError> {
        Compression::from_attributes(self.attributes)
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & ATTRIBUTE_LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Whether it is a marker or another control batch, which consumers never see.
    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// When compaction may drop the tombstones and markers inside, in milliseconds since 1970.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & ATTRIBUTE_DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Whether the producer numbers its records.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id != NO_PRODUCER_ID
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence number of the last record; wraps from `i32::MAX` to 0. -1 without a base sequence.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            base => add_sequence(base, self.last_offset_delta),
        }
    }

    /// Size of the whole batch, header included.
    pub fn size_in_bytes(&self) -> usize {
        LOG_OVERHEAD + self.batch_length.max(0) as usize
    }

    /// The timestamp of a record of this batch that stands `delta` after the base, in milliseconds since 1970.
    pub fn timestamp_of(&self, delta: i64) -> i64 {
        match self.timestamp_type() {
            TimestampType::CreateTime => self.base_timestamp.wrapping_add(delta),
            TimestampType::LogAppendTime => self.max_timestamp,
        }
    }
}

/// `sequence + count`, wrapping from `i32::MAX` to 0. Both must be non-negative. Source: Kafka `DefaultRecordBatch.incrementSequence`.
pub fn add_sequence(sequence: i32, count: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(count);
    (sum % (i64::from(i32::MAX) + 1)) as i32
}

/// One whole batch of format v2 over shared bytes.
///
/// ```
/// use flumen_protocol::batch::RecordBatch;
/// use flumen_protocol::builder::{BatchBuilder, BatchOptions};
/// use flumen_protocol::compression::{Compression, DecompressionLimit};
///
/// let mut builder = BatchBuilder::new(BatchOptions { compression: Compression::Lz4, ..BatchOptions::default() });
/// builder.push(1_700_000_000_000, Some(b"key"), Some(b"value"), &[(b"trace", Some(b"7"))]);
///
/// let batch = RecordBatch::parse(builder.build()).unwrap();
/// batch.verify_crc().unwrap();
/// let records: Vec<_> = batch.records(DecompressionLimit::DEFAULT).unwrap().collect::<Result<_, _>>().unwrap();
/// assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
/// assert_eq!(records[0].headers.last("trace"), Some(Some(&b"7"[..])));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// The batch at the start of `bytes`; what follows it is left out. Length and magic are checked, the CRC is not.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], and [`BatchError::Incomplete`] if the records are cut.
    pub fn parse(mut bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let needed = header.size_in_bytes();
        if bytes.len() < needed {
            return Err(BatchError::Incomplete {
                needed,
                available: bytes.len(),
            });
        }
        bytes.truncate(needed);
        Ok(Self { header, bytes })
    }

    /// The decoded header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch as it stands on the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compares the stored CRC with the bytes.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        verify_crc(&self.bytes)
    }

    /// The records' bytes, decompressed; shares the batch's buffer if there is no codec. Walk them with [`RecordRef::parse`].
    ///
    /// # Errors
    /// [`BatchError::Compression`].
    pub fn payload(&self, limit: DecompressionLimit) -> Result<Bytes, BatchError> {
        let codec = self.header.compression()?;
        let compressed = self.bytes.slice(HEADER_BYTES..);
        Ok(compression::decompress(codec, &compressed, limit)?)
    }

    /// The records, in order, control records included.
    ///
    /// # Errors
    /// [`BatchError::Compression`] here; the iterator gives [`BatchError::InvalidRecord`] once and then ends.
    pub fn records(&self, limit: DecompressionLimit) -> Result<RecordIter, BatchError> {
        Ok(RecordIter {
            header: self.header,
            payload: self.payload(limit)?,
            position: 0,
            index: 0,
        })
    }

    /// What a control batch says: the end of a transaction, or something that only a controller's log holds.
    ///
    /// # Errors
    /// [`BatchError::InvalidRecord`] if it is not a control batch or does not hold exactly one well-formed control record.
    pub fn control_record(&self) -> Result<ControlRecord, BatchError> {
        let invalid = |reason| BatchError::InvalidRecord {
            index: 0,
            source: RecordError(reason),
        };
        if !self.header.is_control() || self.header.record_count != 1 {
            return Err(invalid("not a control batch of one record"));
        }
        let payload = self.payload(DecompressionLimit(CONTROL_RECORD_BYTES_MAX))?;
        let record = RecordRef::parse(&mut &payload[..])
            .map_err(|source| BatchError::InvalidRecord { index: 0, source })?;
        ControlRecord::parse(record.key, record.value)
            .ok_or_else(|| invalid("malformed control record"))
    }
}

/// Far above any control record that exists.
const CONTROL_RECORD_BYTES_MAX: usize = 1 << 20;

/// Iterator over the records of one batch.
#[derive(Clone, Debug)]
pub struct RecordIter {
    header: BatchHeader,
    payload: Bytes,
    position: usize,
    index: usize,
}

impl Iterator for RecordIter {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = &self.payload[self.position..];
        let index = self.index;
        let count = self.header.record_count.max(0) as usize;
        let fail = |source| Some(Err(BatchError::InvalidRecord { index, source }));
        if index >= count {
            if index == count && !rest.is_empty() {
                self.index = usize::MAX;
                return fail(RecordError("batch holds more than it declares"));
            }
            return None;
        }
        self.index += 1;
        match RecordRef::parse(&mut rest) {
            Ok(record) => {
                self.position = self.payload.len() - rest.len();
                let offset = self
                    .header
                    .base_offset
                    .wrapping_add(i64::from(record.offset_delta));
                let timestamp = self.header.timestamp_of(record.timestamp_delta);
                Some(Ok(record.to_record(&self.payload, offset, timestamp)))
            }
            Err(source) => {
                self.index = usize::MAX;
                fail(source)
            }
        }
    }
}

/// All batches in `bytes`, in order. Ends silently at an incomplete tail, which a fetch may have; other damage is given as
/// an error once.
pub fn batches(bytes: Bytes) -> impl Iterator<Item = Result<RecordBatch, BatchError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || match RecordBatch::parse(rest.clone()) {
        Ok(batch) => {
            rest = rest.slice(batch.bytes.len()..);
            Some(Ok(batch))
        }
        Err(BatchError::Incomplete { .. }) => None,
        Err(error) => {
            rest = Bytes::new();
            Some(Err(error))
        }
    })
}

/// Compares the stored CRC of the batch that is exactly `batch` with its bytes.
///
/// # Errors
/// [`BatchError::CrcMismatch`], or [`BatchError::Incomplete`] if it is shorter than a header.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let stored = BatchHeader::parse(batch)?.crc;
    let computed = crc32c(&batch[ATTRIBUTES_AT..]);
    match stored == computed {
        true => Ok(()),
        false => Err(BatchError::CrcMismatch { stored, computed }),
    }
}

/// Sets base offset and leader epoch of the batch that starts at `batch[0]`, in place. The CRC does not cover them.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn assign_offsets(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Sets who sent the batch that is exactly `batch`, in place, and seals it again: what a producer does when a batch is
/// drained or, after an epoch bump, sent anew.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_producer(batch: &mut [u8], producer_id: i64, producer_epoch: i16, base_sequence: i32) {
    batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&producer_epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&base_sequence.to_be_bytes());
    seal(batch);
}

/// Makes `timestamp` (milliseconds since 1970) the log append time of the batch that is exactly `batch`, and seals it again.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_log_append_time(batch: &mut [u8], timestamp: i64) {
    let attributes = i16::from_be_bytes([batch[21], batch[22]]) | ATTRIBUTE_LOG_APPEND_TIME;
    batch[ATTRIBUTES_AT..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&timestamp.to_be_bytes());
    seal(batch);
}

/// As [`set_log_append_time`], for records that cannot be written to: the header that goes in front of `records` (everything
/// behind the header of the same batch), with its new CRC.
pub fn with_log_append_time(header: &BatchHeader, timestamp: i64, records: &[u8]) -> BatchHeader {
    let attributes = header.attributes | ATTRIBUTE_LOG_APPEND_TIME;
    with_max_timestamp(
        &BatchHeader {
            attributes,
            ..*header
        },
        timestamp,
        records,
    )
}

/// The header with another newest timestamp and its new CRC; `records` is everything behind the header of the same batch.
pub fn with_max_timestamp(header: &BatchHeader, timestamp: i64, records: &[u8]) -> BatchHeader {
    let mut header = BatchHeader {
        max_timestamp: timestamp,
        ..*header
    };
    let mut bytes = [0; HEADER_BYTES];
    header.write(&mut bytes);
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes[ATTRIBUTES_AT..]);
    digest.update(records);
    header.crc = digest.finalize() as u32;
    header
}

/// Recomputes the CRC of the batch that is exactly `batch`.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// Attribute bits for a batch.
pub(crate) fn attributes(
    compression: Compression,
    timestamp_type: TimestampType,
    transactional: bool,
    control: bool,
) -> i16 {
    let mut bits = compression as i16;
    if timestamp_type == TimestampType::LogAppendTime {
        bits |= ATTRIBUTE_LOG_APPEND_TIME;
    }
    if transactional {
        bits |= ATTRIBUTE_TRANSACTIONAL;
    }
    if control {
        bits |= ATTRIBUTE_CONTROL;
    }
    bits
}

/// The content of a control record. Source: Kafka `ControlRecordType`, `EndTransactionMarker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// The producer's transaction is committed.
    Commit {
        /// Epoch of the transaction coordinator that says so.
        coordinator_epoch: i32,
    },
    /// The producer's transaction is aborted.
    Abort {
        /// Epoch of the transaction coordinator that says so.
        coordinator_epoch: i32,
    },
    /// Leader changes, snapshot headers and the like: only in a controller's log. Skip it.
    Other(i16),
}

impl ControlRecord {
    /// From the key (`i16 version, i16 type`) and value (`i16 version, i32 coordinator epoch`); `None` if they are malformed.
    /// Newer versions may append fields, which are not read.
    pub fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Self> {
        let key = key?.first_chunk::<4>()?;
        let kind = i16::from_be_bytes([key[2], key[3]]);
        if !(0..=1).contains(&kind) {
            return Some(Self::Other(kind));
        }
        let value = value?.first_chunk::<6>()?;
        if i16::from_be_bytes([value[0], value[1]]) < 0 {
            return None;
        }
        let coordinator_epoch = i32::from_be_bytes([value[2], value[3], value[4], value[5]]);
        Some(match kind {
            0 => Self::Abort { coordinator_epoch },
            _ => Self::Commit { coordinator_epoch },
        })
    }

    /// Key and value of a transaction marker, both in version 0.
    ///
    /// # Panics
    /// For [`Self::Other`]: the records of a controller's log are not made here.
    pub(crate) fn encode(self) -> ([u8; 4], [u8; 6]) {
        let (kind, coordinator_epoch) = match self {
            Self::Abort { coordinator_epoch } => (0, coordinator_epoch),
            Self::Commit { coordinator_epoch } => (1, coordinator_epoch),
            Self::Other(_) => unreachable!("only transaction markers are written"),
        };
        let mut value = [0; 6];
        value[2..].copy_from_slice(&i32::to_be_bytes(coordinator_epoch));
        ([0, 0, 0, kind], value)
    }
}

#[cfg(test)]
mod tests;
