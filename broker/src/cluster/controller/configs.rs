//! Changes of configuration, each resource for itself. Pure.
//!
//! Source: Kafka `ConfigurationControlManager`, `ConfigAdminManager`; KIP-226, KIP-339.

use std::collections::BTreeMap;

use flumen_log::LogConfig;
use flumen_log::config::{ConfigKey, ConfigType};
use flumen_protocol::error_code::ErrorCode;

use super::{Command, Decision, Refused, check_topic_name};
use crate::cluster::image::ClusterImage;
use crate::cluster::record::{ConfigRecord, MetadataRecord, ResourceKind};

/// Changes what is set for topics.
#[derive(Debug, Clone)]
pub(crate) struct AlterConfigs {
    pub(crate) topics: Vec<TopicChange>,
    /// The broker's own values, which a topic's stand before.
    pub(crate) server: BTreeMap<String, String>,
}

/// Changes of one topic.
#[derive(Debug, Clone)]
pub(crate) struct TopicChange {
    pub(crate) topic: String,
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
        let reply = self.topics.iter().map(|change| {
            records.extend(self.decide_topic(image, change)?);
            Ok(())
        });
        let reply = reply.collect();
        Ok(Decision { records, reply })
    }
}

impl AlterConfigs {
    fn decide_topic(
        &self,
        image: &ClusterImage,
        change: &TopicChange,
    ) -> Result<Vec<MetadataRecord>, Refused> {
        let topic = &change.topic;
        check_topic_name(topic)?;
        if image.topic(topic).is_none() {
            let message = format!("the topic '{topic}' does not exist");
            return Err(Refused::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        let none = BTreeMap::new();
        let before = image.config(ResourceKind::Topic, topic).unwrap_or(&none);
        let after = match &change.change {
            Change::Replace(all) => all.iter().cloned().collect(),
            Change::Each(changes) => {
                let mut after = before.clone();
                for (key, operation) in changes {
                    self.carry_out(&mut after, key, operation)?;
                }
                after
            }
        };
        for (key, value) in &after {
            known(key)?.validate(value).map_err(invalid)?;
        }
        // What is right key by key may still be wrong together.
        LogConfig::parse(&after, &self.server).map_err(invalid)?;
        Ok(difference(topic, before, &after))
    }

    fn carry_out(
        &self,
        settings: &mut BTreeMap<String, String>,
        name: &str,
        operation: &Operation,
    ) -> Result<(), Refused> {
        let key = known(name)?;
        match operation {
            Operation::Set(value) => {
                settings.insert(name.to_owned(), value.clone());
            }
            Operation::Delete => {
                settings.remove(name);
            }
            Operation::Append(words) => self.edit_list(settings, key, "append", |list| {
                for word in split(words) {
                    if !list.contains(&word) {
                        list.push(word);
                    }
                }
            })?,
            Operation::Subtract(words) => self.edit_list(settings, key, "subtract", |list| {
                let unwanted: Vec<String> = split(words).collect();
                list.retain(|word| !unwanted.contains(word));
            })?,
        }
        Ok(())
    }

    fn edit_list(
        &self,
        settings: &mut BTreeMap<String, String>,
        key: &ConfigKey,
        what: &str,
        edit: impl FnOnce(&mut Vec<String>),
    ) -> Result<(), Refused> {
        if key.kind != ConfigType::List {
            let message = format!(
                "can't {what} to key {} because its type is not LIST",
                key.name
            );
            return Err(Refused::new(ErrorCode::InvalidConfig, message));
        }
        let (value, _) = key.resolve(settings, &self.server).map_err(invalid)?;
        let mut list: Vec<String> = split(&value).collect();
        edit(&mut list);
        settings.insert(key.name.to_owned(), list.join(","));
        Ok(())
    }
}

fn split(words: &str) -> impl Iterator<Item = String> + '_ {
    words
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

fn known(name: &str) -> Result<&'static ConfigKey, Refused> {
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
    topic: &str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<MetadataRecord> {
    let record = |key: &String, value: Option<&String>| {
        MetadataRecord::Config(ConfigRecord {
            kind: ResourceKind::Topic,
            resource: topic.to_owned(),
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
