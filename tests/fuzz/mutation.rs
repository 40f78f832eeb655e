//! Changes an input the way an enemy or a bad disk would: bits, counts that lie, cuts, repetitions, parts of another input.

use crate::random::Random;

/// Numbers at which readers break.
const NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    -2,
    127,
    128,
    255,
    256,
    i16::MAX as i64,
    i16::MIN as i64,
    u16::MAX as i64,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    i64::MAX,
    i64::MIN,
];

/// No input grows beyond this.
const BYTES_MAX: usize = 16 * 1024;

/// `input` with one to four changes; `other` is another input of the same kind.
pub(crate) fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        change(&mut bytes, other, random);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let rest = bytes.len() - at;
    match random.below(9) {
        0 if rest > 0 => bytes[at] ^= 1 << random.below(8),
        1 if rest > 0 => bytes[at] = random.below(256) as u8,
        2 | 3 => number(bytes, at, random),
        4 => {
            // The largest varints of both kinds.
            let lie: &[u8] = match random.below(3) {
                0 => &[0xff, 0xff, 0xff, 0xff, 0x0f],
                1 => &[0xff, 0xff, 0xff, 0xff, 0x07],
                _ => &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            };
            let replaced = random.below(2).min(rest);
            bytes.splice(at..at + replaced, lie.iter().copied());
        }
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(at..at + random.below(rest + 1))),
        7 => {
            let piece = bytes[at..at + random.below(rest.min(256) + 1)].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        _ => {
            let from = random.below(other.len() + 1);
            let upto = from + random.below(other.len() - from + 1);
            bytes.splice(at..at, other[from..upto].iter().copied());
        }
    }
}

/// Writes a number of one, two, four or eight bytes over what is there.
fn number(bytes: &mut [u8], at: usize, random: &mut Random) {
    let number = NUMBERS[random.below(NUMBERS.len())];
    let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
    match random.below(4) {
        0 => bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]),
        _ => bytes[at..at + width].copy_from_slice(&number.to_be_bytes()[8 - width..]),
    }
}
