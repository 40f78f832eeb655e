//! `flumen topic create|list|describe|configs|alter|delete-records|delete`.

use std::collections::BTreeMap;

use clap::Subcommand;
use flumen::client::{Admin, ConfigChange, ConfigResource, NewTopic, TopicPartition};
use serde::Serialize;

use crate::Common;
use crate::broker::settings;
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
        #[arg(long = "config", visible_alias = "set", short, value_parser = key_value)]
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
    /// Show every option of a topic: its value, where that comes from, and what it means
    Configs {
        /// The topic
        name: String,
    },
    /// Change options, or add partitions
    Alter {
        /// The topic
        name: String,
        /// An option as name=value; may be repeated
        #[arg(long = "set", short, value_parser = key_value)]
        set: Vec<(String, String)>,
        /// An option that is to go back to its default; may be repeated
        #[arg(long = "unset", short)]
        unset: Vec<String>,
        /// How many partitions it is to have in all. Keys that come from now on may go elsewhere than before
        #[arg(long, short)]
        partitions: Option<i32>,
        /// Only check whether it could be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete the oldest records, up to an offset
    DeleteRecords {
        /// The topic
        name: String,
        /// First offset that stays, or `end`
        #[arg(long, value_parser = offset_or_end)]
        before: i64,
        /// A partition; may be repeated. All, if none is given
        #[arg(long = "partition", short)]
        partitions: Vec<i32>,
        /// Do it; without this nothing is changed
        #[arg(long)]
        yes: bool,
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

/// Stands for the end in DeleteRecords.
const END: i64 = -1;

fn offset_or_end(text: &str) -> Result<i64, String> {
    match text {
        "end" => Ok(END),
        number => number
            .parse()
            .ok()
            .filter(|offset| *offset >= 0)
            .ok_or_else(|| "expected an offset, or `end`".to_owned()),
    }
}

#[derive(Debug, Serialize)]
struct Trimmed {
    partition: i32,
    log_start_offset: i64,
}

impl Rows for Vec<Trimmed> {
    fn header(&self) -> Vec<&'static str> {
        vec!["PARTITION", "BEGINS AT"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |t: &Trimmed| vec![t.partition.to_string(), t.log_start_offset.to_string()];
        self.iter().map(row).collect()
    }
    fn empty(&self) -> &'static str {
        "no partitions"
    }
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
            Topic::List { internal } => common.output.print(&list(&admin, internal).await?),
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
            Topic::Configs { name } => common
                .output
                .print(&settings(&admin, ConfigResource::Topic(&name)).await?),
            Topic::Alter {
                name,
                set,
                unset,
                partitions,
                dry_run,
            } => {
                let set = set
                    .into_iter()
                    .map(|(key, value)| (key, ConfigChange::Set(value)));
                let unset = unset.into_iter().map(|key| (key, ConfigChange::Unset));
                let changes: Vec<_> = set.chain(unset).collect();
                alter(&admin, &name, &changes, partitions, dry_run).await?;
            }
            Topic::DeleteRecords {
                name,
                before,
                partitions,
                yes,
            } => {
                let trimmed = delete_records(&admin, &name, before, partitions, yes).await?;
                common.output.print(&trimmed);
            }
            Topic::Delete { name, yes } => delete(&admin, &name, yes).await?,
        }
        Ok(())
    }
}

async fn list(admin: &Admin, internal: bool) -> Result<Vec<Listed>, CliError> {
    let topics = admin.list_topics().await?.into_iter();
    let shown = topics.filter(|topic| internal || !topic.internal);
    let listed = shown.map(|topic| Listed {
        partitions: topic.partitions.len(),
        id: topic.id.to_string(),
        name: topic.name,
    });
    Ok(listed.collect())
}

async fn delete(admin: &Admin, name: &str, yes: bool) -> Result<(), CliError> {
    let found = admin.describe_topic(name).await?;
    if !yes {
        let count = found.partitions.len();
        let what = format!("topic {name} has {count} partitions; nothing was deleted");
        let next = format!("`flumen topic delete {name} --yes` deletes it and all its records");
        return Err(CliError::new(Exit::Usage, what).next(next));
    }
    let deleted = admin.delete_topics(&[name]).await?.into_iter();
    deleted.collect::<Result<(), _>>()?;
    eprintln!("deleted topic {name}");
    Ok(())
}

async fn alter(
    admin: &Admin,
    name: &str,
    changes: &[(String, ConfigChange)],
    partitions: Option<i32>,
    dry_run: bool,
) -> Result<(), CliError> {
    if changes.is_empty() && partitions.is_none() {
        let error = CliError::new(Exit::Usage, format!("topic {name}: nothing to change"));
        return Err(
            error.next("--set name=value, --unset name or --partitions N says what is to change")
        );
    }
    let changes: Vec<_> = changes
        .iter()
        .map(|(key, change)| (key.as_str(), change.clone()))
        .collect();
    // Both are checked before either is done.
    for validate_only in [true, false] {
        if validate_only || !dry_run {
            if !changes.is_empty() {
                admin
                    .alter_configs(ConfigResource::Topic(name), &changes, validate_only)
                    .await?;
            }
            if let Some(count) = partitions {
                admin.create_partitions(name, count, validate_only).await?;
            }
        }
    }
    let what = if dry_run {
        "could be changed so; nothing was"
    } else {
        "changed"
    };
    eprintln!("topic {name} {what}");
    Ok(())
}

async fn delete_records(
    admin: &Admin,
    name: &str,
    before: i64,
    partitions: Vec<i32>,
    yes: bool,
) -> Result<Vec<Trimmed>, CliError> {
    let topic = admin.describe_topic(name).await?;
    let all = topic.partitions.iter().map(|found| found.partition);
    let partitions = if partitions.is_empty() {
        all.collect()
    } else {
        partitions
    };
    if !yes {
        let upto = if before == END {
            "everything there is".to_owned()
        } else {
            format!("all below offset {before}")
        };
        let count = partitions.len();
        let what =
            format!("topic {name}: {upto} in {count} partitions would go; nothing was deleted");
        return Err(CliError::new(Exit::Usage, what).next("add --yes to delete the records"));
    }
    let before = partitions
        .into_iter()
        .map(|number| (TopicPartition::new(name, number), before));
    let starts = admin.delete_records(&before.collect()).await?;
    let trimmed = starts.into_iter().map(|(at, log_start_offset)| Trimmed {
        partition: at.partition,
        log_start_offset,
    });
    Ok(trimmed.collect())
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
