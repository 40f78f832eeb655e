//! What a leader checks in batches before it appends them, and what it rewrites. Pure.
//!
//! `Log::append` calls [`validate`] before it takes any lock. A client's records are walked, and a compressed batch is opened for
//! that, up to a limit: a count that its records do not bear out would move the log's end by up to 2^31 offsets.
//! Source: Kafka `ProduceRequest.validateRecords`, `LogValidator`, `UnifiedLog.analyzeAndValidateRecords`.

use bytes::Bytes;
use flumen_protocol::batch::{
    self, BatchError, BatchHeader, ControlRecord, HEADER_BYTES, NO_TIMESTAMP, RecordBatch,
    TimestampType,
};
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::{Compression, CompressionError, DecompressionLimit};
use flumen_protocol::record::RecordRef;

use crate::AppendAs;
use crate::config::LogConfig;
use crate::error::AppendError;

/// A batch that may be appended, with what the log needs to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Valid {
    /// As it will be stored, but for base offset and leader epoch.
    pub(crate) header: BatchHeader,
    /// The whole batch as it came or was rewritten; its first 61 bytes are superseded by `header`.
    pub(crate) bytes: Bytes,
    /// Content of a control batch.
    pub(crate) marker: Option<ControlRecord>,
}

/// What batches are held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) config: &'a LogConfig,
    pub(crate) now_ms: i64,
    pub(crate) pace: Pace,
}

/// How long a check may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As long as it takes.
    Any,
    /// Others wait: what takes longer than a moment is [`AppendError::Costly`].
    Quick,
}

/// Bytes that are opened in a moment, about a millisecond.
const QUICK_BYTES: usize = 1 << 20;
/// Compressed bytes that hold more than that, as a rule; and the most that are compressed anew in a moment.
const QUICK_COMPRESSED_BYTES: usize = 64 << 10;

/// Checks all batches in `bytes`, in order.
pub(crate) fn validate(
    bytes: Bytes,
    how: &AppendAs,
    terms: Terms<'_>,
) -> Result<Vec<Valid>, AppendError> {
    let config = terms.config;
    let mut rest = bytes;
    let mut valid = Vec::with_capacity(1);
    let mut size = 0;
    while !rest.is_empty() {
        let batch = RecordBatch::parse(rest.clone()).map_err(refuse)?;
        rest = rest.slice(batch.bytes().len()..);
        let is_replica = matches!(how, AppendAs::Replica);
        if !is_replica {
            check_size(batch.bytes().len(), config)?;
        }
        batch.verify_crc().map_err(refuse)?;
        let checked = match how {
            AppendAs::Client { .. } => client_batch(batch, terms)?,
            AppendAs::Coordinator { .. } | AppendAs::Marker { .. } | AppendAs::Replica => {
                as_it_is(&batch)?
            }
        };
        size += checked.bytes.len();
        valid.push(checked);
    }
    if matches!(how, AppendAs::Client { .. }) && valid.len() != 1 {
        return Err(invalid(format!(
            "{} batches where one is expected",
            valid.len()
        )));
    }
    if size as u64 > config.segment_bytes {
        return Err(AppendError::RecordListTooLarge {
            size,
            limit: config.segment_bytes as usize,
        });
    }
    Ok(valid)
}

fn as_it_is(batch: &RecordBatch) -> Result<Valid, AppendError> {
    let header = *batch.header();
    if header.last_offset_delta < 0 {
        return Err(invalid("last offset delta is negative".into()));
    }
    // An emptied marker is left by compaction to keep the producer's last sequence.
    let marker = match header.is_control() && header.record_count > 0 {
        true => Some(batch.control_record().map_err(refuse)?),
        false => None,
    };
    Ok(Valid {
        header,
        bytes: batch.bytes().clone(),
        marker,
    })
}

fn client_batch(batch: RecordBatch, terms: Terms<'_>) -> Result<Valid, AppendError> {
    let Terms { config, now_ms, .. } = terms;
    check_header(batch.header())?;
    let codec = batch
        .header()
        .compression()
        .map_err(|error| refuse(error.into()))?;
    let target = config.compression.unwrap_or(codec);
    let is_plain = codec == Compression::None && target == Compression::None;
    let is_large = batch.bytes().len() > QUICK_COMPRESSED_BYTES;
    if terms.pace == Pace::Quick && is_large && !is_plain {
        return Err(AppendError::Costly);
    }
    let max_timestamp = check_records(&batch, terms)?;
    let batch = match target == codec {
        true => batch,
        false => recompress(&batch, target, config)?,
    };
    let mut header = *batch.header();
    let bytes = batch.bytes().clone();
    let records = &bytes[HEADER_BYTES..];
    if config.timestamp_type == TimestampType::LogAppendTime {
        header = batch::with_log_append_time(&header, now_ms, records);
    } else if header.max_timestamp != max_timestamp {
        // Searches by time and retention go by it, so it is the records' whatever their producer says.
        header = batch::with_max_timestamp(&header, max_timestamp, records);
    }
    Ok(Valid {
        header,
        bytes,
        marker: None,
    })
}

fn check_size(size: usize, config: &LogConfig) -> Result<(), AppendError> {
    match size > config.max_message_bytes {
        true => Err(AppendError::MessageTooLarge {
            size,
            limit: config.max_message_bytes,
        }),
        false => Ok(()),
    }
}

fn check_header(header: &BatchHeader) -> Result<(), AppendError> {
    let (count, last) = (header.record_count, header.last_offset_delta);
    let problem = if header.base_offset != 0 {
        format!("base offset is {}, must be 0", header.base_offset)
    } else if header.is_control() {
        "clients may not write control batches".into()
    } else if count <= 0 {
        format!("record count is {count}")
    } else if last != count - 1 {
        format!("{count} records end at offset delta {last}")
    } else if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        "a producer id without epoch and sequence".into()
    } else if header.is_transactional() && !header.has_producer_id() {
        "a transaction without a producer id".into()
    } else if header.delete_horizon().is_some() {
        "clients may not set a delete horizon".into()
    } else if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(AppendError::InvalidTimestamp {
            message: "producers may not set the timestamp type LogAppendTime".into(),
            records: Vec::new(),
        });
    } else {
        return Ok(());
    };
    Err(invalid(problem))
}

fn timestamp_problem(timestamp: i64, config: &LogConfig, now_ms: i64) -> Option<String> {
    if timestamp == NO_TIMESTAMP {
        return None;
    }
    let (after, before) = (
        config.timestamp_after_max_ms,
        config.timestamp_before_max_ms,
    );
    if timestamp.saturating_sub(now_ms) > after {
        return Some(format!(
            "timestamp {timestamp} is more than {after} ms after the broker's clock at {now_ms}"
        ));
    }
    (now_ms.saturating_sub(timestamp) > before).then(|| {
        format!(
            "timestamp {timestamp} is more than {before} ms before the broker's clock at {now_ms}"
        )
    })
}

/// Most records of one batch that an error names: a batch of a megabyte can hold millions, and the answer would be hundreds of times
/// its size.
const RECORD_ERRORS_MAX: usize = 100;
/// Most headers of one record.
const RECORD_HEADERS_MAX: usize = 1_024;

/// Walks the records: their form, offsets, timestamps and keys. Returns the newest timestamp.
fn check_records(batch: &RecordBatch, terms: Terms<'_>) -> Result<i64, AppendError> {
    let Terms { config, now_ms, .. } = terms;
    let header = batch.header();
    let payload = opened(batch, terms)?;
    let mut rest = &payload[..];
    let mut keyless = Vec::new();
    let mut late = Vec::new();
    let mut max_timestamp = NO_TIMESTAMP;
    let named = |list: &Vec<(i32, String)>| list.len() < RECORD_ERRORS_MAX;
    for index in 0..header.record_count {
        let record = RecordRef::parse(&mut rest)
            .map_err(|error| invalid(format!("record {index}: {error}")))?;
        if record.offset_delta != index {
            return Err(invalid(format!(
                "record {index} has offset delta {}",
                record.offset_delta
            )));
        }
        let headers = record.headers().len();
        if headers > RECORD_HEADERS_MAX {
            return Err(invalid(format!(
                "record {index} has {headers} headers, but at most {RECORD_HEADERS_MAX} are allowed"
            )));
        }
        if config.cleanup_policy.compact && record.key.is_none() && named(&keyless) {
            keyless.push((
                index,
                "a record of a compacted topic needs a key".to_owned(),
            ));
        }
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        max_timestamp = max_timestamp.max(timestamp);
        if config.timestamp_type == TimestampType::CreateTime
            && named(&late)
            && let Some(problem) = timestamp_problem(timestamp, config, now_ms)
        {
            late.push((index, problem));
        }
    }
    if !rest.is_empty() {
        return Err(invalid(format!(
            "bytes are left over after {} records",
            header.record_count
        )));
    }
    if !late.is_empty() {
        return Err(AppendError::InvalidTimestamp {
            message: late[0].1.clone(),
            records: late,
        });
    }
    match keyless.is_empty() {
        true => Ok(max_timestamp),
        false => Err(AppendError::InvalidRecord {
            message: keyless[0].1.clone(),
            records: keyless,
        }),
    }
}

/// The records' bytes.
fn opened(batch: &RecordBatch, terms: Terms<'_>) -> Result<Bytes, AppendError> {
    let limit = decompression_limit(terms.config);
    if terms.pace == Pace::Any || limit.0 <= QUICK_BYTES {
        return batch.payload(limit).map_err(refuse);
    }
    match batch.payload(DecompressionLimit(QUICK_BYTES)) {
        Err(BatchError::Compression(CompressionError::TooLarge { .. })) => Err(AppendError::Costly),
        payload => payload.map_err(refuse),
    }
}

/// The same records under another codec.
fn recompress(
    batch: &RecordBatch,
    codec: Compression,
    config: &LogConfig,
) -> Result<RecordBatch, AppendError> {
    let header = batch.header();
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: codec,
        base_offset: header.base_offset,
        leader_epoch: header.partition_leader_epoch,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transactional: header.is_transactional(),
        control: false,
        timestamp_type: TimestampType::CreateTime,
    });
    for record in batch.records(decompression_limit(config)).map_err(refuse)? {
        builder.push_record(&record.map_err(refuse)?);
    }
    let rewritten = RecordBatch::parse(builder.build()).map_err(refuse)?;
    check_size(rewritten.bytes().len(), config)?;
    Ok(rewritten)
}

/// A batch of `max.message.bytes` may hold this much, decompressed: text of logs shrinks to a twentieth, rarely to less.
fn decompression_limit(config: &LogConfig) -> DecompressionLimit {
    let generous = config.max_message_bytes.saturating_mul(32);
    DecompressionLimit(generous.clamp(1 << 20, DecompressionLimit::DEFAULT.0))
}

fn invalid(message: String) -> AppendError {
    AppendError::InvalidRecord {
        message,
        records: Vec::new(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refuse(error: BatchError) -> AppendError {
    match error {
        BatchError::OldMagic(magic) => AppendError::UnsupportedFormat(magic),
        BatchError::InvalidRecord { .. } => invalid(error.to_string()),
        BatchError::Compression(CompressionError::Unknown(codec)) => {
            AppendError::UnsupportedCompression(codec)
        }
        BatchError::Compression(CompressionError::TooLarge { limit }) => {
            AppendError::MessageTooLarge {
                size: limit + 1,
                limit,
            }
        }
        BatchError::Incomplete { .. }
        | BatchError::Corrupt(_)
        | BatchError::CrcMismatch { .. }
        | BatchError::Compression(_) => AppendError::CorruptMessage(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
