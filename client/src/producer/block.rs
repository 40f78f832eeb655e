//! Records encoded by the caller, thousands in one allocation.
//!
//! Owns [`RecordBlock`]: what [`Producer::send_batch`](crate::Producer::send_batch) takes. A block becomes exactly one record
//! batch of one partition. It knows no producer: id, epoch, sequence and the transactional mark are written into its header when it is sent.

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::Compression;
use flumen_protocol::record::{HeaderRef, Record};

/// Records on their way to one partition, already in the log's format.
///
/// Keep a block below the topic's `max.message.bytes` (1 MiB by default); a broker refuses a larger one as a whole.
///
/// ```
/// use flumen_client::{Compression, RecordBlock};
///
/// let mut block = RecordBlock::new(Compression::Lz4);
/// for i in 0..1000_i64 {
///     block.push(1_700_000_000_000 + i, Some(b"key"), Some(&i.to_be_bytes()), &[]);
/// }
/// assert_eq!(block.len(), 1000);
/// block.seal(); // compresses here, on this thread, instead of in send_batch
/// ```
#[derive(Debug)]
pub struct RecordBlock {
    form: Form,
    len: usize,
    max_timestamp: i64,
}

#[derive(Debug)]
enum Form {
    Open(BatchBuilder),
    Sealed(BytesMut),
}

impl RecordBlock {
    /// An empty block.
    #[must_use]
    pub fn new(compression: Compression) -> RecordBlock {
        RecordBlock::with_capacity(compression, 0)
    }

    /// An empty block with room for `bytes` bytes before its buffer grows.
    #[must_use]
    pub fn with_capacity(compression: Compression, bytes: usize) -> RecordBlock {
        let options = BatchOptions {
            compression,
            ..BatchOptions::default()
        };
        let builder = BatchBuilder::with_capacity(options, bytes);
        RecordBlock {
            form: Form::Open(builder),
            len: 0,
            max_timestamp: -1,
        }
    }

    /// Appends a record. `timestamp` in milliseconds since 1970; headers keep order and duplicates.
    ///
    /// # Panics
    /// After [`RecordBlock::seal`], or if the block would be larger than 2 GiB.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) {
        self.open().push(timestamp, key, value, headers);
        self.count(timestamp);
    }

    /// Appends a record that was consumed, with its timestamp and headers.
    ///
    /// # Panics
    /// As [`RecordBlock::push`].
    pub fn push_record(&mut self, record: &Record) {
        self.open().push_record(record);
        self.count(record.timestamp);
    }

    fn open(&mut self) -> &mut BatchBuilder {
        match &mut self.form {
            Form::Open(builder) => builder,
            Form::Sealed(_) => panic!("a sealed block takes no more records"),
        }
    }

    fn count(&mut self, timestamp: i64) {
        self.len += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Size in bytes: before compression while open, after it once sealed.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match &self.form {
            Form::Open(builder) => builder.estimated_size(),
            Form::Sealed(bytes) => bytes.len(),
        }
    }

    /// Compresses now, on this thread. Without it, `send_batch` does so on the caller's.
    pub fn seal(&mut self) {
        if let Form::Open(builder) = &mut self.form {
            let builder = std::mem::replace(builder, BatchBuilder::new(BatchOptions::default()));
            self.form = Form::Sealed(builder.build_mut());
        }
    }

    pub(crate) fn into_payload(mut self) -> (Payload, i64) {
        self.seal();
        match self.form {
            Form::Sealed(bytes) => (Payload::Sealed(bytes), self.max_timestamp),
            Form::Open(builder) => (Payload::Open(builder), self.max_timestamp),
        }
    }
}

impl From<BatchBuilder> for RecordBlock {
    /// The records of a builder; whatever it says of a producer is replaced when the block is sent.
    fn from(builder: BatchBuilder) -> RecordBlock {
        RecordBlock {
            len: builder.record_count(),
            max_timestamp: builder.max_timestamp(),
            form: Form::Open(builder),
        }
    }
}

/// The bytes of a batch that no partition state has numbered yet.
#[derive(Debug)]
pub(crate) enum Payload {
    Open(BatchBuilder),
    Sealed(BytesMut),
}

/// Position of the low byte of the attributes, and the bit that says "part of a transaction".
const ATTRIBUTES_LOW_AT: usize = 22;
const TRANSACTIONAL: u8 = 0x10;

impl Payload {
    pub(crate) fn size(&self) -> usize {
        match self {
            Payload::Open(builder) => builder.estimated_size(),
            Payload::Sealed(bytes) => bytes.len(),
        }
    }

    /// The finished batch, with its producer.
    pub(crate) fn number(self, stamp: &Stamp) -> Bytes {
        match self {
            Payload::Open(mut builder) => {
                builder.set_producer(stamp.producer_id, stamp.producer_epoch, stamp.base_sequence);
                builder.build()
            }
            Payload::Sealed(bytes) => stamp.write(bytes),
        }
    }
}

/// Who sends a batch, and as which of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) transactional: bool,
}

impl Stamp {
    /// Writes it into the header and computes the CRC anew.
    pub(crate) fn write(&self, mut batch: BytesMut) -> Bytes {
        if self.transactional {
            batch[ATTRIBUTES_LOW_AT] |= TRANSACTIONAL;
        }
        batch::set_producer(
            &mut batch,
            self.producer_id,
            self.producer_epoch,
            self.base_sequence,
        );
        batch.freeze()
    }

    /// The same for bytes that a request in flight may still share: then on a copy.
    pub(crate) fn rewrite(&self, batch: Bytes) -> Bytes {
        self.write(
            batch
                .try_into_mut()
                .unwrap_or_else(|shared| BytesMut::from(&shared[..])),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flumen_protocol::batch::RecordBatch;

    #[test]
    fn a_block_gets_its_producer_and_transaction_mark_when_it_is_sent() {
        let mut block = RecordBlock::new(Compression::None);
        block.push(5, Some(b"k"), None, &[]);
        block.push(9, None, Some(b"v"), &[]);
        assert_eq!((block.len(), block.max_timestamp), (2, 9));
        let stamp = Stamp {
            producer_id: 7,
            producer_epoch: 2,
            base_sequence: 11,
            transactional: true,
        };
        let (payload, _) = block.into_payload();
        let first = payload.number(&stamp);
        let batch = RecordBatch::parse(first.clone()).unwrap();
        batch.verify_crc().unwrap();
        assert!(batch.header().is_transactional());
        assert_eq!(
            (batch.header().producer_id, batch.header().base_sequence),
            (7, 11)
        );
        let again = Stamp {
            base_sequence: 0,
            producer_epoch: 3,
            ..stamp
        }
        .rewrite(first.clone());
        RecordBatch::parse(again).unwrap().verify_crc().unwrap();
        assert_eq!(
            RecordBatch::parse(first).unwrap().header().base_sequence,
            11
        );
    }
}
