//! Where a file source is in its file, and whether the file is still the one it knows. Pure.
//!
//! Owns the JSON of a source offset and the rule by which a stored position is taken, or a new generation begins. `source.rs` calls it
//! with what `reader.rs` saw.
//!
//! A path is not a file: it may be rotated, truncated, replaced. A file is recognised by the hash of its first bytes and of the bytes right before the
//! position (the guard); device and inode only help to find it again under another name.

use std::fmt;

use flumen_connect::record::SourceOffset;
use serde_json::Value;

/// At most so many first bytes identify a file.
pub(crate) const HEAD_BYTES: usize = 1024;
/// At most so many bytes before the position guard it.
pub(crate) const GUARD_BYTES: usize = 64;

/// FNV-1a of some bytes of a file: not against malice, against accidents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    /// How many bytes were hashed.
    pub(crate) len: usize,
    /// Their hash.
    pub(crate) hash: u64,
}

impl Fingerprint {
    pub(crate) fn of(bytes: &[u8]) -> Fingerprint {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Fingerprint {
            len: bytes.len(),
            hash,
        }
    }
}

/// Where reading stands. Everything before `position` is in the topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// Byte where the next record begins; of a compressed file: of its content.
    pub(crate) position: u64,
    /// How many lines are before it.
    pub(crate) line: u64,
    /// How often the file was replaced or truncated under the same path.
    pub(crate) generation: u64,
    /// Device and inode of the file.
    pub(crate) inode: Option<(u64, u64)>,
    /// Its first bytes, as they are on disk; `None` in positions written by Apache Kafka's connector.
    pub(crate) head: Option<Fingerprint>,
    /// The content right before `position`.
    pub(crate) guard: Fingerprint,
    /// Types of the columns, once they are inferred: they never change within a file.
    pub(crate) columns: Option<String>,
    /// The whole file is in the topic (a load).
    pub(crate) eof: bool,
}

impl Position {
    /// The JSON form. `position` is Kafka's own field.
    pub(crate) fn to_offset(&self) -> SourceOffset {
        let mut offset = SourceOffset::new();
        let mut put = |name: &str, value: Value| drop(offset.insert(name.to_owned(), value));
        put("position", self.position.into());
        put("line", self.line.into());
        put("generation", self.generation.into());
        if let Some((device, inode)) = self.inode {
            put("device", device.into());
            put("inode", inode.into());
        }
        if let Some(head) = self.head {
            put("head", head.to_string().into());
        }
        put("guard", self.guard.to_string().into());
        if let Some(columns) = &self.columns {
            put("columns", columns.as_str().into());
        }
        if self.eof {
            put("eof", true.into());
        }
        offset
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// A sentence naming the field that is missing or wrong.
    pub(crate) fn from_offset(offset: &SourceOffset) -> Result<Position, String> {
        let number = |name: &str| match offset.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| format!("{name} is {value}, not a number of bytes or lines")),
        };
        let fingerprint = |name: &str| match offset.get(name).and_then(Value::as_str) {
            None => Ok(None),
            Some(text) => parse_fingerprint(text)
                .map(Some)
                .ok_or_else(|| format!("{name} is {text}, not <length>:<hash>")),
        };
        Ok(Position {
            position: number("position")?.ok_or("there is no position in the offset")?,
            line: number("line")?.unwrap_or(0),
            generation: number("generation")?.unwrap_or(0),
            inode: number("device")?.zip(number("inode")?),
            head: fingerprint("head")?,
            guard: fingerprint("guard")?.unwrap_or_default(),
            columns: offset
                .get("columns")
                .and_then(Value::as_str)
                .map(str::to_owned),
            eof: offset.get("eof").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}", self.len, self.hash)
    }
}

fn parse_fingerprint(text: &str) -> Option<Fingerprint> {
    let (len, hash) = text.split_once(':')?;
    Some(Fingerprint {
        len: len.parse().ok()?,
        hash: u64::from_str_radix(hash, 16).ok()?,
    })
}

/// What stands under the path now, as far as a stored position asks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observed {
    /// Bytes of the content; of a compressed file unknown before it is read.
    pub(crate) size: Option<u64>,
    /// Whether the first bytes are those of the stored position.
    pub(crate) head_matches: bool,
    /// Whether the content before the stored position is what was there.
    pub(crate) guard_matches: bool,
}

/// What to do with a stored position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resume {
    /// It is the same file: go on there.
    At,
    /// It is another file, or another content: begin at 0. The sentence says what may be lost.
    NewGeneration(String),
}

/// Whether `stored` still holds for the file that was `observed`.
pub(crate) fn resume(stored: &Position, observed: Observed) -> Resume {
    if !observed.head_matches {
        return Resume::NewGeneration("it begins with other bytes than the file that was read: it was replaced, or truncated and written anew".to_owned());
    }
    if let Some(size) = observed.size
        && size < stored.position
    {
        return Resume::NewGeneration(format!(
            "it has {size} bytes and {} were read: it was truncated; what stood behind byte {} before that is lost if it was not read",
            stored.position, stored.position
        ));
    }
    if !observed.guard_matches {
        return Resume::NewGeneration(format!(
            "the bytes before {} are not those that were read: it was rewritten",
            stored.position
        ));
    }
    Resume::At
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_json_and_kafkas_own_is_read() {
        let position = Position {
            position: 1 << 40,
            line: 7,
            generation: 2,
            inode: Some((2049, 99)),
            head: Some(Fingerprint::of(b"year,month")),
            guard: Fingerprint::of(b"x\n"),
            columns: Some("year:int64".to_owned()),
            eof: true,
        };
        assert_eq!(Position::from_offset(&position.to_offset()), Ok(position));
        let kafka: SourceOffset = serde_json::from_str(r#"{"position":12}"#).unwrap();
        assert_eq!(
            Position::from_offset(&kafka).unwrap(),
            Position {
                position: 12,
                ..Position::default()
            }
        );
        let wrong: SourceOffset = serde_json::from_str(r#"{"position":-1}"#).unwrap();
        assert_eq!(
            Position::from_offset(&wrong),
            Err("position is -1, not a number of bytes or lines".to_owned())
        );
        assert!(Position::from_offset(&SourceOffset::new()).is_err());
    }

    #[test]
    fn a_position_holds_only_for_the_content_it_was_made_on() {
        let stored = Position {
            position: 100,
            ..Position::default()
        };
        let at = |size, head_matches, guard_matches| {
            resume(
                &stored,
                Observed {
                    size,
                    head_matches,
                    guard_matches,
                },
            )
        };
        assert_eq!(at(Some(100), true, true), Resume::At);
        assert_eq!(at(None, true, true), Resume::At);
        assert!(
            matches!(at(Some(99), true, true), Resume::NewGeneration(why) if why.contains("99 bytes and 100 were read"))
        );
        assert!(
            matches!(at(Some(500), false, true), Resume::NewGeneration(why) if why.contains("other bytes"))
        );
        assert!(
            matches!(at(Some(500), true, false), Resume::NewGeneration(why) if why.contains("rewritten"))
        );
    }
}
