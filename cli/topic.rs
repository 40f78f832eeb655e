//! `flumen topic create|list|describe|delete`.

use std::collections::BTreeMap;

use clap::Subcommand;
use flumen::client::{Admin, ConfigResource, NewTopic};
use serde::Serialize;

use crate::Common;
use crate::error::{CliError, Exit};
use crate::output::{Output, Rows};

#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Create a topic
    Create {
        /// 1 to 249 characters of a-z A-Z 0-9 . _ -
        name: String,
        /// Number of partitions; the broker's num.partitions if not given
        #[arg(long, short)]
        partitions: Option<i32>,
        /// Number of replicas; the broker's default.replication.factor if not given
        #[arg(long, short)]
        replication_factor: Option<i16>,
        /// A configuration as name=value, for example retention.ms=-1; may be repeated
        #[arg(long = "config", short, value_parser = key_value)]
        configs: Vec<(String, String)>,
    },
    /// List topics
    List {
        /// The cluster's own topics too
        #[arg(long)]
        internal: bool,
    },
    /// Show partitions, leaders and configuration
    Describe {
        /// The topic
        name: String,
    },
    /// Delete a topic and all its records
    Delete {
        /// The topic
        name: String,
        /// Do it; without this nothing is changed
        #[arg(long)]
        yes: bool,
    },
}

/// `name=value` of a command line.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected name=value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    partitions: usize,
    id: String,
}

impl Rows for Vec<Listed> {
    fn header(&self) -> Vec<&'static str> {
        vec!["NAME", "PARTITIONS", "ID"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        self.iter()
            .map(|t| vec![t.name.clone(), t.partitions.to_string(), t.id.clone()])
            .collect()
    }
    fn empty(&self) -> &'static str {
        "no topics yet: `flumen topic create NAME` makes one"
    }
}

#[derive(Debug, Serialize)]
struct Described {
    name: String,
    id: String,
    partitions: Vec<Partition>,
    /// What differs from the defaults.
    configs: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: i32,
    leader: i32,
    leader_epoch: i32,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
}

impl Rows for Described {
    fn header(&self) -> Vec<&'static str> {
        vec!["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let row = |p: &Partition| {
            vec![
                p.partition.to_string(),
                p.leader.to_string(),
                p.leader_epoch.to_string(),
                ids(&p.replicas),
                ids(&p.in_sync),
            ]
        };
        self.partitions.iter().map(row).collect()
    }
    fn empty(&self) -> &'static str {
        "no partitions"
    }
}

impl Topic {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let admin = Admin::new(&common.client().await?);
        match self {
            Topic::Create {
                name,
                partitions,
                replication_factor,
                configs,
            } => {
                let topic = NewTopic {
                    name,
                    partitions: partitions.unwrap_or(-1),
                    replication_factor: replication_factor.unwrap_or(-1),
                    configs: configs.into_iter().collect(),
                };
                let created = admin.create_topic(&topic).await?;
                eprintln!(
                    "created topic {} with {} partitions",
                    created.name, created.partitions
                );
            }
            Topic::List { internal } => {
                let topics = admin
                    .list_topics()
                    .await?
                    .into_iter()
                    .filter(|topic| internal || !topic.internal);
                let listed: Vec<Listed> = topics
                    .map(|t| Listed {
                        partitions: t.partitions.len(),
                        id: t.id.to_string(),
                        name: t.name,
                    })
                    .collect();
                common.output.print(&listed);
            }
            Topic::Describe { name } => {
                let described = describe(&admin, &name).await?;
                if common.output == Output::Table {
                    eprintln!("topic {} ({})", described.name, described.id);
                    for (name, value) in &described.configs {
                        eprintln!("  {name}={value}");
                    }
                }
                common.output.print(&described);
            }
            Topic::Delete { name, yes } => {
                let found = admin.describe_topic(&name).await?;
                if !yes {
                    let what = format!(
                        "topic {name} has {} partitions; nothing was deleted",
                        found.partitions.len()
                    );
                    return Err(CliError::new(Exit::Usage, what).next(format!(
                        "`flumen topic delete {name} --yes` deletes it and all its records"
                    )));
                }
                admin
                    .delete_topics(&[&name])
                    .await?
                    .into_iter()
                    .collect::<Result<(), _>>()?;
                eprintln!("deleted topic {name}");
            }
        }
        Ok(())
    }
}

async fn describe(admin: &Admin, name: &str) -> Result<Described, CliError> {
    let topic = admin.describe_topic(name).await?;
    let configs = admin.describe_configs(ConfigResource::Topic(name)).await?;
    let changed = configs.into_iter().filter(|config| config.source == 1);
    let partition = |p: &flumen::client::PartitionDescription| Partition {
        partition: p.partition,
        leader: p.leader,
        leader_epoch: p.leader_epoch,
        replicas: p.replicas.clone(),
        in_sync: p.in_sync.clone(),
    };
    Ok(Described {
        id: topic.id.to_string(),
        partitions: topic.partitions.iter().map(partition).collect(),
        configs: changed
            .map(|config| (config.name, config.value.unwrap_or_default()))
            .collect(),
        name: topic.name,
    })
}
