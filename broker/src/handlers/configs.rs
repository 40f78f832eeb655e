//! DescribeConfigs and ListConfigResources: what a topic or this broker is configured with, where each value comes from, and what it
//! means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flumen_log::config::{ConfigKey, TOPIC_CONFIGS};
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

use crate::cluster::controller::check_topic_name;
use crate::cluster::image::ClusterImage;
use crate::cluster::record::ResourceKind;
use crate::config::live::DynamicKey;
use crate::config::{BrokerConfig, KEYS, Key, Kind};
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
const SOURCE_BROKER: i8 = 2;
const SOURCE_ALL_BROKERS: i8 = 3;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// Where a value could come from: name, value, source.
type Synonym = (String, String, i8);

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
    synonyms: Vec<Synonym>,
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
    let image = node.cluster.image();
    let layers = Layers::new(node, &image);
    match resource.resource_type {
        TOPIC => {
            check_topic_name(name).map_err(|refused| (refused.code, refused.message))?;
            if image.topic(name).is_none() {
                return Err((
                    ErrorCode::UnknownTopicOrPartition,
                    format!("topic '{name}' does not exist"),
                ));
            }
            let set = image.config(ResourceKind::Topic, name);
            Ok(topic_settings(&layers, set))
        }
        BROKER if name.is_empty() => Ok(layers.for_all_brokers()),
        BROKER if *name == node.config.node_id.to_string() => Ok(broker_settings(&layers)),
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

/// What a broker is configured with, the strongest first: for itself, for all, in its file.
pub(crate) struct Layers<'a> {
    fixed: &'a BrokerConfig,
    live: Arc<BrokerConfig>,
    layers: [(Option<&'a BTreeMap<String, String>>, i8); 4],
}

impl<'a> Layers<'a> {
    pub(crate) fn new(node: &'a Node, image: &'a ClusterImage) -> Layers<'a> {
        let config = &node.config;
        let own = image.config(ResourceKind::Broker, &config.node_id.to_string());
        let all = image.config(ResourceKind::Broker, "");
        let layers = [
            (own, SOURCE_BROKER),
            (all, SOURCE_ALL_BROKERS),
            (Some(&config.explicit), SOURCE_STATIC_BROKER),
            (Some(&config.log_defaults), SOURCE_STATIC_BROKER),
        ];
        Layers {
            fixed: config,
            live: node.live_config(),
            layers,
        }
    }

    /// Every value that was given to the broker's key of this name.
    fn given(&self, name: &str) -> Vec<Synonym> {
        let given = self.layers.iter().filter_map(|(layer, source)| {
            let value = layer.as_ref()?.get(name)?;
            Some((name.to_owned(), value.clone(), *source))
        });
        let mut given: Vec<Synonym> = given.collect();
        // A default of topics stands in both static layers.
        given.dedup_by_key(|(_, _, source)| *source);
        given
    }

    /// What is set for all brokers at run time, and nothing else.
    fn for_all_brokers(&self) -> Vec<Setting> {
        let set = self.layers[1].0.into_iter().flatten();
        let dynamic = set.filter_map(|(name, _)| DynamicKey::find(name));
        dynamic
            .map(|key| {
                let mut setting = self.setting(key);
                let of_all = |(_, _, source): &Synonym| *source != SOURCE_BROKER;
                setting.synonyms.retain(of_all);
                setting.take_first();
                setting
            })
            .collect()
    }

    fn setting(&self, key: DynamicKey) -> Setting {
        match key {
            DynamicKey::Broker(key) => self.own_setting(key),
            DynamicKey::TopicDefault(name, key) => self.default_setting(name, key),
        }
    }

    fn own_setting(&self, key: &Key) -> Setting {
        let mut synonyms = self.given(key.name);
        synonyms.push((key.name.to_owned(), key.default.to_owned(), SOURCE_DEFAULT));
        Setting::new(key.name, (kind_code(key.kind), key.doc), synonyms)
    }

    /// The broker's default of a topic key, under the broker's name.
    fn default_setting(&self, name: &str, key: &ConfigKey) -> Setting {
        let mut synonyms = self.given(name);
        synonyms.push((name.to_owned(), key.default.to_owned(), SOURCE_DEFAULT));
        Setting::new(name, (key.kind as i8, key.doc), synonyms)
    }
}

impl Setting {
    /// The first of `synonyms` is in force.
    fn new(name: &str, (kind, doc): (i8, &'static str), synonyms: Vec<Synonym>) -> Setting {
        let mut setting = Setting {
            name: name.to_owned(),
            value: None,
            source: SOURCE_DEFAULT,
            read_only: DynamicKey::find(name).is_none(),
            kind,
            doc,
            synonyms,
        };
        setting.take_first();
        setting
    }

    fn take_first(&mut self) {
        if let Some((_, value, source)) = self.synonyms.first() {
            (self.value, self.source) = (Some(value.clone()), *source);
        }
    }
}

/// Every topic key with its value: what was set for the topic, else the broker's default, else Kafka's.
pub(crate) fn topic_settings(
    layers: &Layers<'_>,
    set: Option<&BTreeMap<String, String>>,
) -> Vec<Setting> {
    let none = BTreeMap::new();
    let set = set.unwrap_or(&none);
    TOPIC_CONFIGS
        .iter()
        .map(|key| topic_setting(layers, set, key))
        .collect()
}

fn topic_setting(layers: &Layers<'_>, set: &BTreeMap<String, String>, key: &ConfigKey) -> Setting {
    let mut synonyms = Vec::new();
    if let Some(value) = set.get(key.name) {
        synonyms.push((key.name.to_owned(), value.clone(), SOURCE_TOPIC));
    }
    for synonym in key.synonyms {
        synonyms.extend(layers.given(synonym.name));
    }
    let server = key
        .synonyms
        .first()
        .map_or(key.name, |synonym| synonym.name);
    synonyms.push((server.to_owned(), key.default.to_owned(), SOURCE_DEFAULT));
    let source = synonyms[0].2;
    // It was checked when it was set: the default is never reached by an error here.
    let value = key
        .resolve(set, &layers.live.log_defaults)
        .map_or_else(|_| key.default.to_owned(), |(value, _)| value);
    Setting {
        name: key.name.to_owned(),
        value: Some(value),
        source,
        read_only: false,
        kind: key.kind as i8,
        doc: key.doc,
        synonyms,
    }
}

fn broker_settings(layers: &Layers<'_>) -> Vec<Setting> {
    let own = KEYS.iter().map(|key| layers.own_setting(key));
    let all = TOPIC_CONFIGS
        .iter()
        .flat_map(|key| key.synonyms.iter().map(move |synonym| (key, synonym)));
    // A coarser unit has no default of its own.
    let defaults = all.filter_map(|(key, synonym)| {
        let given = layers.fixed.log_defaults.contains_key(synonym.name);
        (given || synonym.factor == 1).then(|| layers.default_setting(synonym.name, key))
    });
    own.chain(defaults).collect()
}

/// Kafka's `DescribeConfigsResponse.ConfigType`.
fn kind_code(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::String => 2,
        Kind::Int => 3,
        Kind::Long => 5,
        Kind::Double => 6,
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
