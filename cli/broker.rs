//! `flumen broker list|configs|alter`: the brokers of a cluster, and what they are configured with.

use clap::Subcommand;
use flumen::client::{Admin, ConfigChange, ConfigResource};
use serde::Serialize;

use crate::Common;
use crate::error::{CliError, Exit};
use crate::output::Rows;
use crate::topic::key_value;

#[derive(Debug, Subcommand)]
pub(crate) enum Broker {
    /// List the brokers
    List,
    /// Show every option of a broker: its value, where that comes from, and what it means
    Configs {
        /// Id of the broker; without it, what was set for all of them while they ran
        id: Option<i32>,
        /// Only what differs from the defaults
        #[arg(long)]
        changed: bool,
    },
    /// Change options that need no restart
    Alter {
        /// Id of the broker; without it, all of them
        id: Option<i32>,
        /// An option as name=value; may be repeated
        #[arg(long = "set", short, value_parser = key_value)]
        set: Vec<(String, String)>,
        /// An option that is to go back to what the file says; may be repeated
        #[arg(long = "unset", short)]
        unset: Vec<String>,
        /// Only check whether it could be done
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Serialize)]
struct Listed {
    id: i32,
    host: String,
    port: i32,
    rack: Option<String>,
    controller: bool,
}

impl Rows for Vec<Listed> {
    fn header(&self) -> Vec<&'static str> {
        vec!["ID", "HOST", "PORT", "RACK", "CONTROLLER"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |b: &Listed| {
            let rack = b.rack.clone().unwrap_or_default();
            let controller = if b.controller { "yes" } else { "" };
            vec![
                b.id.to_string(),
                b.host.clone(),
                b.port.to_string(),
                rack,
                controller.to_owned(),
            ]
        };
        self.iter().map(row).collect()
    }
    fn empty(&self) -> &'static str {
        "no brokers"
    }
}

/// Where the value of an option comes from, by Kafka's codes.
fn source(code: i8) -> &'static str {
    match code {
        1 => "topic",
        2 => "set for the broker",
        3 => "set for all brokers",
        4 => "broker's configuration",
        5 => "default",
        _ => "elsewhere",
    }
}

/// An option with its value.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    name: String,
    value: String,
    source: &'static str,
    /// It needs a restart.
    read_only: bool,
    documentation: String,
}

impl Rows for Vec<Setting> {
    fn header(&self) -> Vec<&'static str> {
        vec!["OPTION", "VALUE", "FROM", "MEANING"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |s: &Setting| {
            let from = s.source.to_owned();
            vec![
                s.name.clone(),
                s.value.clone(),
                from,
                s.documentation.clone(),
            ]
        };
        self.iter().map(row).collect()
    }
    fn empty(&self) -> &'static str {
        "no options"
    }
}

/// What a topic, a broker or all of them are configured with.
pub(crate) async fn settings(
    admin: &Admin,
    resource: ConfigResource<'_>,
) -> Result<Vec<Setting>, CliError> {
    let configs = admin.describe_configs(resource).await?;
    let setting = |config: flumen::client::ConfigEntry| Setting {
        name: config.name,
        value: config.value.unwrap_or_default(),
        source: source(config.source),
        read_only: config.read_only,
        documentation: config.documentation.unwrap_or_default(),
    };
    Ok(configs.into_iter().map(setting).collect())
}

impl Broker {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let admin = Admin::new(&common.client().await?);
        let resource =
            |id: Option<i32>| id.map_or(ConfigResource::AllBrokers, ConfigResource::Broker);
        match self {
            Broker::List => common.output.print(&list(&admin).await?),
            Broker::Configs { id, changed } => {
                let mut shown = settings(&admin, resource(id)).await?;
                shown.retain(|setting| !changed || setting.source != source(5));
                common.output.print(&shown);
            }
            Broker::Alter {
                id,
                set,
                unset,
                dry_run,
            } => {
                let set = set.iter();
                let set = set.map(|(key, value)| (key.as_str(), ConfigChange::Set(value.clone())));
                let unset = unset.iter().map(|key| (key.as_str(), ConfigChange::Unset));
                let changes: Vec<_> = set.chain(unset).collect();
                alter(&admin, resource(id), &changes, dry_run).await?;
            }
        }
        Ok(())
    }
}

async fn list(admin: &Admin) -> Result<Vec<Listed>, CliError> {
    let cluster = admin.describe_cluster().await?;
    let controller = cluster.controller;
    let listed = cluster.brokers.into_iter().map(|broker| Listed {
        controller: controller == broker.id,
        id: broker.id,
        host: broker.host,
        port: broker.port,
        rack: broker.rack,
    });
    Ok(listed.collect())
}

async fn alter(
    admin: &Admin,
    resource: ConfigResource<'_>,
    changes: &[(&str, ConfigChange)],
    dry_run: bool,
) -> Result<(), CliError> {
    if changes.is_empty() {
        let error = CliError::new(Exit::Usage, format!("{resource}: nothing to change"));
        return Err(error.next("--set name=value or --unset name says what is to change"));
    }
    admin.alter_configs(resource, changes, dry_run).await?;
    let what = if dry_run {
        "could be changed so; nothing was"
    } else {
        "changed"
    };
    eprintln!("{resource} {what}");
    Ok(())
}
