//! What an operator writes: a `server.properties`.

use flumen::broker::config::{BrokerConfig, parse_properties};

/// The text of a file; a refusal names the key.
pub(super) fn properties(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(properties) = parse_properties(&text) else {
        return;
    };
    if let Err(error) = BrokerConfig::from_properties(properties.clone()) {
        assert!(!error.to_string().is_empty());
    }
}
