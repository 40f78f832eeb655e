//! The sidecar of a sink's file: how long the file is and which offsets that holds, one line per commit. Pure.
//!
//! Owns the text of `<file>.offsets`; `store.rs` reads and writes it. A line is `<16 hex digits> <JSON>`, the digits a hash of the JSON, so that a torn last
//! line is recognised. Only the last whole line counts; the ones before it are history until the file is claimed again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::position::Fingerprint;

/// The truth about a sink's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct Commit {
    /// Raised by every claim: the number of the owner.
    pub(crate) epoch: u64,
    /// The connector whose offsets these are.
    pub(crate) sink: String,
    /// Who claimed.
    pub(crate) owner: String,
    /// Device and inode of the file that is meant.
    pub(crate) file: (u64, u64),
    /// Bytes of it that are committed. What stands behind them is cut off.
    pub(crate) length: u64,
    /// The last bytes before that, `length:hash`.
    pub(crate) tail: String,
    /// Next offset to write, by `topic-partition`.
    pub(crate) next: BTreeMap<String, Next>,
}

/// How far one partition is in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct Next {
    /// The first offset that is not in the file.
    pub(crate) offset: i64,
    /// Id of the topic, where the cluster has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic_id: Option<String>,
}

impl Commit {
    /// The line of this commit.
    pub(crate) fn line(&self) -> String {
        let json = serde_json::to_string(self)
            .expect("numbers, texts and maps with text keys have a JSON form");
        format!("{:016x} {json}\n", Fingerprint::of(json.as_bytes()).hash)
    }

    /// The last whole line of a sidecar, and where it ends. `None`: there is no whole line.
    pub(crate) fn last(journal: &[u8]) -> Option<Commit> {
        journal
            .split_inclusive(|byte| *byte == b'\n')
            .filter_map(parse)
            .next_back()
    }
}

fn parse(line: &[u8]) -> Option<Commit> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (hash, json) = line.split_once(' ')?;
    let hash = u64::from_str_radix(hash, 16).ok()?;
    (Fingerprint::of(json.as_bytes()).hash == hash).then(|| serde_json::from_str(json).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_counts_wherever_the_journal_is_torn() {
        let commit = |offset| Commit {
            length: 10,
            next: [(
                "t-0".to_owned(),
                Next {
                    offset,
                    topic_id: None,
                },
            )]
            .into(),
            ..Commit::default()
        };
        let (first, second) = (commit(1).line(), commit(2).line());
        let whole = format!("{first}{second}");
        for cut in 0..=whole.len() {
            let expected = if cut == whole.len() {
                Some(commit(2))
            } else if cut >= first.len() {
                Some(commit(1))
            } else {
                None
            };
            assert_eq!(
                Commit::last(&whole.as_bytes()[..cut]),
                expected,
                "cut at {cut}"
            );
        }
        let mut flipped = whole.into_bytes();
        let at = flipped.len() - 4;
        flipped[at] ^= 1;
        assert_eq!(Commit::last(&flipped), Some(commit(1)));
    }
}
