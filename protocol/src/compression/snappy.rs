//! Snappy in the framing of `snappy-java`: a 16-byte header, then blocks of at most 32 KiB, each with its length in front.
//!
//! ```text
//! 82 53 4e 41 50 50 59 00 | i32 version = 1 | i32 compatible version = 1 | { i32 length | snappy block } ...
//! ```
//! A batch without that header is one raw snappy block.

use super::{Compression, CompressionError, DecompressionLimit};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
const BLOCK_BYTES: usize = 32 * 1024;
/// A snappy copy element of 3 bytes yields at most 64: no honest block grows by more than this.
const RATIO_MAX: usize = 22;

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) {
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&1i32.to_be_bytes());
    output.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(BLOCK_BYTES) {
        let start = output.len();
        output.resize(start + 4 + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder
            .compress(block, &mut output[start + 4..])
            .expect("the buffer is as large as the worst case");
        output[start..start + 4].copy_from_slice(&(written as u32).to_be_bytes());
        output.truncate(start + 4 + written);
    }
}

pub(super) fn decompress(
    input: &[u8],
    limit: DecompressionLimit,
) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    if !input.starts_with(&MAGIC) {
        block(input, &mut output, limit)?;
        return Ok(output);
    }
    let mut rest = input
        .get(HEADER_BYTES..)
        .ok_or_else(|| corrupt("header is cut"))?;
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length > tail.len() {
            return Err(corrupt("block is cut"));
        }
        let (compressed, tail) = tail.split_at(length);
        block(compressed, &mut output, limit)?;
        rest = tail;
    }
    match rest {
        [] => Ok(output),
        _ => Err(corrupt("length of a block is cut")),
    }
}

/// Decompresses one block behind what `output` already holds. The declared size is checked before it is allocated.
fn block(
    compressed: &[u8],
    output: &mut Vec<u8>,
    limit: DecompressionLimit,
) -> Result<(), CompressionError> {
    let declared = snap::raw::decompress_len(compressed).map_err(|e| corrupt(&e.to_string()))?;
    if declared > limit.0 - output.len() {
        return Err(CompressionError::TooLarge { limit: limit.0 });
    }
    if declared / RATIO_MAX > compressed.len() {
        return Err(corrupt("declared size is impossible"));
    }
    let start = output.len();
    if output.capacity() - start < declared {
        // Twice what is there, so that many blocks do not mean many copies, but never beyond the limit.
        let wanted = (start + declared).max(2 * start).min(limit.0);
        output.reserve_exact(wanted - start);
    }
    output.resize(start + declared, 0);
    let written = snap::raw::Decoder::new()
        .decompress(compressed, &mut output[start..])
        .map_err(|e| corrupt(&e.to_string()))?;
    output.truncate(start + written);
    Ok(())
}

fn corrupt(reason: &str) -> CompressionError {
    CompressionError::corrupt(Compression::Snappy, reason)
}
