//! `flumen streams describe`: a running Streams application as the cluster sees it: members, internal topics, positions and lag.

use clap::Subcommand;
use flumen::client::Admin;
use serde::Serialize;

use crate::Common;
use crate::error::CliError;
use crate::group;
use crate::output::{Output, Rows};

#[derive(Debug, Subcommand)]
pub(crate) enum Streams {
    /// Show members, internal topics and lag of an application
    Describe {
        /// Its application.id
        application: String,
    },
}

#[derive(Debug, Serialize)]
struct Described {
    #[serde(flatten)]
    group: group::Described,
    internal_topics: Vec<Internal>,
}

#[derive(Debug, Serialize)]
struct Internal {
    topic: String,
    kind: &'static str,
    partitions: usize,
}

impl Rows for Described {
    fn header(&self) -> Vec<&'static str> {
        self.group.header()
    }
    fn rows(&self) -> Vec<Vec<String>> {
        self.group.rows()
    }
    fn empty(&self) -> &'static str {
        self.group.empty()
    }
}

impl Streams {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let Streams::Describe { application } = self;
        let admin = Admin::new(&common.client().await?);
        let group = group::describe(&admin, &application).await?;
        let prefix = format!("{application}-");
        let internal_topics = admin.list_topics().await?.into_iter().filter_map(|topic| {
            let kind = [("-repartition", "repartition"), ("-changelog", "changelog")]
                .into_iter()
                .find(|(end, _)| topic.name.ends_with(end))?
                .1;
            topic.name.starts_with(&prefix).then(|| Internal {
                partitions: topic.partitions.len(),
                topic: topic.name.clone(),
                kind,
            })
        });
        let described = Described {
            internal_topics: internal_topics.collect(),
            group,
        };
        if common.output == Output::Table {
            eprintln!(
                "application {application} is {}, {} members",
                described.group.state,
                described.group.members.len()
            );
            for topic in &described.internal_topics {
                eprintln!(
                    "  {} topic {} with {} partitions",
                    topic.kind, topic.topic, topic.partitions
                );
            }
        }
        common.output.print(&described);
        Ok(())
    }
}
