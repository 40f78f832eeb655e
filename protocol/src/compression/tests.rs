//! Every codec there and back, and blocks that claim or become too much.

use super::*;
use proptest::prelude::*;
use std::io::Write;

const LIMIT: DecompressionLimit = DecompressionLimit(1 << 20);

fn squeeze(codec: Compression, input: &[u8]) -> Bytes {
    let mut output = Vec::new();
    compress(codec, input, &mut output);
    Bytes::from(output)
}

#[test]
fn every_codec_appends_and_round_trips() {
    let input: Vec<u8> = (0..200_000u32).map(|i| (i / 7) as u8).collect();
    for codec in Compression::ALL {
        let mut output = b"header".to_vec();
        compress(codec, &input, &mut output);
        assert_eq!(&output[..6], b"header");
        let compressed = Bytes::from(output).slice(6..);
        let back = decompress(codec, &compressed, LIMIT).unwrap();
        assert_eq!(back, input, "{codec:?}");
        assert_eq!(Compression::from_name(codec.name()), Some(codec));
        assert_eq!(
            Compression::from_attributes(codec as i16 | 0x70).unwrap(),
            codec
        );
    }
    assert!(matches!(
        Compression::from_attributes(5),
        Err(CompressionError::Unknown(5))
    ));
}

#[test]
fn a_bomb_of_any_codec_is_refused_at_the_limit_and_the_exact_limit_passes() {
    let input = vec![0u8; 3_000_000];
    for codec in Compression::ALL.into_iter().skip(1) {
        let bomb = squeeze(codec, &input);
        assert!(bomb.len() < 200_000);
        for limit in [0, 1, 4096, 2_999_999] {
            let refused = decompress(codec, &bomb, DecompressionLimit(limit));
            assert!(
                matches!(refused, Err(CompressionError::TooLarge { .. })),
                "{codec:?} {limit} {refused:?}"
            );
        }
        assert_eq!(
            decompress(codec, &bomb, DecompressionLimit(3_000_000)).unwrap(),
            input
        );
    }
}

#[test]
fn no_codec_allocates_more_than_the_limit_for_the_result() {
    let input = vec![7u8; 3_000_000];
    for codec in Compression::ALL.into_iter().skip(1) {
        let limit = DecompressionLimit(3_000_001);
        let output = match codec {
            Compression::Snappy => snappy::decompress(&squeeze(codec, &input), limit),
            Compression::Lz4 => lz4::decompress(&squeeze(codec, &input), limit),
            Compression::Gzip => read_capped(
                codec,
                flate2::bufread::MultiGzDecoder::new(squeeze(codec, &input).as_ref()),
                1,
                limit,
            ),
            _ => read_capped(
                codec,
                zstd_decoder(&squeeze(codec, &input)).unwrap(),
                1,
                limit,
            ),
        }
        .unwrap();
        assert!(
            output.capacity() <= limit.0,
            "{codec:?}: {}",
            output.capacity()
        );
    }
}

#[test]
fn a_snappy_block_that_declares_an_impossible_size_allocates_nothing() {
    // Varint 100,000,000, then nothing behind it.
    let lie = Bytes::from_static(&[0x80, 0xc2, 0xd7, 0x2f]);
    let refused = decompress(Compression::Snappy, &lie, DecompressionLimit::DEFAULT);
    assert!(
        matches!(refused, Err(CompressionError::Corrupt { .. })),
        "{refused:?}"
    );
}

#[test]
fn raw_snappy_is_accepted() {
    let raw = snap::raw::Encoder::new()
        .compress_vec(b"from librdkafka")
        .unwrap();
    let back = decompress(Compression::Snappy, &Bytes::from(raw), LIMIT).unwrap();
    assert_eq!(&back[..], b"from librdkafka");
}

#[test]
fn lz4_frames_of_every_shape_are_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let mut input: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    // Incompressible: makes stored blocks.
    let mut state = 1u32;
    input.extend((0..200_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    }));
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        for size in [BlockSize::Max64KB, BlockSize::Max4MB] {
            for checksums in [false, true] {
                let info = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(size)
                    .block_checksums(checksums)
                    .content_checksum(checksums)
                    .content_size(checksums.then_some(input.len() as u64));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(&input).unwrap();
                let frame = Bytes::from(encoder.finish().unwrap());
                assert_eq!(decompress(Compression::Lz4, &frame, LIMIT).unwrap(), input);
            }
        }
    }
}

#[test]
fn a_gzip_stream_of_several_members_is_read_to_its_end() {
    let mut both = squeeze(Compression::Gzip, b"one ").to_vec();
    both.extend_from_slice(&squeeze(Compression::Gzip, b"two"));
    let back = decompress(Compression::Gzip, &Bytes::from(both), LIMIT).unwrap();
    assert_eq!(&back[..], b"one two");
}

#[test]
fn a_zstd_frame_that_asks_for_a_window_above_8_mib_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(b"small").unwrap();
    encoder.flush().unwrap();
    let frame = Bytes::from(encoder.finish().unwrap());
    let refused = decompress(Compression::Zstd, &frame, LIMIT);
    assert!(
        matches!(refused, Err(CompressionError::Corrupt { .. })),
        "{refused:?}"
    );
}

#[test]
fn every_truncation_is_an_error_or_a_prefix() {
    let input =
        b"the quick brown fox jumps over the lazy dog, over and over and over again".repeat(20);
    for codec in Compression::ALL.into_iter().skip(1) {
        let whole = squeeze(codec, &input);
        for cut in 0..whole.len() {
            if let Ok(part) = decompress(codec, &whole.slice(..cut), LIMIT) {
                assert!(input.starts_with(&part), "{codec:?} cut at {cut}");
                assert!(part.len() < input.len());
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_round_trip(input in proptest::collection::vec(any::<u8>(), 0..5000), repeat in 1usize..30) {
        let input = input.repeat(repeat);
        for codec in Compression::ALL {
            let back = decompress(codec, &squeeze(codec, &input), LIMIT).unwrap();
            prop_assert_eq!(&back[..], &input[..]);
        }
    }

    #[test]
    fn garbage_never_panics(input in proptest::collection::vec(any::<u8>(), 0..300), framed in any::<bool>()) {
        for codec in Compression::ALL {
            let mut bytes = Vec::new();
            if framed {
                bytes.extend_from_slice(&squeeze(codec, b"")[..squeeze(codec, b"").len().min(7)]);
            }
            bytes.extend_from_slice(&input);
            let _ = decompress(codec, &Bytes::from(bytes), LIMIT);
        }
    }
}
