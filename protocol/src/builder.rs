//! Records in, one batch out.
//!
//! Used by producers, by coordinators that write their own topics, and by the log when it must recompress. One buffer holds
//! header and records; with a codec there is a second one for the compressed batch. Nothing is allocated per record.

use bytes::{Bytes, BytesMut};

use crate::batch::{
    self, BatchHeader, ControlRecord, HEADER_BYTES, LOG_OVERHEAD, MAGIC, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType,
};
use crate::compression::{self, Compression};
use crate::record::{self, Body, EncodeHeaders, HeaderRef, Record};

/// Everything in the header that does not follow from the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Codec of the records.
    pub compression: Compression,
    /// Offset of the first record; 0 from a producer.
    pub base_offset: i64,
    /// Epoch of the leader; -1 from a producer.
    pub leader_epoch: i32,
    /// -1 without idempotence.
    pub producer_id: i64,
    /// -1 without idempotence.
    pub producer_epoch: i16,
    /// -1 without idempotence.
    pub base_sequence: i32,
    /// Part of a transaction.
    pub transactional: bool,
    /// Control batch; see [`end_txn_marker`].
    pub control: bool,
    /// `CreateTime` from a producer.
    pub timestamp_type: TimestampType,
}

impl Default for BatchOptions {
    /// What a producer without idempotence sends, uncompressed.
    fn default() -> Self {
        Self {
            compression: Compression::None,
            base_offset: 0,
            leader_epoch: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            transactional: false,
            control: false,
            timestamp_type: TimestampType::CreateTime,
        }
    }
}

/// Collects records into one batch.
///
/// The producer's id, epoch and sequence may be given at the end ([`Self::set_producer`]) or be changed on the finished bytes
/// ([`batch::set_producer`]): a batch is often filled before they are known.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// A header's worth of zeros, then the records uncompressed.
    buffer: Vec<u8>,
    base_timestamp: i64,
    max_timestamp: i64,
    next_offset_delta: i32,
    record_count: i32,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(options: BatchOptions) -> Self {
        Self::with_capacity(options, 0)
    }

    /// An empty batch with room for `bytes` bytes before the buffer grows.
    pub fn with_capacity(options: BatchOptions, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes.max(HEADER_BYTES));
        buffer.resize(HEADER_BYTES, 0);
        Self {
            options,
            buffer,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            next_offset_delta: 0,
            record_count: 0,
        }
    }

    /// Appends a record at the next offset. `timestamp` is in milliseconds since 1970. Headers keep order and duplicates.
    ///
    /// # Panics
    /// If the batch would be larger than 2 GiB: callers bound batches far below.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) {
        let headers = EncodeHeaders::Pairs(headers);
        let delta = self.next_offset_delta;
        self.push_body(
            delta,
            timestamp,
            &Body {
                key,
                value,
                headers,
            },
        );
    }

    /// Appends a record read from another batch, at the next offset; its own offset is not used, its headers are not parsed.
    ///
    /// # Panics
    /// As [`Self::push`].
    pub fn push_record(&mut self, record: &Record) {
        let delta = self.next_offset_delta;
        self.push_body(delta, record.timestamp, &body_of(record));
    }

    /// Appends a record at its own offset, which may leave a gap behind the previous one, as compaction does.
    ///
    /// # Panics
    /// As [`Self::push`]; and if the offset is not above the previous one, or more than `i32::MAX` above the base offset.
    pub fn push_at_offset(&mut self, record: &Record) {
        let delta = i32::try_from(record.offset - self.options.base_offset)
            .expect("the offset is within i32::MAX of the base offset");
        assert!(delta >= self.next_offset_delta, "offsets go up");
        self.push_body(delta, record.timestamp, &body_of(record));
    }

    fn push_body(&mut self, offset_delta: i32, timestamp: i64, body: &Body<'_>) {
        if self.record_count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        record::encode(&mut self.buffer, timestamp_delta, offset_delta, body);
        assert!(
            i32::try_from(self.buffer.len()).is_ok() && offset_delta < i32::MAX,
            "a batch is smaller than 2 GiB"
        );
        self.next_offset_delta = offset_delta + 1;
        self.record_count += 1;
    }

    /// Bytes that [`Self::push`] would add for such a record.
    pub fn size_of(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> usize {
        let timestamp_delta = match self.record_count {
            0 => 0,
            _ => timestamp.wrapping_sub(self.base_timestamp),
        };
        let headers = EncodeHeaders::Pairs(headers);
        record::encoded_len(
            timestamp_delta,
            self.next_offset_delta,
            &Body {
                key,
                value,
                headers,
            },
        )
    }

    /// Size of the batch in bytes before compression, header included.
    pub fn estimated_size(&self) -> usize {
        self.buffer.len()
    }

    /// Number of records so far.
    pub fn record_count(&self) -> usize {
        self.record_count as usize
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Largest timestamp so far, in milliseconds since 1970; -1 without records.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Sets the producer of a batch that is not finished.
    pub fn set_producer(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        self.options.producer_id = producer_id;
        self.options.producer_epoch = producer_epoch;
        self.options.base_sequence = base_sequence;
    }

    /// The finished batch.
    pub fn build(self) -> Bytes {
        Bytes::from(self.into_vec())
    }

    /// The finished batch, still writable, for [`batch::set_producer`] and [`batch::assign_offsets`].
    pub fn build_mut(self) -> BytesMut {
        BytesMut::from(self.build())
    }

    fn into_vec(self) -> Vec<u8> {
        let mut bytes = match self.options.compression {
            Compression::None => self.buffer,
            codec => {
                let mut compressed = Vec::with_capacity(HEADER_BYTES + self.buffer.len() / 2);
                compressed.resize(HEADER_BYTES, 0);
                compression::compress(codec, &self.buffer[HEADER_BYTES..], &mut compressed);
                compressed
            }
        };
        let options = self.options;
        let header = BatchHeader {
            base_offset: options.base_offset,
            batch_length: i32::try_from(bytes.len() - LOG_OVERHEAD)
                .expect("a batch is smaller than 2 GiB"),
            partition_leader_epoch: options.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes: batch::attributes(
                options.compression,
                options.timestamp_type,
                options.transactional,
                options.control,
            ),
            last_offset_delta: (self.next_offset_delta - 1).max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.record_count,
        };
        header.write(&mut bytes);
        batch::seal(&mut bytes);
        bytes
    }
}

fn body_of(record: &Record) -> Body<'_> {
    Body {
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: EncodeHeaders::Encoded(&record.headers),
    }
}

/// What a transaction marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Whose transaction ends.
    pub producer_id: i64,
    /// The producer's epoch: the one after the transaction's under TV2, the same before.
    pub producer_epoch: i16,
    /// Committed, else aborted.
    pub commit: bool,
    /// Epoch of the coordinator that writes it.
    pub coordinator_epoch: i32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// The control batch that ends a transaction in a partition; base offset 0, to be set by the log.
/// Source: Kafka `MemoryRecords.withEndTransactionMarker`, `EndTransactionMarker`.
pub fn end_txn_marker(marker: &EndTxnMarker) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        transactional: true,
        control: true,
        ..BatchOptions::default()
    });
    let (key, value) = match marker.commit {
        true => ControlRecord::Commit {
            coordinator_epoch: marker.coordinator_epoch,
        },
        false => ControlRecord::Abort {
            coordinator_epoch: marker.coordinator_epoch,
        },
    }
    .encode();
    builder.push(marker.timestamp, Some(&key), Some(&value), &[]);
    builder.build()
}
