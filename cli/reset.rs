//! `flumen group reset`: where a group goes on, shown first and set only when asked to.
//!
//! Called by `group.rs`. It never touches a group that somebody is in.

use std::collections::BTreeMap;

use clap::Args;
use flumen::client::{Admin, Isolation, OffsetSpec, TopicPartition};
use serde::Serialize;

use crate::Common;
use crate::error::{CliError, Exit};
use crate::output::Rows;

/// Arguments of `flumen group reset`.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The group's id
    group: String,
    /// A topic, or one partition of it as topic:partition; may be repeated. All that the group has committed, if none is given
    #[arg(long = "topic", short)]
    topics: Vec<String>,
    #[command(flatten)]
    to: To,
    /// Do it; without this nothing is changed
    #[arg(long)]
    execute: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To the first record there is
    #[arg(long)]
    to_earliest: bool,
    /// Behind the last record there is
    #[arg(long)]
    to_latest: bool,
    /// To this offset, or the nearest there is
    #[arg(long)]
    to_offset: Option<i64>,
    /// To the first record of this time or later, as 2026-11-21T10:00:00Z
    #[arg(long)]
    to_time: Option<jiff::Timestamp>,
    /// Back by so much time from now, as 90m or 1h30m
    #[arg(long)]
    by_duration: Option<jiff::SignedDuration>,
    /// By so many records from where it is, back if negative
    #[arg(long, allow_hyphen_values = true)]
    shift_by: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Moved {
    topic: String,
    partition: i32,
    before: Option<i64>,
    after: i64,
}

impl Rows for Vec<Moved> {
    fn header(&self) -> Vec<&'static str> {
        vec!["TOPIC", "PARTITION", "COMMITTED", "NEW"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |m: &Moved| {
            vec![
                m.topic.clone(),
                m.partition.to_string(),
                m.before.map_or_else(|| "-".to_owned(), |at| at.to_string()),
                m.after.to_string(),
            ]
        };
        self.iter().map(row).collect()
    }
    fn empty(&self) -> &'static str {
        "nothing to reset: the group has committed nothing; --topic names what it is to read"
    }
}

impl Reset {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let admin = Admin::new(&common.client().await?);
        self.refuse_members(&admin).await?;
        let committed = admin.group_offsets(&self.group).await?;
        let partitions = self.partitions(&admin, &committed).await?;
        let wanted = self.wanted(&admin, &partitions, &committed).await?;
        let moved: Vec<Moved> = wanted
            .iter()
            .map(|(at, after)| Moved {
                topic: at.topic.clone(),
                partition: at.partition,
                before: committed.get(at).copied(),
                after: *after,
            })
            .collect();
        if self.execute && !wanted.is_empty() {
            admin.set_group_offsets(&self.group, &wanted).await?;
        }
        common.output.print(&moved);
        if !self.execute {
            eprintln!("nothing was changed: add --execute to do it");
        }
        Ok(())
    }

    async fn refuse_members(&self, admin: &Admin) -> Result<(), CliError> {
        let found = match admin.describe_group(&self.group).await {
            Ok(found) => found,
            // A group of offsets alone may be made by this very reset.
            Err(error) if error.code() == Some(69) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if found.members.is_empty() {
            return Ok(());
        }
        let members: Vec<String> = found
            .members
            .iter()
            .map(|member| format!("{} at {}", member.client_id, member.host))
            .collect();
        let what = format!(
            "group {} is {}: {}",
            self.group,
            found.state,
            members.join(", ")
        );
        Err(CliError::new(Exit::Conflict, what).next("stop its members first"))
    }

    async fn partitions(
        &self,
        admin: &Admin,
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<Vec<TopicPartition>, CliError> {
        if self.topics.is_empty() {
            return Ok(committed.keys().cloned().collect());
        }
        let mut partitions = Vec::new();
        for named in &self.topics {
            let one = named
                .rsplit_once(':')
                .and_then(|(topic, number)| Some((topic, number.parse::<i32>().ok()?)));
            match one {
                Some((topic, number)) => partitions.push(TopicPartition::new(topic, number)),
                None => {
                    let topic = admin.describe_topic(named).await?;
                    let all = topic.partitions.iter();
                    partitions.extend(all.map(|p| TopicPartition::new(named, p.partition)));
                }
            }
        }
        partitions.sort();
        partitions.dedup();
        Ok(partitions)
    }

    /// Within what there is: a wish beyond it is moved to the nearest end.
    async fn wanted(
        &self,
        admin: &Admin,
        partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, CliError> {
        let latest = OffsetSpec::Latest(Isolation::ReadUncommitted);
        let starts = admin.list_offsets(partitions, OffsetSpec::Earliest).await?;
        let ends = admin.list_offsets(partitions, latest).await?;
        let since = match (self.to.to_time, self.to.by_duration) {
            (Some(time), _) => Some(time.as_millisecond()),
            (_, Some(back)) => {
                let now = jiff::Timestamp::now().as_millisecond();
                let back = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
                Some(now.saturating_sub(back))
            }
            _ => None,
        };
        let by_time = match since {
            Some(ms) => {
                admin
                    .list_offsets(partitions, OffsetSpec::Timestamp(ms))
                    .await?
            }
            None => BTreeMap::new(),
        };
        let wanted = partitions.iter().map(|at| {
            let (start, end) = (starts[at].offset, ends[at].offset);
            let wish = if self.to.to_earliest {
                start
            } else if let Some(offset) = self.to.to_offset {
                offset
            } else if let Some(shift) = self.to.shift_by {
                let from = committed.get(at).copied().unwrap_or(start);
                from.saturating_add(shift)
            } else {
                // No record of that time or later: behind the last, as for --to-latest.
                by_time.get(at).map_or(-1, |found| found.offset)
            };
            let wish = if wish < 0 && self.to.shift_by.is_none() {
                end
            } else {
                wish
            };
            (at.clone(), wish.clamp(start, end))
        });
        Ok(wanted.collect())
    }
}
