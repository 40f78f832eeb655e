//! One record inside a batch: varints, key and value that may be null or empty, headers in order and with duplicates.
//!
//! `batch.rs` walks records with [`RecordRef::parse`] (borrowed, nothing allocated) and hands out [`Record`]s (slices that
//! share the batch's buffer). `builder.rs` writes them with `encode`. This file knows nothing of batches.
//!
//! ```text
//! varint length of what follows
//! i8     attributes, unused
//! varlong timestamp - base timestamp of the batch       varint offset - base offset of the batch
//! varint key length or -1 | key      varint value length or -1 | value
//! varint number of headers { varint key length | key   varint value length or -1 | value }
//! ```
//! All varints are zigzag encoded. Source: Kafka `DefaultRecord`.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// A header as the codec sees it: key (UTF-8 by convention, not checked) and value, which may be null.
pub type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// A record whose bytes do not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordError(pub &'static str);

/// One record of a batch. Key, value and headers share the batch's buffer: they are slices, not copies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Position in the partition.
    pub offset: i64,
    /// Milliseconds since 1970; the producer's time or the broker's, as the batch says.
    pub timestamp: i64,
    /// Null and empty differ.
    pub key: Option<Bytes>,
    /// Null is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// In the producer's order, duplicates kept.
    pub headers: Headers,
}

/// The headers of one record, kept as they stand on the wire and parsed when asked.
#[derive(Clone, Default, PartialEq)]
pub struct Headers {
    count: u32,
    bytes: Bytes,
}

impl Headers {
    /// Encodes headers; for records that were not read from a batch.
    pub fn from_pairs<'a>(headers: impl IntoIterator<Item = HeaderRef<'a>>) -> Self {
        let mut bytes = BytesMut::new();
        let mut count = 0;
        for (key, value) in headers {
            put_bytes(&mut bytes, Some(key));
            put_bytes(&mut bytes, value);
            count += 1;
        }
        Self {
            count,
            bytes: bytes.freeze(),
        }
    }

    /// Number of headers.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Key and value of each header, in order.
    pub fn iter(&self) -> HeaderIter<'_> {
        HeaderIter {
            remaining: self.count,
            rest: &self.bytes,
        }
    }

    /// As [`Self::iter`], but as text and as slices that outlive the record.
    pub fn iter_owned(&self) -> impl Iterator<Item = (Cow<'_, str>, Option<Bytes>)> {
        self.iter().map(|(key, value)| {
            let value = value.map(|value| self.bytes.slice_ref(value));
            (String::from_utf8_lossy(key), value)
        })
    }

    /// Value of the last header with this key: `None` if there is no such header, `Some(None)` if it is null.
    pub fn last(&self, key: &str) -> Option<Option<&[u8]>> {
        let matches = self.iter().filter(|(name, _)| *name == key.as_bytes());
        matches.last().map(|(_, value)| value)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(key, value)| {
                (
                    String::from_utf8_lossy(key),
                    value.map(|value| value.escape_ascii().to_string()),
                )
            }))
            .finish()
    }
}

impl<'a> FromIterator<HeaderRef<'a>> for Headers {
    fn from_iter<I: IntoIterator<Item = HeaderRef<'a>>>(headers: I) -> Self {
        Self::from_pairs(headers)
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = HeaderRef<'a>;
    type IntoIter = HeaderIter<'a>;
    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// Iterator over the headers of one record.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    remaining: u32,
    rest: &'a [u8],
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = HeaderRef<'a>;
    fn next(&mut self) -> Option<HeaderRef<'a>> {
        if self.remaining == 0 {
            return None;
        }
        self.remaining -= 1;
        let checked = "the headers were walked when the record was parsed";
        let key = take_bytes(&mut self.rest).expect(checked).expect(checked);
        let value = take_bytes(&mut self.rest).expect(checked);
        Some((key, value))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}

/// One record, borrowed from the decompressed bytes of its batch: what validation and compaction look at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordRef<'a> {
    /// Offset minus the batch's base offset.
    pub offset_delta: i32,
    /// Timestamp minus the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Null and empty differ.
    pub key: Option<&'a [u8]>,
    /// Null is a tombstone.
    pub value: Option<&'a [u8]>,
    header_count: u32,
    header_bytes: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// Takes one record off the front of `rest`.
    ///
    /// # Errors
    /// The record is cut, a length is negative or reaches out of the record, or bytes are left over inside it.
    pub fn parse(rest: &mut &'a [u8]) -> Result<Self, RecordError> {
        let length = usize::try_from(take_varint(rest)?)
            .map_err(|_| RecordError("record length is negative"))?;
        let (mut body, tail) = rest
            .split_at_checked(length)
            .ok_or(RecordError("record is longer than its batch"))?;
        *rest = tail;
        let (_attributes, after) = body.split_first().ok_or(RecordError("record is empty"))?;
        body = after;
        let timestamp_delta = take_varlong(&mut body)?;
        let offset_delta = take_varint(&mut body)?;
        let key = take_bytes(&mut body)?;
        let value = take_bytes(&mut body)?;
        let header_count = u32::try_from(take_varint(&mut body)?)
            .map_err(|_| RecordError("header count is negative"))?;
        let header_bytes = body;
        for _ in 0..header_count {
            take_bytes(&mut body)?.ok_or(RecordError("header key is null"))?;
            take_bytes(&mut body)?;
        }
        if !body.is_empty() {
            return Err(RecordError("bytes are left over at the end of a record"));
        }
        Ok(Self {
            offset_delta,
            timestamp_delta,
            key,
            value,
            header_count,
            header_bytes,
        })
    }

    /// Key and value of each header, in order.
    pub fn headers(&self) -> HeaderIter<'a> {
        HeaderIter {
            remaining: self.header_count,
            rest: self.header_bytes,
        }
    }

    /// Number of headers, and their bytes.
    pub(crate) fn raw_headers(&self) -> (u32, &'a [u8]) {
        (self.header_count, self.header_bytes)
    }

    /// The same record as slices of `buffer`, which must be the bytes it was parsed from.
    pub(crate) fn to_record(self, buffer: &Bytes, offset: i64, timestamp: i64) -> Record {
        let slice = |part: &[u8]| buffer.slice_ref(part);
        Record {
            offset,
            timestamp,
            key: self.key.map(slice),
            value: self.value.map(slice),
            headers: Headers {
                count: self.header_count,
                bytes: slice(self.header_bytes),
            },
        }
    }
}

/// What `encode` writes besides offset and timestamp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: EncodeHeaders<'a>,
}

/// Headers to be written: as pairs, or as they stood in another batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EncodeHeaders<'a> {
    Pairs(&'a [HeaderRef<'a>]),
    Encoded(&'a Headers),
    Raw((u32, &'a [u8])),
}

/// Appends one record to `output`; exactly [`encoded_len`] bytes.
pub(crate) fn encode(
    output: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    body: &Body<'_>,
) {
    let length = body_len(timestamp_delta, offset_delta, body);
    output.reserve(length + varint_len(length as i64));
    put_varint(output, length as i64);
    output.push(0);
    put_varint(output, timestamp_delta);
    put_varint(output, i64::from(offset_delta));
    put_bytes(output, body.key);
    put_bytes(output, body.value);
    match body.headers {
        EncodeHeaders::Pairs(pairs) => {
            put_varint(output, pairs.len() as i64);
            for (key, value) in pairs {
                put_bytes(output, Some(key));
                put_bytes(output, *value);
            }
        }
        EncodeHeaders::Encoded(headers) => {
            put_varint(output, i64::from(headers.count));
            output.extend_from_slice(&headers.bytes);
        }
        EncodeHeaders::Raw((count, bytes)) => {
            put_varint(output, i64::from(count));
            output.extend_from_slice(bytes);
        }
    }
}

/// Size of a record on the wire, its length prefix included.
pub(crate) fn encoded_len(timestamp_delta: i64, offset_delta: i32, body: &Body<'_>) -> usize {
    let length = body_len(timestamp_delta, offset_delta, body);
    length + varint_len(length as i64)
}

fn body_len(timestamp_delta: i64, offset_delta: i32, body: &Body<'_>) -> usize {
    let headers = match body.headers {
        EncodeHeaders::Pairs(pairs) => {
            let each = |(key, value): &HeaderRef<'_>| bytes_len(Some(key)) + bytes_len(*value);
            varint_len(pairs.len() as i64) + pairs.iter().map(each).sum::<usize>()
        }
        EncodeHeaders::Encoded(headers) => {
            varint_len(i64::from(headers.count)) + headers.bytes.len()
        }
        EncodeHeaders::Raw((count, bytes)) => varint_len(i64::from(count)) + bytes.len(),
    };
    1 + varint_len(timestamp_delta)
        + varint_len(i64::from(offset_delta))
        + bytes_len(body.key)
        + bytes_len(body.value)
        + headers
}

fn bytes_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_len(bytes.len() as i64) + bytes.len())
}

fn put_bytes(output: &mut impl BufMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(output, -1),
        Some(bytes) => {
            put_varint(output, bytes.len() as i64);
            output.put_slice(bytes);
        }
    }
}

/// Number of bytes of a zigzag varint.
fn varint_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (70 - (zigzag | 1).leading_zeros() as usize) / 7
}

fn put_varint(output: &mut impl BufMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = [0; 10];
    let mut length = 0;
    while zigzag >= 0x80 {
        bytes[length] = zigzag as u8 | 0x80;
        zigzag >>= 7;
        length += 1;
    }
    bytes[length] = zigzag as u8;
    output.put_slice(&bytes[..=length]);
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    let length = match take_varint(rest)? {
        -1 => return Ok(None),
        length => usize::try_from(length).map_err(|_| RecordError("length is below -1"))?,
    };
    let (taken, tail) = rest
        .split_at_checked(length)
        .ok_or(RecordError("field reaches out of its record"))?;
    *rest = tail;
    Ok(Some(taken))
}

fn take_varint(rest: &mut &[u8]) -> Result<i32, RecordError> {
    // One byte is by far the most frequent.
    if let [byte @ ..0x80, tail @ ..] = rest {
        *rest = tail;
        return Ok(i32::from(*byte >> 1) ^ -i32::from(*byte & 1));
    }
    let value = take_unsigned(rest, 5)?;
    let zigzag = u32::try_from(value).map_err(|_| RecordError("varint is too large"))?;
    Ok((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
}

fn take_varlong(rest: &mut &[u8]) -> Result<i64, RecordError> {
    let zigzag = take_unsigned(rest, 10)?;
    Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

fn take_unsigned(rest: &mut &[u8], bytes_max: usize) -> Result<u64, RecordError> {
    let mut value = 0u64;
    for (i, byte) in rest.iter().take(bytes_max).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return Err(RecordError("varint is too large"));
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    Err(RecordError("varint is cut or too long"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn varints_take_the_bytes_kafka_gives_them() {
        // Kafka `ByteUtilsTest.testCorrectnessWriteVarint` and `...Varlong`.
        let cases: [(i64, &[u8]); 9] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ];
        for (value, bytes) in cases {
            let mut output = Vec::new();
            put_varint(&mut output, value);
            assert_eq!(output, bytes);
            assert_eq!(varint_len(value), bytes.len());
            assert_eq!(take_varlong(&mut &*output), Ok(value));
            if let Ok(value) = i32::try_from(value) {
                assert_eq!(take_varint(&mut &*output), Ok(value));
            }
        }
    }

    #[test]
    fn overlong_and_cut_varints_are_refused() {
        for bytes in [
            &[][..],
            &[0x80],
            &[0xff; 5],
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
        ] {
            assert!(take_varint(&mut &*bytes).is_err(), "{bytes:x?}");
        }
        for bytes in [
            &[0xff; 11][..],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert!(take_varlong(&mut &*bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn headers_keep_order_duplicates_null_and_empty() {
        let pairs: [HeaderRef<'_>; 4] = [
            (b"a", Some(b"1")),
            (b"b", None),
            (b"a", Some(b"")),
            (b"", Some(b"x")),
        ];
        let headers = Headers::from_pairs(pairs);
        assert_eq!(headers.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(headers.last("a"), Some(Some(&b""[..])));
        assert_eq!(headers.last("b"), Some(None));
        assert_eq!(headers.last("c"), None);
        assert_eq!(headers.len(), 4);
        assert_eq!(
            format!("{headers:?}"),
            r#"[("a", Some("1")), ("b", None), ("a", Some("")), ("", Some("x"))]"#
        );
    }

    fn check_refused(record: &[u8], reason: &str) {
        assert_eq!(RecordRef::parse(&mut &*record).unwrap_err().0, reason);
    }

    #[test]
    fn malformed_records_are_refused_by_name() {
        check_refused(&[0x01], "record length is negative");
        check_refused(&[0x20, 0, 0], "record is longer than its batch");
        check_refused(&[0x00], "record is empty");
        check_refused(&[0x0c, 0, 0, 0, 0x03, 0x01, 0x00], "length is below -1");
        check_refused(
            &[0x0c, 0, 0, 0, 0x20, 0x01, 0x00],
            "field reaches out of its record",
        );
        check_refused(
            &[0x0c, 0, 0, 0, 0x01, 0x01, 0x01],
            "header count is negative",
        );
        check_refused(
            &[0x10, 0, 0, 0, 0x01, 0x01, 0x02, 0x01, 0x01],
            "header key is null",
        );
        check_refused(
            &[0x0e, 0, 0, 0, 0x01, 0x01, 0x00, 0x00],
            "bytes are left over at the end of a record",
        );
        // A header count without headers: refused by the bytes that are missing, whatever it says.
        check_refused(
            &[0x14, 0, 0, 0, 0x01, 0x01, 0xfe, 0xff, 0xff, 0xff, 0x0f],
            "varint is cut or too long",
        );
    }

    proptest! {
        #[test]
        fn any_record_round_trips_in_exactly_the_counted_bytes(
            timestamp in any::<i64>(), offset in any::<i32>(),
            key in any::<Option<Vec<u8>>>(), value in any::<Option<Vec<u8>>>(),
            headers in proptest::collection::vec((any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..4),
        ) {
            let pairs: Vec<HeaderRef<'_>> = headers.iter().map(|(k, v)| (&k[..], v.as_deref())).collect();
            let body = Body { key: key.as_deref(), value: value.as_deref(), headers: EncodeHeaders::Pairs(&pairs) };
            let mut bytes = Vec::new();
            encode(&mut bytes, timestamp, offset, &body);
            prop_assert_eq!(bytes.len(), encoded_len(timestamp, offset, &body));
            let mut rest = &bytes[..];
            let parsed = RecordRef::parse(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!((parsed.timestamp_delta, parsed.offset_delta), (timestamp, offset));
            prop_assert_eq!((parsed.key, parsed.value), (key.as_deref(), value.as_deref()));
            prop_assert_eq!(parsed.headers().collect::<Vec<_>>(), pairs);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = RecordRef::parse(&mut &bytes[..]);
        }
    }
}
