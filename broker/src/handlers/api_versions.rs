//! ApiVersions: what this broker serves, and the features of the cluster.

use flumen_protocol::api;
use flumen_protocol::api::ApiKey;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::frame::encode_response;
use flumen_protocol::message::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use flumen_protocol::message::{ApiVersionsRequest, ApiVersionsResponse};

use crate::dispatch::{Answer, Context, SERVED};
use crate::node::Node;

/// Features this broker can work with: name, lowest and highest level.
///
/// `metadata.version` 7 is Kafka 3.3, 30 is 4.3: clients read it as the broker's release. `transaction.version` 2 makes
/// Java clients end each transaction with an epoch of its own (KIP-890).
pub(crate) const SUPPORTED_FEATURES: &[(&str, i16, i16)] =
    &[("metadata.version", 7, 30), ("transaction.version", 0, 2)];
/// Levels a new cluster starts with.
pub(crate) const INITIAL_FEATURES: &[(&str, i16)] =
    &[("metadata.version", 30), ("transaction.version", 2)];

/// Answers ApiVersions.
pub(crate) fn api_versions(
    node: &Node,
    context: &Context,
    request: &ApiVersionsRequest,
) -> ApiVersionsResponse {
    let named = |name: &str| context.version < 3 || is_software_name(name);
    if !named(&request.client_software_name) || !named(&request.client_software_version) {
        let error_code = ErrorCode::InvalidRequest.code();
        return ApiVersionsResponse {
            error_code,
            ..ApiVersionsResponse::default()
        };
    }
    let mut response = ApiVersionsResponse {
        api_keys: SERVED.iter().map(|key| row(*key)).collect(),
        ..Default::default()
    };
    if context.version < 3 {
        return response;
    }
    // Before version 4 a minimum of 0 could not be said; such features are left out (KAFKA-17011).
    let supported = SUPPORTED_FEATURES
        .iter()
        .filter(|(_, min, _)| context.version >= 4 || *min > 0);
    response.supported_features = supported
        .map(|&(name, min_version, max_version)| SupportedFeatureKey {
            name: name.to_owned(),
            min_version,
            max_version,
            ..Default::default()
        })
        .collect();
    let image = node.cluster.image();
    response.finalized_features_epoch = image.version();
    response.finalized_features = image
        .features()
        .filter(|(_, level)| *level > 0)
        .map(|(name, level)| FinalizedFeatureKey {
            name: name.to_owned(),
            max_version_level: level,
            min_version_level: level,
            ..Default::default()
        })
        .collect();
    response
}

/// The answer to a version this broker does not have: in version 0, naming only the range that would work (KIP-511).
pub(crate) fn unsupported_version(context: &Context) -> Answer {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![row(ApiKey::ApiVersions)],
        ..Default::default()
    };
    match encode_response(context.correlation_id, ApiKey::ApiVersions, 0, &response) {
        Ok(segments) => Answer::Segments(segments),
        Err(error) => Answer::Close(error.to_string()),
    }
}

fn row(key: ApiKey) -> ApiVersion {
    let versions = api::advertised(key);
    ApiVersion {
        api_key: key.code(),
        min_version: *versions.start(),
        max_version: *versions.end(),
        ..Default::default()
    }
}

/// Kafka's pattern for names and versions of client software: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_name(name: &str) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric();
    let bytes = name.as_bytes();
    bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().all(|b| plain(b) || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kafkas_pattern() {
        for name in ["librdkafka", "2.15.0", "a", "apache-kafka-java"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a b", ".", "kafka_python"] {
            assert!(!is_software_name(name), "{name}");
        }
    }
}
