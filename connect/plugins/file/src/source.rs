//! The file source: a file that grows (`mode=tail`) or is complete (`mode=load`) becomes records, each once.
//!
//! Owns the options and the task; reading is in `reader.rs`, positions in `position.rs`, CSV in `csv.rs`. Runs behind Kafka's `FileStreamSource` names.
//!
//! What it does differently from Kafka's connector of that name: positions are bytes, not characters; a rotated, truncated or replaced file is noticed; a line
//! is never torn; nothing spins; gzip and CSV are read; everything is exactly-once.

mod task;

use async_trait::async_trait;
use flumen_connect::config::{
    ConfigDef, ConfigKey, Finding, Importance, Kind, Props, Rule, Settings,
};
use flumen_connect::error::TaskError;
use flumen_connect::record::SourcePosition;
use flumen_connect::source::{Guarantee, SourceConnector, SourceTask};

use crate::csv::{Dialect, declared_columns};
use crate::disk::Threads;
use crate::position::Position;
use crate::reader::ReadOptions;

/// Lines or rows of one file into a topic.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSource {
    /// Where the disk is waited for.
    pub threads: Threads,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Lines,
    Csv,
}

/// The options, read once.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) read: ReadOptions,
    pub(crate) topic: String,
    pub(crate) format: Format,
    pub(crate) dialect: Dialect,
    /// Declared types, or `None`: inferred.
    pub(crate) columns: Option<String>,
    pub(crate) key_field: Option<String>,
    pub(crate) timestamp_field: Option<String>,
    /// The file is complete: its end is the end.
    pub(crate) load: bool,
    pub(crate) batch_size: usize,
    pub(crate) poll_interval: std::time::Duration,
    pub(crate) rotate_wait: std::time::Duration,
}

fn keys() -> Vec<ConfigKey> {
    let file = |key: ConfigKey| key.group("File");
    let csv = |key: ConfigKey| key.group("CSV").importance(Importance::Low);
    vec![
        file(ConfigKey::required("file", Kind::String, "The file to read.").rule(Rule::NonEmpty)),
        file(ConfigKey::required("topic", Kind::String, "The topic to write to.").rule(Rule::Check(one_topic))),
        file(ConfigKey::with_default("format", Kind::String, "lines", "What the file holds: lines, or csv with a header row.").rule(Rule::OneOf(&["lines", "csv"]))),
        file(ConfigKey::optional("mode", Kind::String, "tail: the file grows, a last line without its end is not complete. load: the file is complete; reading ends with it. Default: tail, for compressed files load.").rule(Rule::OneOf(&["tail", "load"]))),
        file(ConfigKey::with_default("compression", Kind::String, "auto", "none, gzip, or auto: by the name's ending .gz.").rule(Rule::OneOf(&["auto", "none", "gzip"]))),
        file(ConfigKey::with_default("batch.size", Kind::Int, 20_000, "The most records of one batch.").rule(Rule::Between(1, 1_000_000)).importance(Importance::Low)),
        file(ConfigKey::with_default("max.line.bytes", Kind::Int, 1_000_000, "A longer line is rejected: by errors.tolerance it stops the task, or goes to the dead letter topic, cut to this length.").rule(Rule::Between(1, 64 << 20))),
        file(ConfigKey::with_default("poll.interval.ms", Kind::Long, 250, "How often a file that has ended is looked at again.").rule(Rule::Between(1, 60_000)).importance(Importance::Low)),
        file(ConfigKey::with_default("rotate.wait.ms", Kind::Long, 5000, "How long a file that was renamed or deleted may still grow before the new file under its name is read.").rule(Rule::AtLeast(0)).importance(Importance::Low)),
        csv(ConfigKey::optional("csv.columns", Kind::String, "Types of columns, as year:int32,dep_delay:float64; those not named are text. Types: int32, int64, float64, boolean, string, timestamp. Unset: the narrowest of int64, float64 and text that holds the first 1000 rows.").rule(Rule::Check(columns))),
        csv(ConfigKey::with_default("csv.delimiter", Kind::String, ",", "The one character between fields; \\t for a tabulator.").rule(Rule::Check(|text| delimiter(text).map(drop)))),
        csv(ConfigKey::with_default("csv.null.values", Kind::List, "NA", "Unquoted spellings of no value.")),
        csv(ConfigKey::with_default("csv.empty.is.null", Kind::Boolean, true, "Whether an empty, unquoted text field is no value; of other types it always is.")),
        csv(ConfigKey::optional("key.field", Kind::String, "The column that becomes the key; it decides the partition.")),
        csv(ConfigKey::optional("timestamp.field", Kind::String, "The column that becomes the record's timestamp: RFC 3339 with a zone, or milliseconds since 1970. Unset: the time of reading.")),
    ]
}

fn one_topic(topic: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if topic.trim().is_empty() || topic.len() > 249 || !topic.trim().chars().all(legal) {
        return Err("a topic's name has 1 to 249 letters, digits, '.', '_' and '-'".to_owned());
    }
    Ok(())
}

fn columns(text: &str) -> Result<(), String> {
    declared_columns(text).map(drop)
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Ok(*byte),
        _ => Err("one ASCII character, not a quote or line end".to_owned()),
    }
}

impl Options {
    pub(crate) fn new(settings: &Settings) -> Options {
        let path = std::path::PathBuf::from(settings.str("file"));
        let gzip = match settings.word("compression").as_str() {
            "auto" => path
                .extension()
                .is_some_and(|ending| ending.eq_ignore_ascii_case("gz")),
            word => word == "gzip",
        };
        let format = if settings.word("format") == "csv" {
            Format::Csv
        } else {
            Format::Lines
        };
        let delimiter = delimiter(settings.raw("csv.delimiter")).unwrap_or(b',');
        Options {
            read: ReadOptions {
                path,
                gzip,
                delimiter: (format == Format::Csv).then_some(delimiter),
                max_line_bytes: settings.count("max.line.bytes"),
            },
            topic: settings.str("topic").to_owned(),
            format,
            dialect: Dialect {
                delimiter,
                nulls: settings.list("csv.null.values"),
                empty_is_null: settings.bool("csv.empty.is.null"),
            },
            columns: settings.opt("csv.columns").map(str::to_owned),
            key_field: settings.opt("key.field").map(str::to_owned),
            timestamp_field: settings.opt("timestamp.field").map(str::to_owned),
            load: gzip || settings.word("mode") == "load",
            batch_size: settings.count("batch.size"),
            poll_interval: settings.duration("poll.interval.ms"),
            rotate_wait: settings.duration("rotate.wait.ms"),
        }
    }
}

#[async_trait]
impl SourceConnector for FileSource {
    fn config(&self) -> ConfigDef {
        ConfigDef::new(keys())
    }

    async fn validate(&self, settings: &Settings) -> Vec<Finding> {
        let mut findings = Vec::new();
        let options = Options::new(settings);
        if options.format == Format::Lines {
            for key in ["key.field", "timestamp.field", "csv.columns"] {
                if settings.opt(key).is_some() {
                    findings.push(Finding::error(key, format!("Invalid value for configuration {key}: lines have no columns; set format=csv")));
                }
            }
        }
        if options.read.gzip && settings.word("mode") == "tail" {
            findings.push(Finding::error("mode", "Invalid value tail for configuration mode: a compressed file cannot be followed; set mode=load"));
        }
        let path = options.read.path;
        let look = move || crate::disk::open(&path).and_then(|file| file.metadata());
        match self.threads.blocking(look).await {
            Ok(Ok(meta)) if meta.is_dir() => findings.push(Finding::error(
                "file",
                format!(
                    "Invalid value {} for configuration file: it is a folder",
                    settings.str("file")
                ),
            )),
            Ok(Err(e)) => findings.push(Finding::warning(
                "file",
                format!("{}: {e}; the task will wait for it", settings.str("file")),
            )),
            _ => {}
        }
        findings
    }

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

    fn task(&self, settings: &Settings) -> Box<dyn SourceTask> {
        Box::new(task::FileSourceTask::new(
            Options::new(settings),
            self.threads,
        ))
    }

    async fn alter_offsets(
        &self,
        _settings: &Settings,
        positions: &[SourcePosition],
    ) -> Result<(), String> {
        for position in positions {
            if !position.partition.contains_key("filename") {
                return Err("a partition of this connector is {\"filename\": <path>}".to_owned());
            }
            let _ = Position::from_offset(&position.offset)?;
        }
        Ok(())
    }
}
