//! The task: where it starts, what it writes, what it refuses.
#![allow(clippy::disallowed_methods)]

use std::path::Path;

use flumen_connect::record::SinkRecord;
use flumen_connect::value::Text;
use tokio_util::sync::CancellationToken;

use super::*;

fn settings(path: &Path, format: &str) -> Settings {
    let props = [("file", path.to_str().unwrap()), ("format", format)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    FileSink::default()
        .config()
        .settings(&props.into())
        .unwrap()
}

fn partition(group_offset: Option<i64>, log_end_offset: i64) -> AssignedPartition {
    AssignedPartition {
        topic_partition: tp(),
        topic_id: None,
        log_start_offset: 3,
        log_end_offset,
        group_offset,
    }
}

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn batch(start_offset: i64, values: Vec<Value>) -> SinkBatch {
    let next_offset = start_offset + values.len() as i64;
    let record = |(at, value)| SinkRecord {
        offset: start_offset + at as i64,
        timestamp: 0,
        key: Data::NULL,
        value: Data::schemaless(value),
        headers: Vec::new(),
    };
    SinkBatch {
        topic_partition: tp(),
        start_offset,
        next_offset,
        records: values.into_iter().enumerate().map(record).collect(),
    }
}

async fn open(
    path: &Path,
    format: &str,
    partition: AssignedPartition,
) -> Result<(Box<dyn SinkTask>, StartAt), TaskError> {
    let mut task = FileSink::default().task(&settings(path, format));
    let context = SinkContext {
        connector: "c".to_owned(),
        task: 0,
        owner: "test".to_owned(),
        stopping: CancellationToken::new(),
    };
    let starts = task.open(context, &[partition]).await?;
    Ok((task, starts[&tp()]))
}

#[tokio::test]
async fn it_starts_at_the_group_then_where_the_file_is_then_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let (mut task, start) = open(&path, "lines", partition(Some(5), 100)).await.unwrap();
    assert_eq!(start, StartAt::Offset(5));
    let values = vec![
        Value::String(Text::from("a")),
        Value::Null,
        Value::Map(vec![("x".into(), Value::Int64(1))]),
    ];
    let _ = task.write(&[batch(5, values)]).await.unwrap();
    assert!(
        task.write(&[batch(5, vec![])])
            .await
            .unwrap_err()
            .to_string()
            .contains("offset 8 comes next, not 5")
    );
    drop(task);
    assert_eq!(
        open(&path, "lines", partition(Some(5), 100))
            .await
            .unwrap()
            .1,
        StartAt::Offset(8)
    );
    FileSink::default()
        .alter_offsets(&settings(&path, "lines"), "c", &[(tp(), Some(6))].into())
        .await
        .unwrap();
    assert_eq!(
        open(&path, "lines", partition(None, 100)).await.unwrap().1,
        StartAt::Offset(6)
    );
    FileSink::default()
        .alter_offsets(&settings(&path, "lines"), "c", &[(tp(), None)].into())
        .await
        .unwrap();
    assert_eq!(
        open(&path, "lines", partition(None, 100)).await.unwrap().1,
        StartAt::Offset(3)
    );
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "a\nnull\n{\"x\":1}\n"
    );
    let end = open(&path, "lines", partition(None, 2))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(end.contains("the topic ends at 2"), "{end}");
}

#[tokio::test]
async fn json_quotes_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let (mut task, _) = open(&path, "json", partition(None, 100)).await.unwrap();
    let _ = task
        .write(&[batch(3, vec!["a\nb".into(), Value::Int64(1)])])
        .await
        .unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "\"a\\nb\"\n1\n");
}
