//! The file sink: records of topics as lines of one file, each exactly once.
//!
//! Owns the options and the task; the file itself is in `store.rs`. Runs behind Kafka's `FileStreamSink` names. What Kafka's connector of that name does not do:
//! an error of the disk is an error, a commit is on disk, a crash leaves no torn or repeated line, and two owners cannot both write.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use flumen_connect::config::{ConfigDef, ConfigKey, Kind, Props, Rule, Settings};
use flumen_connect::converter::{Converter, JsonConverter};
use flumen_connect::error::{RejectedRecord, TaskError};
use flumen_connect::record::{Data, SinkBatch, TopicPartition};
use flumen_connect::sink::{
    AssignedPartition, Guarantee, SinkConnector, SinkContext, SinkTask, StartAt, Written,
};
use flumen_connect::value::Value;

use crate::disk::Threads;
use crate::journal::{Commit, Next};
use crate::store::{Store, StoreError};

/// Topics into one file.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSink {
    /// Where the disk is waited for.
    pub threads: Threads,
}

#[async_trait]
impl SinkConnector for FileSink {
    fn config(&self) -> ConfigDef {
        let file = |key: ConfigKey| key.group("File");
        ConfigDef::new([
            file(ConfigKey::required("file", Kind::String, "The file to append to. Beside it stand <file>.offsets, which says how much of it is committed, and <file>.lock.").rule(Rule::NonEmpty)),
            file(
                ConfigKey::with_default("format", Kind::String, "lines", "lines: text as it is, everything else as JSON. json: everything as JSON, text in quotes.")
                    .rule(Rule::OneOf(&["lines", "json"])),
            ),
        ])
    }

    /// One file has one writer, whatever `tasks.max` says.
    async fn task_configs(
        &self,
        settings: &Settings,
        _max_tasks: usize,
    ) -> Result<Vec<Props>, TaskError> {
        Ok(vec![settings.props().clone()])
    }

    fn guarantees(&self, _settings: &Settings) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    /// The file keeps its own offsets, so they are set there. The claim fences whoever may still write.
    async fn alter_offsets(
        &self,
        settings: &Settings,
        connector: &str,
        offsets: &BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<(), String> {
        let (path, connector) = (PathBuf::from(settings.str("file")), connector.to_owned());
        let offsets = offsets.clone();
        let altered = self.threads.blocking(move || {
            let mut store = Store::claim(&path, &connector, "offsets altered over REST")?;
            let mut next = store.commit().clone();
            for (partition, offset) in offsets {
                let name = key(&partition);
                match offset {
                    Some(offset) => next.next.entry(name).or_default().offset = offset,
                    None => drop(next.next.remove(&name)),
                }
            }
            store.append(&[], &next)
        });
        altered
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())
    }

    fn task(&self, settings: &Settings) -> Box<dyn SinkTask> {
        Box::new(FileSinkTask {
            threads: self.threads,
            path: settings.str("file").into(),
            quoted: settings.word("format") == "json",
            json: JsonConverter::new(false),
            store: None,
        })
    }
}

/// The task.
struct FileSinkTask {
    threads: Threads,
    path: PathBuf,
    quoted: bool,
    json: JsonConverter,
    /// `None` before `open`, and while a blocking thread has it.
    store: Option<Store>,
}

impl FileSinkTask {
    fn line(&self, value: &Data, out: &mut Vec<u8>) -> Result<(), String> {
        match &value.value {
            Value::String(text) if !self.quoted => out.extend_from_slice(text.as_bytes()),
            Value::Bytes(bytes) if !self.quoted => out.extend_from_slice(bytes),
            Value::Null => out.extend_from_slice(b"null"),
            _ => out.extend_from_slice(
                &self
                    .json
                    .encode("", value)
                    .map_err(|e| e.0)?
                    .unwrap_or_default(),
            ),
        }
        out.push(b'\n');
        Ok(())
    }

    fn lines(&self, batches: &[SinkBatch]) -> Result<Vec<u8>, TaskError> {
        let mut out = Vec::with_capacity(64 * 1024);
        let mut refused = Vec::new();
        for (batch, records) in batches.iter().enumerate() {
            for (record, data) in records.records.iter().enumerate() {
                if let Err(reason) = self.line(&data.value, &mut out) {
                    refused.push(RejectedRecord {
                        batch,
                        record,
                        reason,
                    });
                }
            }
        }
        if refused.is_empty() {
            Ok(out)
        } else {
            Err(TaskError::Records(refused))
        }
    }
}

#[async_trait]
impl SinkTask for FileSinkTask {
    async fn open(
        &mut self,
        context: SinkContext,
        partitions: &[AssignedPartition],
    ) -> Result<BTreeMap<TopicPartition, StartAt>, TaskError> {
        self.store = None;
        let path = self.path.clone();
        let claim = move || Store::claim(&path, &context.connector, &context.owner);
        let claimed = self.threads.blocking(claim).await?;
        let mut store = claimed.map_err(task_error)?;
        let (mut starts, mut next) = (BTreeMap::new(), store.commit().clone());
        for partition in partitions {
            let wrong = |why| TaskError::fatal(format!("file {}: {why}", self.path.display()));
            let offset = start(store.commit(), partition).map_err(wrong)?;
            let _ = starts.insert(partition.topic_partition.clone(), StartAt::Offset(offset));
            let topic_id = partition.topic_id.map(|id| id.to_string());
            let _ = next
                .next
                .insert(key(&partition.topic_partition), Next { offset, topic_id });
        }
        // Where a partition begins is as much a promise as where it is: what is deleted before it is read shall be missed.
        let store = if next.next == store.commit().next {
            store
        } else {
            let begin = move || store.append(&[], &next).map(|()| store);
            self.threads.blocking(begin).await?.map_err(task_error)?
        };
        self.store = Some(store);
        Ok(starts)
    }

    async fn write(&mut self, batches: &[SinkBatch]) -> Result<Written, TaskError> {
        let lines = self.lines(batches)?;
        let mut store = self
            .store
            .take()
            .ok_or_else(|| TaskError::fatal("written before open, or again after a fatal error"))?;
        let next = match advanced(store.commit(), batches) {
            Ok(next) => next,
            Err(why) => {
                return Err(TaskError::fatal(format!(
                    "file {}: {why}",
                    self.path.display()
                )));
            }
        };
        let append = move || {
            let written = store.append(&lines, &next);
            (store, written)
        };
        let (store, written) = self.threads.blocking(append).await?;
        self.store = Some(store);
        written.map_err(task_error)?;
        Ok(Written::Durable)
    }
}

/// Where `partition` starts, by what the file holds.
fn start(commit: &Commit, partition: &AssignedPartition) -> Result<i64, String> {
    let name = key(&partition.topic_partition);
    let Some(next) = commit.next.get(&name) else {
        return Ok(partition.group_offset.unwrap_or(partition.log_start_offset));
    };
    if let (Some(written), Some(now)) = (&next.topic_id, &partition.topic_id)
        && *written != now.to_string()
    {
        return Err(format!(
            "{name}: the topic was deleted and made again (id {written}, now {now}); the file holds the old one's records"
        ));
    }
    if next.offset > partition.log_end_offset {
        return Err(format!(
            "{name}: the file holds records up to offset {}, the topic ends at {}: it lost records or is another cluster's",
            next.offset, partition.log_end_offset
        ));
    }
    Ok(next.offset)
}

/// The commit after `batches`.
fn advanced(commit: &Commit, batches: &[SinkBatch]) -> Result<Commit, String> {
    let mut next = commit.clone();
    for batch in batches {
        let entry = next
            .next
            .entry(key(&batch.topic_partition))
            .or_insert_with(|| Next {
                offset: batch.start_offset,
                topic_id: None,
            });
        if entry.offset != batch.start_offset {
            return Err(format!(
                "{}: offset {} comes next, not {}",
                key(&batch.topic_partition),
                entry.offset,
                batch.start_offset
            ));
        }
        entry.offset = batch.next_offset;
    }
    Ok(next)
}

fn key(partition: &TopicPartition) -> String {
    format!("{}-{}", partition.topic, partition.partition)
}

fn task_error(error: StoreError) -> TaskError {
    match error {
        StoreError::Retry(why) => TaskError::retry(Duration::from_millis(500), why),
        StoreError::Fenced(why) => TaskError::Fenced(why),
        StoreError::Refused(why) => TaskError::fatal(why),
    }
}

impl fmt::Debug for FileSinkTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSinkTask")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
