//! The cursor that generated code reads with. Owns every check of hostile input; allocates nothing
//! that the bytes at hand do not pay for. Never does IO.

use bytes::Bytes;

use super::{DecodeError, Fault, Message, TaggedFields, Wire};
use crate::id::TopicId;
use crate::segment::Records;

/// A cursor over the bytes of a frame.
///
/// `bytes` and `records` fields are slices that share the frame; everything else is copied out.
/// What protects the process:
///
/// - every length and count is compared with the bytes that remain (÷ the smallest element) before
///   anything is allocated, and no more than 1,024 elements are reserved at once;
/// - a message may need [`Reader::BUDGET_FACTOR`] times its own bytes of memory plus
///   [`Reader::BUDGET_BASE`], see [`Reader::with_budget`];
/// - a message may hold so many array elements in all, see [`Reader::with_elements_max`];
/// - a struct may hold [`Reader::UNKNOWN_TAGS_MAX`] unknown tagged fields;
/// - nesting is that of the message's shape.
///
/// ```
/// use bytes::Bytes;
/// use flumen_protocol::codec::{Message, Reader};
/// use flumen_protocol::message::MetadataRequest;
///
/// // 2,147,483,647 topics in a frame of four bytes
/// let mut r = Reader::new(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]));
/// let error = MetadataRequest::decode(&mut r, 1).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "MetadataRequest.topics at byte 4: 2147483647 elements do not fit in the 0 bytes left"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    flexible: bool,
    message: &'static str,
    budget: usize,
    budget_left: usize,
    elements_max: usize,
    elements_left: usize,
}

/// The head of a tagged field, between [`Reader::tag`] and [`Reader::end_tag`].
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// Its number.
    pub number: u32,
    size: usize,
    start: usize,
}

impl Reader {
    /// Most unknown tagged fields in one struct.
    pub const UNKNOWN_TAGS_MAX: usize = 64;
    /// Bytes of memory that a decoded message may take per byte of its frame.
    pub const BUDGET_FACTOR: usize = 4;
    /// Bytes of memory that a decoded message may take whatever the size of its frame.
    pub const BUDGET_BASE: usize = 1 << 20;
    /// Most bytes of a string, in either encoding.
    pub const STRING_BYTES_MAX: usize = i16::MAX as usize;
    /// Most elements reserved at once.
    const RESERVED_MAX: usize = 1_024;

    /// Starts at the first byte, with the default memory budget.
    pub fn new(bytes: Bytes) -> Self {
        let budget = bytes.len() * Self::BUDGET_FACTOR + Self::BUDGET_BASE;
        Self::with_budget(bytes, budget)
    }

    /// Starts at the first byte; arrays, strings and tagged fields may take `budget` bytes of
    /// memory in all.
    pub fn with_budget(bytes: Bytes, budget: usize) -> Self {
        Self {
            bytes,
            at: 0,
            flexible: false,
            message: "frame",
            budget,
            budget_left: budget,
            elements_max: usize::MAX,
            elements_left: usize::MAX,
        }
    }

    /// All arrays of the message together may hold `max` elements: each is work for the one who answers.
    #[must_use]
    pub fn with_elements_max(mut self, max: usize) -> Self {
        (self.elements_max, self.elements_left) = (max, max);
        self
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Bytes already read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes not yet read, without reading them.
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    /// Begins a message: checks the version, notes the encoding, and names the message in errors.
    ///
    /// # Errors
    /// [`DecodeError::UnsupportedVersion`].
    pub fn begin<M: Message>(&mut self, version: i16) -> Result<(), DecodeError> {
        let (min, max) = (M::MIN_VERSION, M::MAX_VERSION);
        if version < min || version > max {
            let message = M::NAME;
            return Err(DecodeError::UnsupportedVersion {
                message,
                version,
                min,
                max,
            });
        }
        self.begin_part(M::NAME, M::is_flexible(version));
        Ok(())
    }

    /// As [`Reader::begin`] for what is no message of its own (headers).
    pub(crate) fn begin_part(&mut self, name: &'static str, flexible: bool) {
        self.message = name;
        self.flexible = flexible;
    }

    #[cold]
    fn fault(&self, field: &'static str, fault: Fault) -> DecodeError {
        DecodeError::Malformed {
            message: self.message,
            field,
            position: self.at,
            fault,
        }
    }

    /// Moves over `len` bytes and returns where they begin.
    fn advance(&mut self, field: &'static str, len: usize) -> Result<usize, DecodeError> {
        let remaining = self.remaining();
        if len > remaining {
            let fault = Fault::Truncated {
                needed: len,
                remaining,
            };
            return Err(self.fault(field, fault));
        }
        let start = self.at;
        self.at += len;
        Ok(start)
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let start = self.advance(field, N)?;
        Ok(self.bytes[start..start + N]
            .try_into()
            .expect("the slice has N bytes"))
    }

    /// Takes `size` bytes of memory from the budget.
    fn charge(&mut self, field: &'static str, size: usize) -> Result<(), DecodeError> {
        match self.budget_left.checked_sub(size) {
            Some(left) => self.budget_left = left,
            None => return Err(self.fault(field, Fault::OverBudget(self.budget))),
        }
        Ok(())
    }

    /// One byte, true if it is not zero.
    ///
    /// # Errors
    /// Truncated.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.i8(field)? != 0)
    }

    /// One byte.
    ///
    /// # Errors
    /// Truncated.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed(field)?))
    }

    /// Two bytes, big-endian, as all numbers.
    ///
    /// # Errors
    /// Truncated.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed(field)?))
    }

    /// Two bytes.
    ///
    /// # Errors
    /// Truncated.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.fixed(field)?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// Truncated.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed(field)?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// Truncated.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.fixed(field)?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// Truncated.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed(field)?))
    }

    /// Eight bytes, IEEE 754.
    ///
    /// # Errors
    /// Truncated.
    pub fn f64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.fixed(field)?))
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// Truncated.
    pub fn uuid(&mut self, field: &'static str) -> Result<TopicId, DecodeError> {
        Ok(TopicId(self.fixed(field)?))
    }

    /// One to five bytes, seven bits each, lowest first.
    ///
    /// # Errors
    /// Truncated; [`Fault::BadVarint`] above 32 bits.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed::<1>(field)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.fault(field, Fault::BadVarint))
    }

    /// A compact length: `None` is null.
    fn compact_len(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        Ok(self
            .unsigned_varint(field)?
            .checked_sub(1)
            .map(|len| len as usize))
    }

    /// A classic length: `None` is null (-1).
    fn classic_len(&self, field: &'static str, len: i64) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(len) {
            Ok(len) => Ok(Some(len)),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(self.fault(field, Fault::NegativeLength(len))),
        }
    }

    /// The length of a string.
    fn string_len(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            let len = self.compact_len(field)?;
            // As in Kafka: a compact length could say more, but no string is longer than a classic one.
            return match len.filter(|len| *len > Self::STRING_BYTES_MAX) {
                Some(len) => Err(self.fault(field, Fault::StringTooLong(len))),
                None => Ok(len),
            };
        }
        let len = self.i16(field)?;
        self.classic_len(field, i64::from(len))
    }

    /// The length of bytes or records, or the count of an array.
    fn long_len(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return self.compact_len(field);
        }
        let len = self.i32(field)?;
        self.classic_len(field, i64::from(len))
    }

    fn not_null<T>(&self, field: &'static str, value: Option<T>) -> Result<T, DecodeError> {
        value.ok_or_else(|| self.fault(field, Fault::UnexpectedNull))
    }

    /// A string.
    ///
    /// # Errors
    /// Truncated, null, or not UTF-8.
    pub fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let value = self.nullable_string(field)?;
        self.not_null(field, value)
    }

    /// A string that may be null.
    ///
    /// # Errors
    /// Truncated, or not UTF-8.
    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>, DecodeError> {
        let Some(len) = self.string_len(field)? else {
            return Ok(None);
        };
        let start = self.advance(field, len)?;
        self.charge(field, len)?;
        match std::str::from_utf8(&self.bytes[start..start + len]) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(self.fault(field, Fault::NotUtf8)),
        }
    }

    /// Bytes; they share the frame.
    ///
    /// # Errors
    /// Truncated, or null.
    pub fn bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let value = self.nullable_bytes(field)?;
        self.not_null(field, value)
    }

    /// Bytes that may be null; they share the frame.
    ///
    /// # Errors
    /// Truncated.
    pub fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<Bytes>, DecodeError> {
        let Some(len) = self.long_len(field)? else {
            return Ok(None);
        };
        let start = self.advance(field, len)?;
        Ok(Some(self.bytes.slice(start..start + len)))
    }

    /// Record batches, untouched; they share the frame.
    ///
    /// # Errors
    /// Truncated.
    pub fn records(&mut self, field: &'static str) -> Result<Option<Records>, DecodeError> {
        Ok(self.nullable_bytes(field)?.map(Records::Bytes))
    }

    /// An array.
    ///
    /// # Errors
    /// Truncated, null, or a wrong element.
    pub fn array<T: Wire>(
        &mut self,
        field: &'static str,
        version: i16,
    ) -> Result<Vec<T>, DecodeError> {
        let value = self.nullable_array(field, version)?;
        self.not_null(field, value)
    }

    /// An array that may be null.
    ///
    /// # Errors
    /// Truncated, or a wrong element.
    pub fn nullable_array<T: Wire>(
        &mut self,
        field: &'static str,
        version: i16,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.count(field, T::MIN_SIZE, size_of::<T>())? else {
            return Ok(None);
        };
        let mut items = Vec::with_capacity(count.min(Self::RESERVED_MAX));
        for _ in 0..count {
            items.push(T::read(self, field, version)?);
        }
        Ok(Some(items))
    }

    /// The count of an array whose elements take at least `wire_size` bytes in the frame and `size`
    /// in memory.
    fn count(
        &mut self,
        field: &'static str,
        wire_size: usize,
        size: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.long_len(field)? else {
            return Ok(None);
        };
        let remaining = self.remaining();
        if count > remaining / wire_size {
            return Err(self.fault(field, Fault::CountTooLarge { count, remaining }));
        }
        match self.elements_left.checked_sub(count) {
            Some(left) => self.elements_left = left,
            None => return Err(self.fault(field, Fault::TooManyElements(self.elements_max))),
        }
        self.charge(field, count.saturating_mul(size))?;
        Ok(Some(count))
    }

    /// A struct that may be null: a byte says so (-1) or not (1).
    ///
    /// # Errors
    /// Truncated, or a wrong field.
    pub fn nullable_struct<T: Wire>(
        &mut self,
        field: &'static str,
        version: i16,
    ) -> Result<Option<T>, DecodeError> {
        match self.i8(field)? {
            -1 => Ok(None),
            1 => Ok(Some(T::read(self, field, version)?)),
            other => Err(self.fault(field, Fault::BadPresence(other))),
        }
    }

    /// How many tagged fields follow.
    ///
    /// # Errors
    /// Truncated, or more than the remaining bytes can hold.
    pub fn tag_count(&mut self) -> Result<u32, DecodeError> {
        let count = self.unsigned_varint("tagged fields")?;
        let remaining = self.remaining();
        if count as usize > remaining / 2 {
            let count = count as usize;
            return Err(self.fault("tagged fields", Fault::CountTooLarge { count, remaining }));
        }
        Ok(count)
    }

    /// Number and size of the next tagged field.
    ///
    /// # Errors
    /// Truncated.
    pub fn tag(&mut self) -> Result<Tag, DecodeError> {
        let number = self.unsigned_varint("tagged fields")?;
        let size = self.unsigned_varint("tagged fields")? as usize;
        let start = self.advance("tagged fields", size)?;
        self.at = start;
        Ok(Tag {
            number,
            size,
            start,
        })
    }

    /// Checks that a known tagged field was as long as it said.
    ///
    /// # Errors
    /// [`Fault::TagSize`].
    pub fn end_tag(&mut self, tag: Tag) -> Result<(), DecodeError> {
        let read = self.at - tag.start;
        if read != tag.size {
            let fault = Fault::TagSize {
                tag: tag.number,
                size: tag.size,
                read,
            };
            return Err(self.fault("tagged fields", fault));
        }
        Ok(())
    }

    /// Keeps a tagged field that this build does not know.
    ///
    /// # Errors
    /// [`Fault::TooManyTags`].
    pub fn keep_tag(&mut self, tag: Tag, kept: &mut TaggedFields) -> Result<(), DecodeError> {
        if kept.len() == Self::UNKNOWN_TAGS_MAX {
            return Err(self.fault("tagged fields", Fault::TooManyTags));
        }
        self.charge("tagged fields", size_of::<(u32, Bytes)>())?;
        self.at = tag.start + tag.size;
        kept.push((tag.number, self.bytes.slice(tag.start..self.at)));
        Ok(())
    }

    /// The tagged fields of a struct that knows none.
    ///
    /// # Errors
    /// Truncated; [`Fault::TooManyTags`].
    pub fn unknown_tags(&mut self) -> Result<TaggedFields, DecodeError> {
        let mut kept = TaggedFields::new();
        for _ in 0..self.tag_count()? {
            let tag = self.tag()?;
            self.keep_tag(tag, &mut kept)?;
        }
        Ok(kept)
    }
}
