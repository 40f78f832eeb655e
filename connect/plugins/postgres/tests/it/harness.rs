//! Tasks driven as the worker drives them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use flumen_connect::config::{Props, Settings};
use flumen_connect::converter::{Converter, JsonConverter};
use flumen_connect::error::TaskError;
use flumen_connect::record::{SinkBatch, SinkRecord, TopicId, TopicPartition};
use flumen_connect::sink::{
    AssignedPartition, SinkConnector, SinkContext, SinkTask, StartAt, Written,
};
use flumen_connect_postgres::PostgresSink;
use tokio_util::sync::CancellationToken;

/// The topic of most tests, and so the table.
pub(crate) const TOPIC: &str = "flights";

/// Settings of the sink on `host`, which may be a directory or an address with a port.
pub(crate) fn settings(host: &str, pairs: &[(&str, &str)]) -> Settings {
    let mut props = Props::new();
    let (host, port) = match host.split_once(':') {
        Some((host, port)) => (host, port),
        None => (host, "5432"),
    };
    let connection = [
        ("connection.host", host),
        ("connection.port", port),
        ("connection.user", "postgres"),
        ("connection.database", "postgres"),
    ];
    for (name, value) in connection.iter().chain(pairs) {
        let _ = props.insert((*name).to_owned(), (*value).to_owned());
    }
    let findings = PostgresSink.config().validate(&props);
    assert_eq!(findings, [], "the settings of the test");
    PostgresSink.config().settings(&props).unwrap()
}

/// A task, not yet open.
pub(crate) fn task(host: &str, pairs: &[(&str, &str)]) -> Box<dyn SinkTask> {
    PostgresSink.task(&settings(host, pairs))
}

/// Partition `partition` of [`TOPIC`] as the cluster has it.
pub(crate) fn assigned(partition: i32) -> AssignedPartition {
    AssignedPartition {
        topic_partition: TopicPartition::new(TOPIC, partition),
        topic_id: Some(TopicId([9; 16])),
        log_start_offset: 0,
        log_end_offset: 1_000_000,
        group_offset: None,
    }
}

pub(crate) fn context(owner: &str) -> SinkContext {
    SinkContext {
        connector: "to-postgres".to_owned(),
        task: 0,
        owner: owner.to_owned(),
        stopping: CancellationToken::new(),
    }
}

/// Opens `partitions` of [`TOPIC`], again as long as it says so; returns their starts in order.
pub(crate) async fn open(task: &mut dyn SinkTask, owner: &str, partitions: &[i32]) -> Vec<i64> {
    let partitions: Vec<AssignedPartition> = partitions.iter().map(|p| assigned(*p)).collect();
    loop {
        match task.open(context(owner), &partitions).await {
            Ok(starts) => return offsets(&starts),
            Err(TaskError::Retry { after, .. }) => tokio::time::sleep(after).await,
            Err(other) => panic!("{other}"),
        }
    }
}

pub(crate) fn offsets(starts: &BTreeMap<TopicPartition, StartAt>) -> Vec<i64> {
    let offset = |start: &StartAt| match start {
        StartAt::Offset(offset) => *offset,
        StartAt::Group => -1,
    };
    starts.values().map(offset).collect()
}

/// Writes, again as long as it says so, as the worker does; the number of tries that failed.
pub(crate) async fn write(
    task: &mut dyn SinkTask,
    batches: &[SinkBatch],
) -> Result<usize, TaskError> {
    for failures in 0..200 {
        match task.write(batches).await {
            Ok(written) => {
                assert_eq!(written, Written::Durable);
                return Ok(failures);
            }
            Err(TaskError::Retry { after, .. }) => {
                tokio::time::sleep(after.min(Duration::from_millis(50))).await
            }
            Err(other) => return Err(other),
        }
    }
    panic!("never written");
}

/// A record of JSON texts; an empty one is null.
pub(crate) fn record(offset: i64, key: &str, value: &str) -> SinkRecord {
    let json = JsonConverter::new(false);
    let decode = |text: &str| {
        let bytes = (!text.is_empty()).then(|| Bytes::copy_from_slice(text.as_bytes()));
        json.decode(TOPIC, bytes.as_ref()).unwrap()
    };
    SinkRecord {
        offset,
        timestamp: 1_700_000_000_000 + offset,
        key: decode(key),
        value: decode(value),
        headers: Vec::new(),
    }
}

/// A batch of partition 0 from `start`, of values.
pub(crate) fn values(start: i64, values: &[&str]) -> SinkBatch {
    let pairs: Vec<(&str, &str)> = values.iter().map(|value| ("", *value)).collect();
    keyed(start, &pairs)
}

/// A batch of partition 0 from `start`, of keys and values.
pub(crate) fn keyed(start: i64, pairs: &[(&str, &str)]) -> SinkBatch {
    let at = (start..).zip(pairs);
    let records: Vec<SinkRecord> = at
        .map(|(offset, (key, value))| record(offset, key, value))
        .collect();
    SinkBatch {
        topic_partition: TopicPartition::new(TOPIC, 0),
        start_offset: start,
        next_offset: start + i64::try_from(records.len()).unwrap(),
        records,
    }
}

/// A batch of `{"part": partition, "n": offset}` for offsets `start..end`.
pub(crate) fn numbers(partition: i32, start: i64, end: i64) -> SinkBatch {
    let value = |n: i64| format!("{{\"part\":{partition},\"n\":{n},\"text\":\"record {n}\"}}");
    SinkBatch {
        topic_partition: TopicPartition::new(TOPIC, partition),
        start_offset: start,
        next_offset: end,
        records: (start..end).map(|n| record(n, "", &value(n))).collect(),
    }
}
