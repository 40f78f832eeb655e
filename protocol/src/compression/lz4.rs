//! The LZ4 frame format, read block by block straight into the result.
//!
//! `lz4_flex`'s own frame reader sets aside two blocks of the size the frame *declares* (4 MiB for many clients), whatever
//! the batch really holds. Here the exact size of each block is counted first by walking its tokens, so a batch of 300
//! bytes costs what it holds, and a bomb is refused before a byte is allocated.
//!
//! ```text
//! 04 22 4d 18 | FLG | BD | [content size, 8] | [dictionary id, 4] | header checksum, 1
//! { u32 length, high bit = stored | data | [block checksum, 4] } ...  u32 0 | [content checksum, 4]
//! ```

use std::io::Write;

use lz4_flex::block::decompress_into_with_dict;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::{Compression, CompressionError, DecompressionLimit};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const FLAG_VERSION: u8 = 0b1100_0000;
const FLAG_INDEPENDENT: u8 = 0b0010_0000;
const FLAG_BLOCK_CHECKSUM: u8 = 0b0001_0000;
const FLAG_CONTENT_SIZE: u8 = 0b0000_1000;
const FLAG_DICTIONARY: u8 = 0b0000_0001;
const STORED: u32 = 0x8000_0000;
/// How far back a match may reach.
const WINDOW_BYTES: usize = 64 * 1024;

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) {
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, output);
    encoder
        .write_all(input)
        .expect("writing to a Vec cannot fail");
    encoder.finish().expect("writing to a Vec cannot fail");
}

pub(super) fn decompress(
    input: &[u8],
    limit: DecompressionLimit,
) -> Result<Vec<u8>, CompressionError> {
    let (flags, mut rest) = header(input)?;
    let mut output = Vec::new();
    loop {
        let word = u32::from_le_bytes(take(&mut rest, 4)?.try_into().expect("four bytes"));
        if word == 0 {
            return Ok(output);
        }
        let data = take(&mut rest, (word & !STORED) as usize)?;
        if flags & FLAG_BLOCK_CHECKSUM != 0 {
            take(&mut rest, 4)?;
        }
        let size = match word & STORED {
            0 => decompressed_len(data)?,
            _ => data.len(),
        };
        reserve(&mut output, size, limit)?;
        if word & STORED != 0 {
            output.extend_from_slice(data);
            continue;
        }
        let start = output.len();
        output.resize(start + size, 0);
        let (done, block) = output.split_at_mut(start);
        let window = match flags & FLAG_INDEPENDENT {
            0 => &done[start.saturating_sub(WINDOW_BYTES)..],
            _ => &[],
        };
        let written =
            decompress_into_with_dict(data, block, window).map_err(|e| corrupt(&e.to_string()))?;
        if written != size {
            return Err(corrupt("block ends early"));
        }
    }
}

/// Checks the frame header; returns its flags and what follows it.
fn header(input: &[u8]) -> Result<(u8, &[u8]), CompressionError> {
    let mut rest = input;
    if take(&mut rest, 4)? != MAGIC {
        return Err(corrupt("not an LZ4 frame"));
    }
    let flags = take(&mut rest, 2)?[0];
    if flags & FLAG_VERSION != 0b0100_0000 {
        return Err(corrupt("unknown frame version"));
    }
    if flags & FLAG_DICTIONARY != 0 {
        return Err(corrupt("frame needs a dictionary"));
    }
    if flags & FLAG_CONTENT_SIZE != 0 {
        take(&mut rest, 8)?;
    }
    take(&mut rest, 1)?;
    Ok((flags, rest))
}

/// Makes room for `size` more bytes: at least doubling, never beyond the limit.
fn reserve(
    output: &mut Vec<u8>,
    size: usize,
    limit: DecompressionLimit,
) -> Result<(), CompressionError> {
    let start = output.len();
    if size > limit.0 - start {
        return Err(CompressionError::TooLarge { limit: limit.0 });
    }
    if output.capacity() - start < size {
        let wanted = (start + size).max(2 * start).min(limit.0);
        output.reserve_exact(wanted - start);
    }
    Ok(())
}

/// Exact decompressed size of one block: literals and match lengths of all its sequences.
fn decompressed_len(block: &[u8]) -> Result<usize, CompressionError> {
    let mut rest = block;
    let mut size = 0usize;
    loop {
        let token = take(&mut rest, 1)?[0];
        let literals = length(token >> 4, &mut rest)?;
        take(&mut rest, literals)?;
        size = size.saturating_add(literals);
        if rest.is_empty() {
            return Ok(size);
        }
        take(&mut rest, 2)?;
        size = size.saturating_add(4 + length(token & 0x0f, &mut rest)?);
    }
}

/// A length nibble and, if it is 15, the bytes that continue it.
fn length(nibble: u8, rest: &mut &[u8]) -> Result<usize, CompressionError> {
    let mut length = usize::from(nibble);
    if nibble == 15 {
        loop {
            let more = take(rest, 1)?[0];
            length += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Ok(length)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], CompressionError> {
    let (taken, tail) = rest
        .split_at_checked(count)
        .ok_or_else(|| corrupt("data is cut"))?;
    *rest = tail;
    Ok(taken)
}

fn corrupt(reason: &str) -> CompressionError {
    CompressionError::corrupt(Compression::Lz4, reason)
}
