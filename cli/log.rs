//! `flumen log dirs`: where partitions lie and how large they are.

use clap::Subcommand;
use flumen::client::Admin;
use serde::Serialize;

use crate::Common;
use crate::error::CliError;
use crate::output::Rows;

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Show the size of every partition on every broker
    Dirs {
        /// Only this topic
        #[arg(long, short)]
        topic: Option<String>,
    },
}

#[derive(Debug, Serialize)]
struct Listed {
    topic: String,
    partition: i32,
    broker: i32,
    dir: String,
    size_bytes: i64,
}

impl Rows for Vec<Listed> {
    fn header(&self) -> Vec<&'static str> {
        vec!["TOPIC", "PARTITION", "BROKER", "SIZE", "DIRECTORY"]
    }
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |l: &Listed| {
            let size = u64::try_from(l.size_bytes).unwrap_or(0);
            vec![
                l.topic.clone(),
                l.partition.to_string(),
                l.broker.to_string(),
                bytesize::ByteSize(size).to_string(),
                l.dir.clone(),
            ]
        };
        self.iter().map(row).collect()
    }
    fn empty(&self) -> &'static str {
        "no partitions"
    }
}

impl Log {
    pub(crate) async fn run(self, common: &Common) -> Result<(), CliError> {
        let admin = Admin::new(&common.client().await?);
        let Log::Dirs { topic } = self;
        let entries = admin.log_dirs().await?.into_iter();
        let wanted = entries.filter(|entry| {
            topic
                .as_ref()
                .is_none_or(|topic| entry.partition.topic == *topic)
        });
        let listed: Vec<Listed> = wanted
            .map(|entry| Listed {
                topic: entry.partition.topic,
                partition: entry.partition.partition,
                broker: entry.broker,
                dir: entry.dir,
                size_bytes: entry.size_bytes,
            })
            .collect();
        common.output.print(&listed);
        Ok(())
    }
}
