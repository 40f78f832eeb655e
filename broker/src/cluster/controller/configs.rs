//! Changes of configuration, each resource for itself. Pure.
//!
//! Source: Kafka `ConfigurationControlManager`, `ConfigAdminManager`; KIP-226, KIP-339.

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_log::LogConfig;
use flumen_log::config::{ConfigKey, ConfigType};
use flumen_protocol::error_code::ErrorCode;

use super::{Command, Decision, Refused, check_topic_name};
use crate::cluster::image::ClusterImage;
use crate::cluster::record::{ConfigRecord, MetadataRecord, ResourceKind};
use crate::config::live::{DynamicKey, overlay};
use crate::config::{BrokerConfig, ConfigError};

/// Changes what is set for topics, for this broker, or for all brokers.
#[derive(Debug, Clone)]
pub(crate) struct AlterConfigs {
    pub(crate) resources: Vec<ResourceChange>,
    /// What the broker was started with, and what is in force: a topic's values stand before it.
    pub(crate) fixed: Arc<BrokerConfig>,
    pub(crate) live: Arc<BrokerConfig>,
}

/// Changes of one topic, or of one broker; the empty name is all brokers'.
#[derive(Debug, Clone)]
pub(crate) struct ResourceChange {
    pub(crate) kind: ResourceKind,
    pub(crate) name: String,
    pub(crate) change: Change,
}

/// How the settings change.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// These and no others (AlterConfigs).
    Replace(Vec<(String, String)>),
    /// Key by key (IncrementalAlterConfigs).
    Each(Vec<(String, Operation)>),
}

/// What becomes of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Set(String),
    /// Back to the default.
    Delete,
    /// Words that a list is to have.
    Append(String),
    /// Words that a list is not to have.
    Subtract(String),
}

impl Command for AlterConfigs {
    type Reply = Vec<Result<(), Refused>>;

    fn decide(&self, image: &ClusterImage) -> Result<Decision<Self::Reply>, Refused> {
        let mut records = Vec::new();
        let reply = self.resources.iter().map(|asked| {
            records.extend(self.decide_resource(image, asked)?);
            Ok(())
        });
        let reply = reply.collect();
        Ok(Decision { records, reply })
    }
}

impl AlterConfigs {
    fn decide_resource(
        &self,
        image: &ClusterImage,
        asked: &ResourceChange,
    ) -> Result<Vec<MetadataRecord>, Refused> {
        if asked.kind == ResourceKind::Topic {
            check_topic_name(&asked.name)?;
            if image.topic(&asked.name).is_none() {
                let message = format!("the topic '{}' does not exist", asked.name);
                return Err(Refused::new(ErrorCode::UnknownTopicOrPartition, message));
            }
        }
        let none = BTreeMap::new();
        let before = image.config(asked.kind, &asked.name).unwrap_or(&none);
        let after = match &asked.change {
            Change::Replace(all) => all.iter().cloned().collect(),
            Change::Each(changes) => {
                let mut after = before.clone();
                for (key, operation) in changes {
                    self.carry_out(asked.kind, &mut after, (key, operation))?;
                }
                after
            }
        };
        self.check(asked.kind, &after)?;
        Ok(difference(asked, before, &after))
    }

    /// Each value for itself, then all together.
    fn check(&self, kind: ResourceKind, after: &BTreeMap<String, String>) -> Result<(), Refused> {
        if kind == ResourceKind::Broker {
            let fixed: Vec<&str> = after
                .keys()
                .map(String::as_str)
                .filter(|key| DynamicKey::find(key).is_none())
                .collect();
            if !fixed.is_empty() {
                return Err(not_dynamic(&fixed));
            }
            return overlay(&self.fixed, after)
                .and_then(|config| config.check_cleaner_memory())
                .map_err(|error: ConfigError| invalid(error));
        }
        for (key, value) in after {
            topic_key(key)?.validate(value).map_err(invalid)?;
        }
        LogConfig::parse(after, &self.live.log_defaults).map_err(invalid)?;
        Ok(())
    }

    fn carry_out(
        &self,
        kind: ResourceKind,
        settings: &mut BTreeMap<String, String>,
        (name, operation): (&str, &Operation),
    ) -> Result<(), Refused> {
        match operation {
            Operation::Set(value) => {
                settings.insert(name.to_owned(), value.clone());
            }
            Operation::Delete => {
                // A name that nobody knows cannot be taken back either.
                self.list_of(kind, settings, name)?;
                settings.remove(name);
            }
            Operation::Append(words) => {
                let mut list = self.list_to_edit(kind, settings, (name, "append"))?;
                for word in split(words) {
                    if !list.contains(&word) {
                        list.push(word);
                    }
                }
                settings.insert(name.to_owned(), list.join(","));
            }
            Operation::Subtract(words) => {
                let mut list = self.list_to_edit(kind, settings, (name, "subtract"))?;
                let unwanted: Vec<String> = split(words).collect();
                list.retain(|word| !unwanted.contains(word));
                settings.insert(name.to_owned(), list.join(","));
            }
        }
        Ok(())
    }

    fn list_to_edit(
        &self,
        kind: ResourceKind,
        settings: &BTreeMap<String, String>,
        (name, what): (&str, &str),
    ) -> Result<Vec<String>, Refused> {
        self.list_of(kind, settings, name)?.ok_or_else(|| {
            let message = format!("can't {what} to key {name} because its type is not LIST");
            Refused::new(ErrorCode::InvalidConfig, message)
        })
    }

    /// The words of a list as it is now; `None` if the key is no list.
    fn list_of(
        &self,
        kind: ResourceKind,
        settings: &BTreeMap<String, String>,
        name: &str,
    ) -> Result<Option<Vec<String>>, Refused> {
        let (is_list, value) = match kind {
            ResourceKind::Topic => {
                let key = topic_key(name)?;
                let resolved = key.resolve(settings, &self.live.log_defaults);
                (key.kind == ConfigType::List, resolved.map_err(invalid)?.0)
            }
            ResourceKind::Broker => {
                let key = DynamicKey::find(name).ok_or_else(|| not_dynamic(&[name]))?;
                let set = settings.get(name).cloned();
                (key.is_list(), set.unwrap_or_else(|| key.value(&self.live)))
            }
        };
        Ok(is_list.then(|| split(&value).collect()))
    }
}

fn not_dynamic(keys: &[&str]) -> Refused {
    let message = format!(
        "cannot update these configs dynamically: {}; set them in the broker's configuration and restart it",
        keys.join(", ")
    );
    Refused::new(ErrorCode::InvalidRequest, message)
}

fn split(words: &str) -> impl Iterator<Item = String> + '_ {
    words
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

fn topic_key(name: &str) -> Result<&'static ConfigKey, Refused> {
    ConfigKey::find(name).ok_or_else(|| {
        let message = format!("unknown topic config name: {name}");
        Refused::new(ErrorCode::InvalidConfig, message)
    })
}

fn invalid(why: impl std::fmt::Display) -> Refused {
    Refused::new(ErrorCode::InvalidConfig, why.to_string())
}

/// Only what really changes is written down.
fn difference(
    asked: &ResourceChange,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<MetadataRecord> {
    let record = |key: &String, value: Option<&String>| {
        MetadataRecord::Config(ConfigRecord {
            kind: asked.kind,
            resource: asked.name.clone(),
            key: key.clone(),
            value: value.cloned(),
        })
    };
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let changed = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value));
    gone.map(|key| record(key, None))
        .chain(changed.map(|(key, value)| record(key, Some(value))))
        .collect()
}
