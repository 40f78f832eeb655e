//! `flumen group list|describe|reset|delete|delete-offsets`: who is in a group, how far behind it is, and where it goes on.

use clap::Subcommand;
use flumen::client::{Admin, Isolation, OffsetSpec, TopicPartition};
use serde::Serialize;

use crate::Common;
use crate::error::{CliError, Exit};
use crate::output::Rows;
use crate::reset::Reset;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// List groups
    List,
    /// Show members, committed offsets and lag
    Describe {
        /// The group's id
        group: String,
    },
    /// Set where a group goes on; shows what would change, and does it with --execute
    Reset(Reset),
    /// Delete a group that nobody is in, with its offsets
    Delete {
        /// The group's id
        group: String,
        /// Do it; without this nothing is changed
        #[arg(long)]
        yes: bool,
    },
    /// Delete what a group has committed in a topic that it no longer reads
    DeleteOffsets {
        /// The group's id
        group: String,
        /// The topic
        topic: String,
        /// Do it; without this nothing is changed
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Serialize)]
struct Listed {
    group: String,
    state: String,
    protocol_type: String,
}

impl Rows for Vec<Listed> {
    fn header(&self) -> Vec<&'static str> {
        vec!["GROUP", "STATE", "TYPE"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        self.iter()
            .map(|g| vec![g.group.clone(), g.state.clone(), g.protocol_type.clone()])
            .collect()
    }
    fn empty(&self) -> &'static str {
        "no groups yet: a consumer that subscribes makes one"
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Described {
    pub(crate) group: String,
    pub(crate) state: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<Member>,
    pub(crate) offsets: Vec<Offset>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Member {
    pub(crate) member_id: String,
    pub(crate) client_id: String,
    pub(crate) host: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Offset {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) committed: i64,
    pub(crate) end: i64,
    /// Records between the two; transaction markers count as one each, as everywhere in Kafka.
    pub(crate) lag: i64,
}

impl Rows for Described {
    fn header(&self) -> Vec<&'static str> {
        vec!["TOPIC", "PARTITION", "COMMITTED", "END", "LAG"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |o: &Offset| {
            vec![
                o.topic.clone(),
                o.partition.to_string(),
                o.committed.to_string(),
                o.end.to_string(),
                o.lag.to_string(),
            ]
        };
        self.offsets.iter().map(row).collect()
    }
    fn empty(&self) -> &'static str {
        "the group has committed nothing"
    }
}

impl Group {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let admin = Admin::new(&common.client().await?);
        match self {
            Group::List => {
                let groups = admin.list_groups().await?.into_iter();
                let listed: Vec<Listed> = groups
                    .map(|g| Listed {
                        group: g.group,
                        state: g.state,
                        protocol_type: g.protocol_type,
                    })
                    .collect();
                common.output.print(&listed);
            }
            Group::Describe { group } => {
                let described = describe(&admin, &group).await?;
                if common.output == crate::output::Output::Table {
                    eprintln!(
                        "group {} is {}, {} members",
                        described.group,
                        described.state,
                        described.members.len()
                    );
                    for member in &described.members {
                        eprintln!(
                            "  {} ({} at {})",
                            member.member_id, member.client_id, member.host
                        );
                    }
                }
                common.output.print(&described);
            }
            Group::Reset(reset) => reset.run(common).await?,
            Group::Delete { group, yes } => {
                let count = admin.group_offsets(&group).await?.len();
                confirmed(yes, &format!("group {group} with {count} offsets"))?;
                admin.delete_group(&group).await?;
                eprintln!("deleted group {group}");
            }
            Group::DeleteOffsets { group, topic, yes } => {
                let mut offsets = admin.group_offsets(&group).await?;
                offsets.retain(|at, _| at.topic == topic);
                let what = format!("{} offsets of group {group} in {topic}", offsets.len());
                confirmed(yes, &what)?;
                let partitions: Vec<TopicPartition> = offsets.into_keys().collect();
                admin.delete_group_offsets(&group, &partitions).await?;
                eprintln!("deleted {what}");
            }
        }
        Ok(())
    }
}

fn confirmed(yes: bool, what: &str) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    let error = CliError::new(Exit::Usage, format!("{what}: nothing was deleted"));
    Err(error.next("add --yes to delete"))
}

/// Members, offsets and lag of a group.
pub(crate) async fn describe(admin: &Admin, group: &str) -> Result<Described, CliError> {
    let found = admin.describe_group(group).await?;
    let committed = admin.group_offsets(group).await?;
    if found.state == "Dead" && committed.is_empty() {
        let error = CliError::new(
            Exit::NotFound,
            format!("group {group}: GROUP_ID_NOT_FOUND (69) [DescribeGroups]"),
        );
        return Err(error.next("`flumen group list` shows what is there"));
    }
    let partitions: Vec<TopicPartition> = committed.keys().cloned().collect();
    let ends = admin
        .list_offsets(&partitions, OffsetSpec::Latest(Isolation::ReadUncommitted))
        .await?;
    let offset = |(at, committed): (&TopicPartition, &i64)| {
        let end = ends.get(at).map_or(-1, |found| found.offset);
        let lag = (end - committed).max(0);
        Offset {
            topic: at.topic.clone(),
            partition: at.partition,
            committed: *committed,
            end,
            lag,
        }
    };
    let member = |m: flumen::client::GroupMember| Member {
        member_id: m.member_id,
        client_id: m.client_id,
        host: m.host,
    };
    Ok(Described {
        group: found.group,
        state: found.state,
        protocol: found.protocol,
        members: found.members.into_iter().map(member).collect(),
        offsets: committed.iter().map(offset).collect(),
    })
}
