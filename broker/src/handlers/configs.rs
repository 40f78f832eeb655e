//! DescribeConfigs and ListConfigResources: what a topic or this broker is configured with, where each value comes from, and what it
//! means.

use std::collections::{BTreeMap, BTreeSet};

use flumen_log::config::{ConfigKey, ConfigSource, TOPIC_CONFIGS};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::describe_configs_request::DescribeConfigsResource;
use flumen_protocol::message::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use flumen_protocol::message::list_config_resources_response::ConfigResource;
use flumen_protocol::message::{
    DescribeConfigsRequest, DescribeConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};

use crate::cluster::record::ResourceKind;
use crate::config::{BrokerConfig, KEYS, Kind};
use crate::dispatch::Context;
use crate::error::brief;
use crate::node::Node;

/// Kafka's `ConfigResource.Type`.
pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
/// Types that may be listed: topics, brokers, their loggers, client metrics, groups. Of the last three there are none.
const LISTABLE: [i8; 5] = [TOPIC, BROKER, 8, 16, 32];
/// Kafka's `DescribeConfigsResponse.ConfigSource`.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// One configuration value, as it is told to clients.
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    /// Kafka's code of where the value comes from.
    pub(crate) source: i8,
    read_only: bool,
    kind: i8,
    doc: &'static str,
    /// Where the value could come from, the strongest first: name, value, source.
    synonyms: Vec<(String, String, i8)>,
}

/// Answers DescribeConfigs.
pub(crate) fn describe_configs(
    node: &Node,
    context: &Context,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    // What is asked for twice is told once.
    let mut seen = BTreeSet::new();
    let resources = request.resources.iter().filter(|resource| {
        let keys = resource.configuration_keys.as_deref().unwrap_or_default();
        seen.insert((resource.resource_type, &resource.resource_name, keys))
    });
    let few = node
        .config
        .check_described("resources", request.resources.len());
    let results = resources.map(|resource| {
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        let settings = match &few {
            Ok(()) => settings(node, resource),
            Err(why) => Err((ErrorCode::InvalidRequest, why.clone())),
        };
        match settings {
            Ok(settings) => {
                let wanted = |setting: &Setting| match &resource.configuration_keys {
                    Some(keys) if !keys.is_empty() => keys.contains(&setting.name),
                    _ => true,
                };
                let settings = settings.into_iter().filter(wanted);
                result.configs = settings
                    .map(|setting| encode(context, request, setting))
                    .collect();
            }
            Err((code, message)) => {
                result.error_code = code.code();
                result.error_message = Some(brief(message));
            }
        }
        result
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

fn settings(
    node: &Node,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Setting>, (ErrorCode, String)> {
    let name = &resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            let image = node.cluster.image();
            if image.topic(name).is_none() {
                return Err((
                    ErrorCode::UnknownTopicOrPartition,
                    format!("topic '{name}' does not exist"),
                ));
            }
            Ok(topic_settings(
                &node.config,
                image.config(ResourceKind::Topic, name),
            ))
        }
        // The empty name means the defaults of all brokers that were set dynamically: none can be, yet.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER if *name == node.config.node_id.to_string() => Ok(broker_settings(&node.config)),
        BROKER => Err((
            ErrorCode::InvalidRequest,
            format!(
                "unexpected broker id, expected {} or an empty string, but received {name}",
                node.config.node_id
            ),
        )),
        other => Err((
            ErrorCode::InvalidRequest,
            format!("resource type {other} has no configuration here"),
        )),
    }
}

/// Every topic key with its value: what was set for the topic, else the broker's default, else Kafka's.
pub(crate) fn topic_settings(
    config: &BrokerConfig,
    set: Option<&BTreeMap<String, String>>,
) -> Vec<Setting> {
    let none = BTreeMap::new();
    let set = set.unwrap_or(&none);
    TOPIC_CONFIGS
        .iter()
        .map(|key| topic_setting(config, set, key))
        .collect()
}

fn topic_setting(
    config: &BrokerConfig,
    set: &BTreeMap<String, String>,
    key: &ConfigKey,
) -> Setting {
    let mut synonyms = Vec::new();
    if let Some(value) = set.get(key.name) {
        synonyms.push((key.name.to_owned(), value.clone(), SOURCE_TOPIC));
    }
    for synonym in key.synonyms {
        if let Some(value) = config.log_defaults.get(synonym.name) {
            synonyms.push((synonym.name.to_owned(), value.clone(), SOURCE_STATIC_BROKER));
        }
    }
    let server = key
        .synonyms
        .first()
        .map_or(key.name, |synonym| synonym.name);
    synonyms.push((server.to_owned(), key.default.to_owned(), SOURCE_DEFAULT));
    // The configuration was checked when it was set: the default is never reached by an error here.
    let (value, source) = key
        .resolve(set, &config.log_defaults)
        .unwrap_or_else(|_| (key.default.to_owned(), ConfigSource::Default));
    Setting {
        name: key.name.to_owned(),
        value: Some(value),
        source: match source {
            ConfigSource::Topic => SOURCE_TOPIC,
            ConfigSource::Server(_) => SOURCE_STATIC_BROKER,
            ConfigSource::Default => SOURCE_DEFAULT,
        },
        read_only: false,
        kind: key.kind as i8,
        doc: key.doc,
        synonyms,
    }
}

fn broker_settings(config: &BrokerConfig) -> Vec<Setting> {
    let setting = |key: &crate::config::Key| {
        let value = config.get(key.name).unwrap_or_default();
        let mut synonyms = Vec::new();
        if config.explicit.contains_key(key.name) {
            synonyms.push((key.name.to_owned(), value.clone(), SOURCE_STATIC_BROKER));
        }
        synonyms.push((key.name.to_owned(), key.default.to_owned(), SOURCE_DEFAULT));
        Setting {
            name: key.name.to_owned(),
            source: synonyms[0].2,
            value: Some(value),
            read_only: true,
            kind: kind_code(key.kind),
            doc: key.doc,
            synonyms,
        }
    };
    KEYS.iter()
        .map(setting)
        .chain(log_settings(config))
        .collect()
}

/// The broker's defaults for topics, under the broker's names.
fn log_settings(config: &BrokerConfig) -> impl Iterator<Item = Setting> {
    let all = TOPIC_CONFIGS
        .iter()
        .flat_map(|key| key.synonyms.iter().map(move |name| (key, name)));
    all.filter_map(|(key, synonym)| {
        let given = config.log_defaults.get(synonym.name);
        // A coarser unit has no default of its own.
        let value = given
            .cloned()
            .or_else(|| (synonym.factor == 1).then(|| key.default.to_owned()))?;
        let source = if given.is_some() {
            SOURCE_STATIC_BROKER
        } else {
            SOURCE_DEFAULT
        };
        Some(Setting {
            name: synonym.name.to_owned(),
            source,
            synonyms: vec![(synonym.name.to_owned(), value.clone(), source)],
            value: Some(value),
            read_only: true,
            kind: key.kind as i8,
            doc: key.doc,
        })
    })
}

/// Kafka's `DescribeConfigsResponse.ConfigType`.
fn kind_code(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::String => 2,
        Kind::Int => 3,
        Kind::Long => 5,
        Kind::List => 7,
    }
}

fn encode(
    context: &Context,
    request: &DescribeConfigsRequest,
    setting: Setting,
) -> DescribeConfigsResourceResult {
    let mut result = DescribeConfigsResourceResult {
        name: setting.name,
        value: setting.value,
        read_only: setting.read_only,
        config_source: setting.source,
        ..Default::default()
    };
    if request.include_synonyms {
        let synonyms =
            setting
                .synonyms
                .into_iter()
                .map(|(name, value, source)| DescribeConfigsSynonym {
                    name,
                    value: Some(value),
                    source,
                    ..Default::default()
                });
        result.synonyms = synonyms.collect();
    }
    if context.version >= 3 {
        result.config_type = setting.kind;
        result.documentation = request
            .include_documentation
            .then(|| setting.doc.to_owned());
    }
    result
}

/// Answers ListConfigResources (KIP-1142): topics and this broker. Version 0 asks for client metrics only, of which there are none.
pub(crate) fn list_config_resources(
    node: &Node,
    context: &Context,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    if context.version == 0 {
        return ListConfigResourcesResponse::default();
    }
    let asked = &request.resource_types;
    if asked.iter().any(|kind| !LISTABLE.contains(kind)) {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..Default::default()
        };
    }
    let wanted = |kind: i8| asked.is_empty() || asked.contains(&kind);
    let resource = |kind: i8, name: String| ConfigResource {
        resource_name: name,
        resource_type: kind,
        ..Default::default()
    };
    let image = node.cluster.image();
    let mut config_resources = Vec::new();
    if wanted(TOPIC) {
        config_resources.extend(
            image
                .topics()
                .map(|topic| resource(TOPIC, topic.name.clone())),
        );
    }
    if wanted(BROKER) {
        config_resources.push(resource(BROKER, node.config.node_id.to_string()));
    }
    ListConfigResourcesResponse {
        config_resources,
        ..Default::default()
    }
}
