//! Decimal numbers in Postgres' `numeric` format. Pure.
//!
//! Owns the digits: every number that JSON, text or a Connect decimal can say, without a float in
//! between. Called by `encode.rs`.

use bytes::{BufMut, BytesMut};
use flumen_connect::value::Value;

use crate::encode::integer;

/// More digits than this on either side of the point are refused (Postgres: 131,072 before it,
/// 16,383 behind it).
const DIGITS_MAX: i64 = 16_000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;

/// Appends `value`: i16 groups, i16 weight of the first group, u16 sign, u16 digits behind the
/// point, then the groups of four decimal digits.
///
/// `None` where it is no number, or has too many digits. Source: Postgres `numeric_recv`.
pub(crate) fn put_numeric(value: &Value, out: &mut BytesMut) -> Option<()> {
    let text = match value {
        Value::String(text) => return put(text.as_str(), out),
        Value::Decimal(decimal) => decimal.to_string(),
        Value::Float32(v) if v.is_finite() => format!("{v:e}"),
        Value::Float64(v) if v.is_finite() => format!("{v:e}"),
        Value::Float32(v) if v.is_nan() => "NaN".to_owned(),
        Value::Float64(v) if v.is_nan() => "NaN".to_owned(),
        other => integer(other)?.to_string(),
    };
    put(&text, out)
}

/// Reads `-12.50`, `1e-3`, `NaN`.
fn put(text: &str, out: &mut BytesMut) -> Option<()> {
    if text == "NaN" {
        [0, 0, NAN, 0]
            .into_iter()
            .for_each(|field| out.put_u16(field));
        return Some(());
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (NEGATIVE, rest),
        None => (0, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = |text: &str| i64::try_from(text.len()).ok();
    // The point stands behind `point` digits: before all of them when it is negative.
    let point = length(whole)?.checked_add(exponent)?;
    let scale = length(fraction)?.checked_sub(exponent)?.max(0);
    if scale > DIGITS_MAX || point.abs() > DIGITS_MAX {
        return None;
    }
    let (weight, groups) = groups(&digits, point)?;
    out.put_i16(i16::try_from(groups.len()).ok()?);
    out.put_i16(weight);
    out.put_u16(if groups.is_empty() { 0 } else { sign });
    out.put_u16(u16::try_from(scale).ok()?);
    groups.iter().for_each(|group| out.put_u16(*group));
    Some(())
}

/// Groups of four digits that align at the point, without zeros at either end, and the weight of
/// the first: it counts 10000^weight.
fn groups(digits: &[u8], point: i64) -> Option<(i16, Vec<u16>)> {
    let lead = usize::try_from((-point).rem_euclid(4)).ok()?;
    let mut aligned = vec![0; lead];
    aligned.extend(digits.iter().map(|digit| u16::from(digit - b'0')));
    aligned.resize(aligned.len().next_multiple_of(4), 0);
    let all = aligned
        .chunks(4)
        .map(|four| four.iter().fold(0, |group, digit| group * 10 + digit));
    let mut groups: Vec<u16> = all.collect();
    let zeros = groups.iter().take_while(|group| **group == 0).count();
    let _ = groups.drain(..zeros);
    while groups.last() == Some(&0) {
        let _ = groups.pop();
    }
    let weight = (point + i64::try_from(lead).ok()?) / 4 - 1 - i64::try_from(zeros).ok()?;
    let weight = if groups.is_empty() { 0 } else { weight };
    Some((i16::try_from(weight).ok()?, groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flumen_connect::value::Decimal;
    use proptest::prelude::*;

    fn fields(value: impl Into<Value>) -> Option<Vec<i16>> {
        let mut out = BytesMut::new();
        put_numeric(&value.into(), &mut out)?;
        let pairs = out.chunks(2);
        Some(
            pairs
                .map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
                .collect(),
        )
    }

    /// What Postgres would print.
    fn shown(fields: &[i16]) -> String {
        let (count, weight, sign, scale) = (fields[0], fields[1], fields[2], fields[3]);
        let group = |at: i16| match usize::try_from(at) {
            Ok(at) if at < usize::try_from(count).unwrap() => fields[4 + at],
            _ => 0,
        };
        let whole: String = (0..=weight.max(0))
            .map(|power| format!("{:04}", group(weight - (weight.max(0) - power))))
            .collect();
        let fraction: String = (1..=(scale + 3) / 4)
            .map(|at| format!("{:04}", group(weight + at)))
            .collect();
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let sign = if sign == 0x4000 { "-" } else { "" };
        match scale {
            0 => format!("{sign}{whole}"),
            _ => format!(
                "{sign}{whole}.{}",
                &fraction[..usize::try_from(scale).unwrap()]
            ),
        }
    }

    #[test]
    fn groups_align_at_the_point() {
        let text = |text: &str| fields(text).unwrap();
        assert_eq!(text("12345.678"), [3, 1, 0, 3, 1, 2345, 6780]);
        assert_eq!(text("-0.00001"), [1, -2, 0x4000, 5, 1000]);
        assert_eq!(text("0"), [0, 0, 0, 0]);
        assert_eq!(text("-0"), [0, 0, 0, 0]);
        assert_eq!(text("10000"), [1, 1, 0, 0, 1]);
        assert_eq!(text("0.50"), [1, -1, 0, 2, 5000]);
        assert_eq!(text("1e3"), text("1000"));
        assert_eq!(text("1.5E-7"), text("0.00000015"));
        assert_eq!(fields(Value::Float64(1e300)).unwrap()[..4], [1, 75, 0, 0]);
        assert_eq!(fields(Value::Float64(0.1)).unwrap(), text("0.1"));
    }

    #[test]
    fn what_is_no_number_or_too_long_is_refused() {
        for text in [
            "", ".", "-", "1,5", "0x10", "1e", "1e99999", "1e-99999", "Infinity", "12 ",
        ] {
            assert_eq!(fields(text), None, "{text:?}");
        }
        assert_eq!(fields(Value::Boolean(true)), None);
        assert_eq!(fields(Value::Float64(f64::INFINITY)), None);
    }

    proptest! {
        #[test]
        fn every_decimal_keeps_its_digits(unscaled: i128, scale in 0..60_i32) {
            let decimal = Decimal { unscaled, scale };
            let fields = fields(Value::Decimal(Box::new(decimal))).unwrap();
            prop_assert_eq!(shown(&fields), decimal.to_string());
        }
    }
}
