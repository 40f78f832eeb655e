//! AlterConfigs and IncrementalAlterConfigs: the configuration of a topic, of this broker or of all changes while it is in use.
//!
//! Keys of a broker that are fixed at its start are refused by name. Source: Kafka `ConfigAdminManager`; KIP-226, KIP-339.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::alter_configs_response::AlterConfigsResourceResponse as Replaced;
use flumen_protocol::message::incremental_alter_configs_request::AlterableConfig;
use flumen_protocol::message::incremental_alter_configs_response::AlterConfigsResourceResponse as Altered;
use flumen_protocol::message::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::configs::{BROKER, TOPIC};
use crate::cluster::controller::{AlterConfigs, Change, Operation, Refused, ResourceChange};
use crate::cluster::record::ResourceKind;
use crate::dispatch::Context;
use crate::node::Node;

/// A resource by type and name, and what is to become of it.
type Asked = (i8, String, Result<Change, Refused>);

/// Answers IncrementalAlterConfigs.
pub(crate) async fn incremental_alter_configs(
    node: &Arc<Node>,
    _context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let asked = request.resources.into_iter().map(|resource| {
        let change = incremental(resource.configs);
        (resource.resource_type, resource.resource_name, change)
    });
    let results = alter(node, asked.collect(), request.validate_only).await;
    let responses = results.into_iter().map(|(resource_type, name, result)| {
        let (error_code, error_message) = told(result);
        Altered {
            error_code,
            error_message,
            resource_type,
            resource_name: name,
            ..Default::default()
        }
    });
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

/// Answers AlterConfigs: what is not named goes back to its default.
pub(crate) async fn alter_configs(
    node: &Arc<Node>,
    _context: &Context,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let asked = request.resources.into_iter().map(|resource| {
        let settings = resource
            .configs
            .into_iter()
            .map(|config| (config.name, config.value));
        let change = replacement(settings.collect());
        (resource.resource_type, resource.resource_name, change)
    });
    let results = alter(node, asked.collect(), request.validate_only).await;
    let responses = results.into_iter().map(|(resource_type, name, result)| {
        let (error_code, error_message) = told(result);
        Replaced {
            error_code,
            error_message,
            resource_type,
            resource_name: name,
            ..Default::default()
        }
    });
    AlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

fn told(result: Result<(), Refused>) -> (i16, Option<String>) {
    match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refused) => (refused.code.code(), Some(refused.message)),
    }
}

fn refuse<T>(message: String) -> Result<T, Refused> {
    Err(Refused::new(ErrorCode::InvalidRequest, message))
}

fn distinct<'a>(keys: impl Iterator<Item = &'a String>) -> Result<(), Refused> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key) {
            return refuse(format!("error due to duplicate config keys: {key}"));
        }
    }
    Ok(())
}

fn replacement(settings: Vec<(String, Option<String>)>) -> Result<Change, Refused> {
    distinct(settings.iter().map(|(key, _)| key))?;
    let with_value = settings.into_iter().map(|(key, value)| match value {
        Some(value) => Ok((key, value)),
        None => refuse(format!("null value not supported for: {key}")),
    });
    with_value
        .collect::<Result<Vec<_>, _>>()
        .map(Change::Replace)
}

fn incremental(configs: Vec<AlterableConfig>) -> Result<Change, Refused> {
    distinct(configs.iter().map(|config| &config.name))?;
    let operations = configs.into_iter().map(|config| {
        let key = config.name;
        let operation = match (config.config_operation, config.value) {
            (1, _) => Operation::Delete,
            (0 | 2 | 3, None) => return refuse(format!("null value not supported for: {key}")),
            (0, Some(value)) => Operation::Set(value),
            (2, Some(value)) => Operation::Append(value),
            (3, Some(value)) => Operation::Subtract(value),
            (other, _) => {
                return refuse(format!("unknown config operation {other} for: {key}"));
            }
        };
        Ok((key, operation))
    });
    operations.collect::<Result<Vec<_>, _>>().map(Change::Each)
}

/// One result per resource, in order.
async fn alter(
    node: &Arc<Node>,
    asked: Vec<Asked>,
    validate_only: bool,
) -> Vec<(i8, String, Result<(), Refused>)> {
    let mut named: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for (kind, name, _) in &asked {
        *named.entry((*kind, name)).or_default() += 1;
    }
    let twice: BTreeSet<(i8, String)> = named
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|((kind, name), _)| (kind, name.to_owned()))
        .collect();
    let mut resources = Vec::new();
    let mut results = Vec::with_capacity(asked.len());
    for (kind, name, change) in asked {
        let change = if twice.contains(&(kind, name.clone())) {
            refuse("each resource must appear at most once".to_owned())
        } else {
            change.and_then(|change| check_resource(node, (kind, &name), change))
        };
        // What is refused here has its result, the others wait for the cluster's.
        let result = change.map(|change| resources.push(change));
        results.push((kind, name, result));
    }
    let count = resources.len();
    let command = AlterConfigs {
        resources,
        fixed: Arc::clone(&node.config),
        live: node.live_config(),
    };
    let replies = if validate_only {
        node.cluster.dry_run(&command)
    } else {
        node.cluster.propose(command).await
    };
    let mut replies = replies
        .unwrap_or_else(|refused| vec![Err(refused); count])
        .into_iter();
    for (_, _, result) in &mut results {
        if result.is_ok() {
            *result = replies
                .next()
                .expect("one reply per resource that was asked");
        }
    }
    results
}

fn check_resource(
    node: &Node,
    (kind, name): (i8, &str),
    change: Change,
) -> Result<ResourceChange, Refused> {
    let kind = match kind {
        TOPIC if name.is_empty() => {
            return refuse("default topic resources are not allowed".to_owned());
        }
        TOPIC => ResourceKind::Topic,
        BROKER if !name.is_empty() && *name != node.config.node_id.to_string() => {
            return refuse(format!(
                "unexpected broker id, expected {} or an empty string, but received {name}",
                node.config.node_id
            ));
        }
        BROKER => ResourceKind::Broker,
        other => return refuse(format!("resource type {other} has no configuration here")),
    };
    Ok(ResourceChange {
        kind,
        name: name.to_owned(),
        change,
    })
}
