//! What happens to a file while it is read, and between two runs.
#![allow(clippy::disallowed_methods)]

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flumen_connect::config::Props;
use flumen_connect::source::SourceConnector;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::FileSource;

const BUDGET: Budget = Budget {
    bytes: 1 << 20,
    records: 100_000,
    max_wait: Duration::from_millis(1),
};

struct Run {
    task: Box<dyn SourceTask>,
    position: Option<SourcePosition>,
    rejected: Vec<String>,
}

impl Run {
    async fn new(path: &Path, more: &[(&str, &str)], restored: Option<SourcePosition>) -> Run {
        let mut props: Props = [
            ("file", path.to_str().unwrap()),
            ("topic", "t"),
            ("rotate.wait.ms", "0"),
            ("poll.interval.ms", "1"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        props.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let settings = FileSource::default().config().settings(&props).unwrap();
        let mut task = FileSource::default().task(&settings);
        let context = SourceContext {
            connector: "c".to_owned(),
            task: 0,
            stopping: CancellationToken::new(),
        };
        task.open(context, restored.clone().into_iter().collect())
            .await
            .unwrap();
        Run {
            task,
            position: restored,
            rejected: Vec::new(),
        }
    }

    async fn poll(&mut self) -> Vec<SourceRecord> {
        let batch = self.task.poll(BUDGET).await.unwrap();
        self.position = batch.positions.last().cloned().or(self.position.take());
        self.rejected.extend(
            batch
                .rejected
                .iter()
                .map(|rejected| format!("{}: {}", rejected.place, rejected.reason)),
        );
        batch.records
    }

    /// Everything until nothing comes three times.
    async fn drain(&mut self) -> Vec<SourceRecord> {
        let (mut records, mut idle) = (Vec::new(), 0);
        while idle < 3 {
            let more = self.poll().await;
            idle = if more.is_empty() { idle + 1 } else { 0 };
            records.extend(more);
        }
        records
    }

    async fn lines(&mut self) -> Vec<String> {
        texts(&self.drain().await)
    }

    fn eof(&self) -> bool {
        self.position
            .as_ref()
            .is_some_and(|position| position.offset.contains_key("eof"))
    }
}

fn texts(records: &[SourceRecord]) -> Vec<String> {
    records
        .iter()
        .map(|record| record.value.value.as_str().unwrap_or("<bytes>").to_owned())
        .collect()
}

fn append(path: &Path, text: &str) {
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

const TEXT: &str = "eins\nzwölf Füße\r\n\nvier 🦀🦀\nend\n";

#[tokio::test]
async fn a_restart_at_every_byte_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for cut in 0..=TEXT.len() {
        let path = folder.path().join(format!("{cut}.txt"));
        std::fs::write(&path, &TEXT.as_bytes()[..cut]).unwrap();
        let mut first = Run::new(&path, &[], None).await;
        let mut lines = first.lines().await;
        std::fs::write(&path, TEXT).unwrap();
        let mut second = Run::new(&path, &[], first.position).await;
        lines.extend(second.lines().await);
        assert_eq!(
            lines,
            ["eins", "zwölf Füße", "", "vier 🦀🦀", "end"],
            "cut at {cut}"
        );
    }
}

#[tokio::test]
async fn a_restart_after_every_record_of_a_gzip_file_goes_on_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gz");
    let mut bytes = Vec::new();
    for part in [&TEXT[..9], &TEXT[9..], "no newline at the end"] {
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        member.write_all(part.as_bytes()).unwrap();
        bytes.extend(member.finish().unwrap());
    }
    std::fs::write(&path, bytes).unwrap();
    let (mut lines, mut position) = (Vec::new(), None);
    for _ in 0..6 {
        let mut run = Run::new(&path, &[("batch.size", "1")], position).await;
        let mut records = Vec::new();
        while records.is_empty() {
            records = run.poll().await;
        }
        lines.extend(texts(&records));
        position = run.position;
    }
    assert_eq!(
        lines,
        [
            "eins",
            "zwölf Füße",
            "",
            "vier 🦀🦀",
            "end",
            "no newline at the end"
        ]
    );
    let mut run = Run::new(&path, &[], position).await;
    assert!(run.lines().await.is_empty());
    assert!(run.eof());
}

#[tokio::test]
async fn a_damaged_gzip_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gz");
    std::fs::write(&path, b"\x1f\x8b\x08\0\0\0\0\0\0\0garbage").unwrap();
    let mut run = Run::new(&path, &[], None).await;
    let error = run.task.poll(BUDGET).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("reading file {}", path.display())),
        "{error}"
    );
}

#[tokio::test]
async fn a_rotated_file_is_read_to_its_end_before_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
    append(&path, "a\n");
    let mut run = Run::new(&path, &[("rotate.wait.ms", "60000")], None).await;
    assert_eq!(run.lines().await, ["a"]);
    std::fs::rename(&path, &old).unwrap();
    append(&path, "d\n");
    append(&old, "b\nc");
    assert_eq!(run.lines().await, ["b"], "the old file may still grow");
    let mut run = Run::new(&path, &[], run.position).await;
    assert_eq!(
        run.lines().await,
        ["c", "d"],
        "found by its inode after a restart"
    );
    assert_eq!(run.position.as_ref().unwrap().offset["generation"], 1);
    append(&path, "e\n");
    assert_eq!(run.lines().await, ["e"]);
}

#[tokio::test]
async fn a_truncated_or_rewritten_file_begins_a_new_generation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    append(&path, "a\nb\n");
    let mut run = Run::new(&path, &[], None).await;
    assert_eq!(run.lines().await, ["a", "b"]);
    std::fs::write(&path, "c\n").unwrap();
    assert_eq!(run.lines().await, ["c"], "shorter");
    std::fs::write(&path, "d\ne\nf\n").unwrap();
    assert_eq!(
        run.lines().await,
        ["d", "e", "f"],
        "longer, but another content"
    );
    assert_eq!(run.position.as_ref().unwrap().offset["generation"], 2);
    std::fs::write(&path, "g\n").unwrap();
    let mut run = Run::new(&path, &[], run.position).await;
    assert_eq!(run.lines().await, ["g"], "noticed after a restart too");
    let mut wrong = run.position.clone().unwrap();
    let _ = wrong.offset.insert("position".to_owned(), 999.into());
    assert_eq!(
        Run::new(&path, &[], Some(wrong)).await.lines().await,
        ["g"],
        "a position behind the end"
    );
}

#[tokio::test]
async fn a_copied_file_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("log"), folder.path().join("copy"));
    append(&path, "a\nb\n");
    let mut run = Run::new(&path, &[], None).await;
    let _ = run.lines().await;
    let _ = std::fs::copy(&path, &copy).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    append(&path, "c\n");
    assert_eq!(
        Run::new(&path, &[], run.position).await.lines().await,
        ["c"]
    );
}

#[tokio::test]
async fn a_missing_file_is_waited_for_and_bytes_that_are_no_text_stay_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut run = Run::new(&path, &[], None).await;
    assert!(run.lines().await.is_empty());
    std::fs::write(&path, b"ok\n\xff\xfe\n").unwrap();
    let records = run.drain().await;
    assert_eq!(
        records[1].value.value,
        Value::Bytes(bytes::Bytes::from_static(b"\xff\xfe"))
    );
    let mut load = Run::new(&folder.path().join("none"), &[("mode", "load")], None).await;
    assert!(
        load.task
            .poll(BUDGET)
            .await
            .unwrap_err()
            .to_string()
            .contains("No such file")
    );
}

const CSV: &str = "year,dep_delay,carrier,at\n2013,-1.5,UA,2013-01-01T10:00:00Z\n2013,NA,\"A,A\",2013-01-01T11:00:00Z\n\nx,1,B6,2013-01-01T11:00:00Z\n2013,3,DL,now\n2013,4,DL\n";

#[tokio::test]
async fn csv_rows_become_structs_and_what_does_not_parse_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flights.csv");
    std::fs::write(&path, CSV).unwrap();
    let options = [
        ("format", "csv"),
        ("mode", "load"),
        ("csv.columns", "year:int32,dep_delay:float64"),
        ("key.field", "carrier"),
        ("timestamp.field", "at"),
    ];
    let mut run = Run::new(&path, &options, None).await;
    let records = run.drain().await;
    assert_eq!(records.len(), 2);
    let Value::Struct(row) = &records[1].value.value else {
        panic!("a struct")
    };
    assert_eq!(
        row.values(),
        [
            Value::Int32(2013),
            Value::Null,
            "A,A".into(),
            "2013-01-01T11:00:00Z".into()
        ]
    );
    assert_eq!(
        (records[1].key.value.as_str(), records[1].timestamp),
        (Some("A,A"), Some(1_357_038_000_000))
    );
    let place = path.display();
    assert_eq!(
        run.rejected,
        [
            format!("{place} line 5 (byte 96): column year: \"x\" is no int32"),
            format!(
                "{place} line 6 (byte 124): timestamp \"now\" is neither RFC 3339 nor milliseconds"
            ),
            format!("{place} line 7 (byte 138): 3 fields where the header has 4"),
        ]
    );
    assert!(run.eof());
}

#[tokio::test]
async fn declared_types_may_be_corrected_between_two_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    append(&path, "id,name\n1,a\n");
    let declared = |columns| [("format", "csv"), ("csv.columns", columns)];
    let mut run = Run::new(&path, &declared("id:int64"), None).await;
    assert_eq!(run.drain().await.len(), 1);
    append(&path, "x2,b\n");
    let mut run = Run::new(&path, &declared("id:string"), run.position).await;
    let records = run.drain().await;
    assert_eq!(records[0].value.value.field("id"), Some(&"x2".into()));
    assert!(run.rejected.is_empty());
}

#[tokio::test]
async fn a_time_that_the_broker_would_refuse_costs_its_row_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("times.csv");
    let soon = disk::wall_clock_ms() + 60_000;
    let text = format!(
        "n,at\n1,2013-01-01T10:00:00Z\n2,2999-01-01T00:00:00Z\n3,1969-12-31T23:59:59Z\n4,-5\n5,{}\n6,{soon}\n",
        i64::MAX
    );
    std::fs::write(&path, text).unwrap();
    let place = path.display();
    let first = 1_357_034_400_000;
    for (columns, taken, far) in [
        ("at:string", vec![first, soon], 2),
        ("at:timestamp", vec![first, soon], 2),
        ("at:int64", vec![soon], 1),
    ] {
        let options = [
            ("format", "csv"),
            ("mode", "load"),
            ("csv.columns", columns),
            ("timestamp.field", "at"),
        ];
        let mut run = Run::new(&path, &options, None).await;
        let records = run.drain().await;
        let times: Vec<_> = records
            .iter()
            .filter_map(|record| record.timestamp)
            .collect();
        assert_eq!(times, taken, "{columns}");
        assert_eq!(times.len() + run.rejected.len(), 6, "{:?}", run.rejected);
        let ahead = run
            .rejected
            .iter()
            .filter(|why| why.ends_with("in the future"));
        assert_eq!(ahead.count(), far, "{:?}", run.rejected);
        assert!(run.eof());
        if columns == "at:string" {
            assert_eq!(
                run.rejected[..3],
                [
                    format!(
                        "{place} line 3 (byte 28): timestamp \"2999-01-01T00:00:00Z\" is more than an hour in the future"
                    ),
                    format!(
                        "{place} line 4 (byte 51): timestamp \"1969-12-31T23:59:59Z\" is no time since 1970"
                    ),
                    format!("{place} line 5 (byte 74): timestamp \"-5\" is no time since 1970"),
                ]
            );
        }
    }
}

#[tokio::test]
async fn inferred_types_stay_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    append(&path, "id,name\n");
    let mut run = Run::new(&path, &[("format", "csv")], None).await;
    assert!(run.lines().await.is_empty(), "no row yet to infer from");
    append(&path, "1,a\n");
    assert_eq!(run.drain().await.len(), 1);
    append(&path, "x2,b\n3,c\n");
    let mut run = Run::new(&path, &[("format", "csv")], run.position).await;
    let records = run.drain().await;
    assert_eq!(records[0].value.value.field("id"), Some(&Value::Int64(3)));
    assert_eq!(run.rejected.len(), 1);
    let mut wrong = Run::new(&path, &[("format", "csv"), ("key.field", "nme")], None).await;
    assert!(
        wrong
            .task
            .poll(BUDGET)
            .await
            .unwrap_err()
            .to_string()
            .contains("there is no column nme; the header has id, name")
    );
}

#[tokio::test]
async fn options_that_contradict_are_found_before_the_start() {
    let check = async |more: &[(&str, &str)], key: &str| {
        let mut props: Props = [
            ("file".to_owned(), "/".to_owned()),
            ("topic".to_owned(), "t".to_owned()),
        ]
        .into();
        props.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let findings = FileSource::default()
            .validate(&FileSource::default().config().settings(&props).unwrap())
            .await;
        assert!(
            findings
                .iter()
                .any(|finding| finding.key == key && finding.is_error()),
            "{key}: {findings:?}"
        );
    };
    check(&[], "file").await;
    check(&[("key.field", "a")], "key.field").await;
    check(&[("file", "/x.gz"), ("mode", "tail")], "mode").await;
    let bad: Props = [
        ("file".to_owned(), "x".to_owned()),
        ("topic".to_owned(), "a b".to_owned()),
    ]
    .into();
    assert!(FileSource::default().config().settings(&bad).is_err());
}
