//! Collects the bytes of a message. Records are not copied: the result is a list of segments, in
//! the order of the wire. Used by generated code and `frame.rs`; never does IO.

use bytes::{BufMut, Bytes, BytesMut};

use super::{EncodeError, Message, TaggedFields, Wire, put_unsigned_varint};
use crate::id::TopicId;
use crate::segment::{Records, Segment};

/// Collects a message (or several) as segments: bytes in memory, and ranges of files that were
/// never read.
///
/// All small fields go into one buffer; a large `records` field is only noted with the place where
/// it belongs, so a fetch response of 1 MiB costs some hundred bytes of copying.
#[derive(Debug, Default)]
pub struct Writer {
    buf: BytesMut,
    /// What goes between the bytes of `buf`: position in `buf`, and the segment to insert there.
    /// Ascending.
    inserted: Vec<(usize, Segment)>,
    flexible: bool,
    message: &'static str,
}

/// A tagged field being written, between [`Writer::begin_tag`] and [`Writer::end_tag`].
#[derive(Clone, Copy, Debug)]
pub struct OpenTag {
    start: usize,
}

impl Writer {
    /// Records of at most this many bytes are copied: a segment of their own would cost more.
    const COPIED_MAX: usize = 1_024;
    /// Longest string that Kafka writes, in bytes.
    const STRING_MAX: usize = i16::MAX as usize;

    /// Starts empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a message: checks the version, notes the encoding, and names the message in errors.
    ///
    /// # Errors
    /// [`EncodeError::UnsupportedVersion`].
    pub fn begin<M: Message>(&mut self, version: i16) -> Result<(), EncodeError> {
        let (min, max) = (M::MIN_VERSION, M::MAX_VERSION);
        if version < min || version > max {
            let message = M::NAME;
            return Err(EncodeError::UnsupportedVersion {
                message,
                version,
                min,
                max,
            });
        }
        self.begin_part(M::NAME, M::is_flexible(version));
        Ok(())
    }

    /// As [`Writer::begin`] for what is no message of its own (headers).
    pub(crate) fn begin_part(&mut self, name: &'static str, flexible: bool) {
        self.message = name;
        self.flexible = flexible;
    }

    /// Number of bytes so far, those of files included.
    pub fn len(&self) -> usize {
        self.buf.len() + self.inserted.iter().map(|(_, s)| s.len()).sum::<usize>()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything that was written, as segments in the order of the wire.
    pub fn into_segments(self) -> Vec<Segment> {
        let bytes = self.buf.freeze();
        let mut segments = Vec::with_capacity(2 * self.inserted.len() + 1);
        let mut done = 0;
        for (at, segment) in self.inserted {
            if at > done {
                segments.push(Segment::Bytes(bytes.slice(done..at)));
            }
            segments.push(segment);
            done = at;
        }
        if done < bytes.len() {
            segments.push(Segment::Bytes(bytes.slice(done..)));
        }
        segments
    }

    /// Everything that was written, in one piece. Copies records that were kept apart.
    ///
    /// # Errors
    /// [`EncodeError::FileRecords`]: part of it is in a file.
    pub fn into_bytes(self) -> Result<Bytes, EncodeError> {
        if self.inserted.is_empty() {
            return Ok(self.buf.freeze());
        }
        let message = self.message;
        let mut whole = BytesMut::with_capacity(self.len());
        for segment in self.into_segments() {
            match segment {
                Segment::Bytes(bytes) => whole.put_slice(&bytes),
                Segment::File(_) => return Err(EncodeError::FileRecords { message }),
            }
        }
        Ok(whole.freeze())
    }

    /// Writes the number of bytes that follow it into the first four bytes, which the caller has
    /// left free.
    pub(crate) fn set_length_prefix(&mut self) -> Result<(), EncodeError> {
        let len = self.len() - 4;
        let Ok(prefix) = i32::try_from(len) else {
            return Err(self.too_long("frame", len));
        };
        self.buf[..4].copy_from_slice(&prefix.to_be_bytes());
        Ok(())
    }

    #[cold]
    fn too_long(&self, field: &'static str, len: usize) -> EncodeError {
        let message = self.message;
        EncodeError::TooLong {
            message,
            field,
            len,
        }
    }

    /// The error for a field that is set and that `version` does not have.
    #[cold]
    pub fn unsupported(&self, field: &'static str, version: i16) -> EncodeError {
        let message = self.message;
        EncodeError::UnsupportedField {
            message,
            field,
            version,
        }
    }

    /// The value of a field that may be null in later versions, but not in this one.
    ///
    /// # Errors
    /// [`EncodeError::UnexpectedNull`].
    pub fn present<'a, T>(
        &self,
        field: &'static str,
        value: &'a Option<T>,
    ) -> Result<&'a T, EncodeError> {
        let message = self.message;
        value
            .as_ref()
            .ok_or(EncodeError::UnexpectedNull { message, field })
    }

    /// One byte, 1 or 0.
    pub fn bool(&mut self, value: bool) {
        self.buf.put_u8(u8::from(value));
    }

    /// One byte.
    pub fn i8(&mut self, value: i8) {
        self.buf.put_i8(value);
    }

    /// Two bytes, big-endian, as all numbers.
    pub fn i16(&mut self, value: i16) {
        self.buf.put_i16(value);
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.buf.put_u16(value);
    }

    /// Four bytes.
    pub fn i32(&mut self, value: i32) {
        self.buf.put_i32(value);
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.buf.put_u32(value);
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.buf.put_i64(value);
    }

    /// Eight bytes, IEEE 754.
    pub fn f64(&mut self, value: f64) {
        self.buf.put_f64(value);
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: TopicId) {
        self.buf.put_slice(&value.0);
    }

    /// One to five bytes, seven bits each, lowest first.
    pub fn unsigned_varint(&mut self, value: u32) {
        put_unsigned_varint(&mut self.buf, value);
    }

    /// The length of bytes or records, or the count of an array.
    fn long_len(&mut self, field: &'static str, len: Option<usize>) -> Result<(), EncodeError> {
        let len = match len {
            None => -1,
            Some(len) => i32::try_from(len).map_err(|_| self.too_long(field, len))?,
        };
        if self.flexible {
            self.unsigned_varint((len + 1).cast_unsigned());
        } else {
            self.buf.put_i32(len);
        }
        Ok(())
    }

    /// A string.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    pub fn string(&mut self, field: &'static str, value: &str) -> Result<(), EncodeError> {
        self.nullable_string(field, Some(value))
    }

    /// A string or null.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    pub fn nullable_string(
        &mut self,
        field: &'static str,
        value: Option<&str>,
    ) -> Result<(), EncodeError> {
        let len = value.map_or(0, str::len);
        if len > Self::STRING_MAX {
            return Err(self.too_long(field, len));
        }
        match (value, self.flexible) {
            (None, true) => self.buf.put_u8(0),
            (None, false) => self.buf.put_i16(-1),
            (Some(_), true) => self.unsigned_varint(len as u32 + 1),
            (Some(_), false) => self.buf.put_u16(len as u16),
        }
        self.buf.put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// Bytes.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    pub fn bytes(&mut self, field: &'static str, value: &Bytes) -> Result<(), EncodeError> {
        self.long_len(field, Some(value.len()))?;
        self.buf.put_slice(value);
        Ok(())
    }

    /// Bytes or null.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    pub fn nullable_bytes(
        &mut self,
        field: &'static str,
        value: &Option<Bytes>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(field, value),
            None => self.long_len(field, None),
        }
    }

    /// Record batches or null: their length here, and the batches themselves as a segment.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    pub fn records(
        &mut self,
        field: &'static str,
        value: &Option<Records>,
    ) -> Result<(), EncodeError> {
        self.long_len(field, value.as_ref().map(Records::len))?;
        match value {
            None => {}
            Some(records) if records.is_empty() => {}
            Some(Records::Bytes(bytes)) if bytes.len() <= Self::COPIED_MAX => {
                self.buf.put_slice(bytes);
            }
            Some(records) => self.inserted.push((self.buf.len(), records.clone().into())),
        }
        Ok(())
    }

    /// An array.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`], or what an element says.
    pub fn array<T: Wire>(
        &mut self,
        field: &'static str,
        items: &[T],
        version: i16,
    ) -> Result<(), EncodeError> {
        self.long_len(field, Some(items.len()))?;
        for item in items {
            item.write(self, field, version)?;
        }
        Ok(())
    }

    /// An array or null.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`], or what an element says.
    pub fn nullable_array<T: Wire>(
        &mut self,
        field: &'static str,
        items: &Option<Vec<T>>,
        version: i16,
    ) -> Result<(), EncodeError> {
        match items {
            Some(items) => self.array(field, items, version),
            None => self.long_len(field, None),
        }
    }

    /// A struct, or null: a byte says so (-1) or not (1).
    ///
    /// # Errors
    /// What the struct says.
    pub fn nullable_struct<T: Wire>(
        &mut self,
        field: &'static str,
        value: &Option<T>,
        version: i16,
    ) -> Result<(), EncodeError> {
        match value {
            None => self.i8(-1),
            Some(value) => {
                self.i8(1);
                value.write(self, field, version)?;
            }
        }
        Ok(())
    }

    /// How many tagged fields follow: those that are known and set, and the unknown ones.
    pub fn tag_count(&mut self, set: u32, unknown: &TaggedFields) {
        self.unsigned_varint(set + unknown.len() as u32);
    }

    /// Begins a known tagged field; write its content, then call [`Writer::end_tag`].
    pub fn begin_tag(&mut self, number: u32) -> OpenTag {
        self.unsigned_varint(number);
        OpenTag {
            start: self.buf.len(),
        }
    }

    /// Puts the size of a tagged field before its content.
    pub fn end_tag(&mut self, tag: OpenTag) {
        let end = self.buf.len();
        self.unsigned_varint((end - tag.start) as u32);
        let size_len = self.buf.len() - end;
        self.buf[tag.start..].rotate_right(size_len);
    }

    /// The tagged fields that were kept but are not known; those below `known` are, so a kept one
    /// must be at least that.
    ///
    /// # Errors
    /// [`EncodeError::TagOrder`].
    pub fn unknown_tags(&mut self, unknown: &TaggedFields, known: u32) -> Result<(), EncodeError> {
        let mut least = known;
        for (tag, content) in unknown {
            if *tag < least {
                let message = self.message;
                return Err(EncodeError::TagOrder { message, tag: *tag });
            }
            least = tag.saturating_add(1);
            self.unsigned_varint(*tag);
            self.unsigned_varint(content.len() as u32);
            self.buf.put_slice(content);
        }
        Ok(())
    }
}
