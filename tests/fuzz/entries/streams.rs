//! What an application finds in its cluster: offsets' metadata, what other instances store, keys and values of changelogs.

use bytes::Bytes;
use flumen::streams::fuzz::{offset_metadata, stored_tasks};
use flumen::streams::state::key;

/// All of them take all bytes.
pub(super) fn values(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        offset_metadata(text);
    }
    stored_tasks(&Bytes::copy_from_slice(bytes));
    if let Some((user_key, start)) = key::split_window_key(bytes) {
        let mut again = Vec::new();
        key::window_key(&mut again, user_key, start);
        assert_eq!(again, bytes);
    }
    let _ = key::split_window_changelog_key(bytes);
    serdes(bytes);
}

fn serdes(bytes: &[u8]) {
    use flumen::streams::serdes::{Serde, bytes as raw, json, string};
    let _ = string().deserialize(bytes);
    let _ = raw().deserialize(bytes);
    let _ = json::<serde_json::Value>().deserialize(bytes);
}
