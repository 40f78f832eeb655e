//! The codecs of a record batch behind two functions: [`compress`] and [`decompress`].
//!
//! Called by `builder.rs` and `batch.rs`. Decompression is always capped: the caller says how many bytes it is willing to
//! hold, and a batch that would need more is refused with a typed error before they are allocated.
//! Checksums inside the frames (gzip's excepted, its reader checks it anyway) are not verified: the batch's CRC-32C
//! covers every compressed byte.

use std::cell::RefCell;
use std::io::{self, Read};

use bytes::Bytes;

mod lz4;
mod snappy;

/// How the records of a batch are compressed: bits 0-2 of the batch attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of `snappy-java` ("xerial"); a raw block is accepted too, as librdkafka may send it.
    Snappy = 2,
    /// LZ4 frame format.
    Lz4 = 3,
    /// Zstandard; needs Produce v7 and Fetch v10.
    Zstd = 4,
}

impl Compression {
    /// From the low three bits of the attributes.
    ///
    /// # Errors
    /// [`CompressionError::Unknown`] for 5, 6 and 7.
    pub fn from_attributes(attributes: i16) -> Result<Self, CompressionError> {
        match attributes & 0x07 {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(CompressionError::Unknown(other as u8)),
        }
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// From Kafka's name; `None` if it is not one of the five.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// All codecs.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];
}

/// The largest decompressed size, in bytes, that the caller accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressionLimit(pub usize);

impl DecompressionLimit {
    /// 128 MiB: more than any batch a broker with sane limits stores.
    pub const DEFAULT: Self = Self(128 * 1024 * 1024);
}

impl Default for DecompressionLimit {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why compressed bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// A codec number nobody has given out.
    #[error("unknown compression codec {0}")]
    Unknown(u8),
    /// The data is larger than the caller's limit.
    #[error("decompressed data is larger than {limit} bytes")]
    TooLarge {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// The compressed bytes are damaged.
    #[error("corrupt {codec} data: {reason}")]
    Corrupt {
        /// Name of the codec.
        codec: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl CompressionError {
    fn corrupt(codec: Compression, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            codec: codec.name(),
            reason: reason.into(),
        }
    }
}

/// Appends `input`, compressed, to `output`.
pub fn compress(codec: Compression, input: &[u8], output: &mut Vec<u8>) {
    match codec {
        Compression::None => output.extend_from_slice(input),
        Compression::Gzip => {
            let mut encoder = flate2::read::GzEncoder::new(input, flate2::Compression::default());
            encoder
                .read_to_end(output)
                .expect("reading from a slice into a Vec cannot fail");
        }
        Compression::Snappy => snappy::compress(input, output),
        Compression::Lz4 => lz4::compress(input, output),
        Compression::Zstd => compress_zstd(input, output),
    }
}

/// The decompressed bytes; at most `limit` of them, and no more than that is ever allocated for the result.
///
/// For [`Compression::None`] this is the input itself, without a copy (the limit does not apply: the bytes are already there).
///
/// # Errors
/// [`CompressionError::TooLarge`] and [`CompressionError::Corrupt`]; in both cases the batch cannot be used.
pub fn decompress(
    codec: Compression,
    input: &Bytes,
    limit: DecompressionLimit,
) -> Result<Bytes, CompressionError> {
    let output = match codec {
        Compression::None => return Ok(input.clone()),
        Compression::Gzip => read_capped(
            codec,
            flate2::bufread::MultiGzDecoder::new(input.as_ref()),
            input.len(),
            limit,
        )?,
        Compression::Snappy => snappy::decompress(input, limit)?,
        Compression::Lz4 => lz4::decompress(input, limit)?,
        Compression::Zstd => read_capped(codec, zstd_decoder(input)?, input.len(), limit)?,
    };
    Ok(Bytes::from(output))
}

/// The window a zstd frame may ask for: 2^23 bytes, 8 MiB. Kafka's producers use at most 2^21 at the default level.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

fn zstd_decoder(
    input: &[u8],
) -> Result<zstd::stream::read::Decoder<'static, &[u8]>, CompressionError> {
    let corrupt = |e: io::Error| CompressionError::corrupt(Compression::Zstd, e.to_string());
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(corrupt)?;
    decoder
        .window_log_max(ZSTD_WINDOW_LOG_MAX)
        .map_err(corrupt)?;
    Ok(decoder)
}

fn compress_zstd(input: &[u8], output: &mut Vec<u8>) {
    thread_local! {
        // A context is megabytes of tables: made once per thread, reset for each batch.
        static CONTEXT: RefCell<zstd::bulk::Compressor<'static>> = RefCell::new(
            zstd::bulk::Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL)
                .expect("the default level is valid"),
        );
    }
    let start = output.len();
    output.resize(start + zstd::zstd_safe::compress_bound(input.len()), 0);
    let written = CONTEXT
        .with_borrow_mut(|context| context.compress_to_buffer(input, &mut output[start..]))
        .expect("the buffer is as large as the worst case");
    output.truncate(start + written);
}

/// Reads to the end into a buffer that grows by doubling but never beyond the limit.
fn read_capped(
    codec: Compression,
    mut reader: impl Read,
    compressed_len: usize,
    limit: DecompressionLimit,
) -> Result<Vec<u8>, CompressionError> {
    let corrupt = |e: io::Error| CompressionError::corrupt(codec, e.to_string());
    let mut output = Vec::new();
    let mut step = compressed_len.saturating_mul(4).max(4096);
    loop {
        step = step.min(limit.0 - output.len());
        if step == 0 {
            let more = reader.read(&mut [0]).map_err(corrupt)?;
            return match more {
                0 => Ok(output),
                _ => Err(CompressionError::TooLarge { limit: limit.0 }),
            };
        }
        output.reserve_exact(step);
        let read = (&mut reader)
            .take(step as u64)
            .read_to_end(&mut output)
            .map_err(corrupt)?;
        if read < step {
            return Ok(output);
        }
        step = output.len();
    }
}

#[cfg(test)]
mod tests;
