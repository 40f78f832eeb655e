//! The task of a file source: which file to read now, lines to records, waiting.
//!
//! Owns the change from one file to the next. Called by the worker only, one call at a time; file work runs on a blocking thread.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use flumen_connect::error::TaskError;
use flumen_connect::record::{
    Boundary, Data, RejectedInput, SourceBatch, SourcePartition, SourcePosition, SourceRecord,
};
use flumen_connect::source::{Budget, SourceContext, SourceTask};
use flumen_connect::value::Value;
use tracing::{info, warn};

use super::{Format, Options};
use crate::csv::{Table, parse_timestamp};
use crate::disk::{self, Threads};
use crate::lines::{Line, LineCutter};
use crate::position::Position;
use crate::reader::{Found, Reader, beginning};

/// How many rows decide the inferred types, and how many bytes they are looked for in.
const SAMPLE_ROWS: usize = 1000;
const SAMPLE_BYTES: usize = 1 << 20;

/// How far ahead of the wall clock a record may be. Kafka's brokers refuse more: `message.timestamp.after.max.ms`.
const MOST_AHEAD_MS: i64 = 60 * 60 * 1000;

/// The task.
pub(crate) struct FileSourceTask {
    threads: Threads,
    context: Option<SourceContext>,
    options: Arc<Options>,
    /// `None` only while a blocking thread has it.
    following: Option<Box<Following>>,
}

/// A path, and the file under it that is being read.
struct Following {
    options: Arc<Options>,
    topic: Arc<str>,
    file: Option<OpenFile>,
    /// What is in the topic, or on its way.
    position: Option<Position>,
    /// Said once that there is no file.
    missing: bool,
}

struct OpenFile {
    reader: Reader,
    table: Option<Table>,
    /// Where it was found: the path, or the name it was rotated to.
    path: PathBuf,
    /// The path holds another file (or none), since then.
    rotated: Option<Instant>,
    finished: bool,
}

impl FileSourceTask {
    pub(crate) fn new(options: Options, threads: Threads) -> FileSourceTask {
        FileSourceTask {
            threads,
            context: None,
            options: Arc::new(options),
            following: None,
        }
    }

    fn partition(&self) -> SourcePartition {
        [(
            "filename".to_owned(),
            self.options.read.path.to_string_lossy().into(),
        )]
        .into()
    }
}

#[async_trait]
impl SourceTask for FileSourceTask {
    async fn open(
        &mut self,
        context: SourceContext,
        restored: Vec<SourcePosition>,
    ) -> Result<(), TaskError> {
        let partition = self.partition();
        let stored = restored
            .into_iter()
            .find(|position| position.partition == partition);
        let stored = stored
            .map(|position| Position::from_offset(&position.offset))
            .transpose();
        let position = stored.map_err(|e| {
            TaskError::fatal(format!(
                "file {}: stored position: {e}",
                self.options.read.path.display()
            ))
        })?;
        let topic = self.options.topic.as_str().into();
        self.following = Some(Box::new(Following {
            options: Arc::clone(&self.options),
            topic,
            file: None,
            position,
            missing: false,
        }));
        self.context = Some(context);
        Ok(())
    }

    async fn poll(&mut self, budget: Budget) -> Result<SourceBatch, TaskError> {
        let mut following = self
            .following
            .take()
            .ok_or_else(|| TaskError::fatal("polled before open, or again after an error"))?;
        let work = move || {
            let polled = following.poll(budget);
            (following, polled)
        };
        let (following, polled) = self.threads.blocking(work).await?;
        self.following = Some(following);
        let mut batch = polled?;
        for position in &mut batch.positions {
            position.partition = self.partition();
        }
        if batch.is_empty() {
            let context = self.context.as_ref().expect("set by open");
            tokio::select! {
                biased;
                () = context.stopping.cancelled() => {}
                () = disk::sleep(self.options.poll_interval.min(budget.max_wait)) => {}
            }
        }
        Ok(batch)
    }
}

impl Following {
    fn poll(&mut self, budget: Budget) -> Result<SourceBatch, TaskError> {
        if self.file.is_none() && !self.open()? {
            return Ok(SourceBatch::default());
        }
        let file = self.file.as_mut().expect("opened");
        if !file.reader.has_lines() && !file.finished {
            match file
                .reader
                .fill(budget.bytes.min(1 << 20))
                .map_err(|e| io_error(&file.path, "reading", &e))?
            {
                Found::Bytes => {}
                Found::End => self.at_end()?,
                Found::Changed(why) => {
                    self.begin_anew(&why);
                    return Ok(SourceBatch::default());
                }
            }
        }
        self.take_lines(budget)
    }

    /// Opens the file of the stored position; `false`: there is none yet.
    fn open(&mut self) -> Result<bool, TaskError> {
        let path = self.options.read.path.clone();
        match Reader::open(&self.options.read, &path, self.position.as_ref()) {
            Ok((reader, None)) => self.start(reader, path),
            Ok((reader, Some(why))) => match self.open_rotated() {
                Some((old, at)) => self.start(old, at),
                None => {
                    self.begin_anew(&why);
                    self.start(reader, path)
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => match self.open_rotated() {
                Some((old, at)) => self.start(old, at),
                None if self.options.load => Err(io_error(&path, "opening", &e)),
                None => {
                    if !std::mem::replace(&mut self.missing, true) {
                        warn!(file = %path.display(), "there is no such file; waiting for it");
                    }
                    Ok(false)
                }
            },
            Err(e) => Err(io_error(&path, "opening", &e)),
        }
    }

    /// The file of the stored position under another name: what it holds behind the position comes first.
    fn open_rotated(&self) -> Option<(Reader, PathBuf)> {
        let stored = self.position.as_ref()?;
        let path = disk::find_inode(&self.options.read.path, stored.inode?)
            .filter(|path| *path != self.options.read.path)?;
        match Reader::open(&self.options.read, &path, Some(stored)) {
            Ok((reader, None)) => Some((reader, path)),
            _ => None,
        }
    }

    fn start(&mut self, reader: Reader, path: PathBuf) -> Result<bool, TaskError> {
        let table = match self.options.format {
            Format::Lines => None,
            Format::Csv => match self.table(&path)? {
                Some(table) => Some(table),
                None => return Ok(false),
            },
        };
        self.missing = false;
        self.file = Some(OpenFile {
            reader,
            table,
            path,
            rotated: None,
            finished: false,
        });
        Ok(true)
    }

    /// The columns of the file; `None` while it has no header yet, or no row to infer types from.
    fn table(&self, path: &std::path::Path) -> Result<Option<Table>, TaskError> {
        let options = &self.options;
        let known = self
            .position
            .as_ref()
            .and_then(|position| position.columns.as_deref());
        let upto = if known.is_some() || options.columns.is_some() {
            options.read.max_line_bytes + 2
        } else {
            SAMPLE_BYTES.max(options.read.max_line_bytes + 2)
        };
        let bytes =
            beginning(&options.read, path, upto).map_err(|e| io_error(path, "reading", &e))?;
        let whole = bytes.len() < upto && options.load;
        let mut cutter = LineCutter::new(0, 0, options.read.delimiter, options.read.max_line_bytes);
        let mut lines = VecDeque::new();
        cutter.feed(bytes, &mut lines);
        if whole {
            cutter.finish(&mut lines);
        }
        let Some(header) = lines.pop_front() else {
            return Ok(None);
        };
        let wrong =
            |why: String| TaskError::fatal(format!("file {} line 1: {why}", path.display()));
        let names = Table::header(&options.dialect, &header.bytes).map_err(wrong)?;
        // What was inferred stays what it was; what is declared may be corrected between two runs.
        let table = match options.columns.as_deref().or(known) {
            Some(types) => {
                Table::declared(options.dialect.clone(), &names, types).map_err(wrong)?
            }
            None if lines.is_empty() && !whole => return Ok(None),
            None => Table::inferred(
                options.dialect.clone(),
                &names,
                lines.iter().take(SAMPLE_ROWS).map(|line| &line.bytes),
            ),
        };
        for field in [&options.key_field, &options.timestamp_field]
            .into_iter()
            .flatten()
        {
            if table.column(field).is_none() {
                return Err(wrong(format!(
                    "there is no column {field}; the header has {}",
                    names.join(", ")
                )));
            }
        }
        Ok(Some(table))
    }

    /// Another content under the path: from byte 0, one generation on.
    fn begin_anew(&mut self, why: &str) {
        let generation = self
            .position
            .as_ref()
            .map_or(0, |position| position.generation + 1);
        warn!(file = %self.options.read.path.display(), generation, "reading from the beginning: {why}");
        self.position = Some(Position {
            generation,
            ..Position::default()
        });
        self.file = None;
    }

    /// Nothing more to read: is it over, or was the file rotated away?
    fn at_end(&mut self) -> Result<(), TaskError> {
        let file = self.file.as_mut().expect("called with an open file");
        if self.options.load {
            file.reader.finish();
            file.finished = true;
            return Ok(());
        }
        let here = disk::open(&self.options.read.path).and_then(|current| current.metadata());
        let here = here.map(|meta| std::os::unix::fs::MetadataExt::ino(&meta));
        if here
            .as_ref()
            .is_ok_and(|inode| *inode == file.reader.inode.1)
        {
            file.rotated = None;
            return Ok(());
        }
        let since = *file.rotated.get_or_insert_with(disk::now);
        if here.is_ok() && disk::now().duration_since(since) >= self.options.rotate_wait {
            file.reader.finish();
            file.finished = true;
        }
        Ok(())
    }

    fn take_lines(&mut self, budget: Budget) -> Result<SourceBatch, TaskError> {
        let mut batch = SourceBatch::default();
        let most = self.options.batch_size.min(budget.records).max(1);
        let file = self.file.as_mut().expect("called with an open file");
        let mut last = None;
        while batch.records.len() + batch.rejected.len() < most
            && batch.bytes < budget.bytes.max(1)
            && let Some(line) = file.reader.next_line()
        {
            batch.bytes += line.bytes.len();
            match to_record(&self.options, file.table.as_ref(), &self.topic, &line) {
                Ok(record) => batch.records.extend(record),
                Err(reason) => batch.rejected.push(RejectedInput {
                    topic: Arc::clone(&self.topic),
                    place: format!(
                        "{} line {} (byte {})",
                        self.options.read.path.display(),
                        line.number,
                        line.start
                    ),
                    reason,
                    raw: line.bytes.clone(),
                }),
            }
            last = Some(line);
        }
        let generation = self
            .position
            .as_ref()
            .map_or(0, |position| position.generation);
        let done = file.finished && !file.reader.has_lines();
        if let Some(line) = last {
            let position = file
                .reader
                .position_after(&line)
                .map_err(|e| io_error(&file.path, "reading", &e))?;
            let columns = file.table.as_ref().map(Table::types);
            self.position = Some(Position {
                generation,
                columns,
                eof: done && self.options.load,
                ..position
            });
        } else if done
            && self.options.load
            && self.position.as_ref().is_none_or(|position| !position.eof)
        {
            self.position.get_or_insert_default().eof = true;
        } else {
            if done && !self.options.load {
                self.next_file();
            }
            return Ok(batch);
        }
        let position = self.position.as_ref().expect("just set");
        batch.positions.push(SourcePosition {
            partition: SourcePartition::new(),
            offset: position.to_offset(),
        });
        if position.eof {
            info!(file = %self.options.read.path.display(), lines = position.line, bytes = position.position, "the whole file is read");
            batch.boundary = Boundary::Here;
        }
        Ok(batch)
    }

    /// The old file is read to its end: the next poll opens what stands under the path now.
    fn next_file(&mut self) {
        let generation = self
            .position
            .as_ref()
            .map_or(0, |position| position.generation + 1);
        info!(file = %self.options.read.path.display(), generation, "the file was rotated and is read to its end; on with the new one");
        self.position = Some(Position {
            generation,
            ..Position::default()
        });
        self.file = None;
    }
}

/// The record of a line; none for the header and for empty rows of CSV.
fn to_record(
    options: &Options,
    table: Option<&Table>,
    topic: &Arc<str>,
    line: &Line,
) -> Result<Option<SourceRecord>, String> {
    if line.too_long {
        return Err(format!(
            "longer than max.line.bytes ({})",
            options.read.max_line_bytes
        ));
    }
    let Some(table) = table else {
        return Ok(Some(SourceRecord::new(
            Arc::clone(topic),
            Data::line(line.bytes.clone()),
        )));
    };
    if line.start == 0 || line.bytes.is_empty() {
        return Ok(None);
    }
    let row = table.row(&line.bytes)?;
    let of = |field: &Option<String>| field.as_deref().and_then(|field| row.get(field)).cloned();
    let timestamp = of(&options.timestamp_field)
        .map(|value| to_timestamp(&value))
        .transpose()?;
    let key = match options
        .key_field
        .as_deref()
        .and_then(|field| table.column(field))
    {
        None => Data::NULL,
        Some(index) => Data::with_schema(
            Arc::clone(&table.schema().fields()[index].schema),
            row.values()[index].clone(),
        ),
    };
    let value = Data::with_schema(Arc::clone(table.schema()), Value::Struct(Box::new(row)));
    Ok(Some(SourceRecord {
        key,
        timestamp,
        ..SourceRecord::new(Arc::clone(topic), value)
    }))
}

/// The time of a record, where the broker will take it: one that it refuses takes the whole batch with it.
fn to_timestamp(value: &Value) -> Result<i64, String> {
    let (at, shown) = match value {
        Value::String(text) => {
            let shown = format!("timestamp {:?}", text.as_str());
            let at = parse_timestamp(text.as_str());
            let at = at.ok_or_else(|| format!("{shown} is neither RFC 3339 nor milliseconds"))?;
            (Some(at), shown)
        }
        value => (value.as_i64(), format!("timestamp {value:?}")),
    };
    let at = at
        .filter(|at| *at >= 0)
        .ok_or_else(|| format!("{shown} is no time since 1970"))?;
    if at.saturating_sub(disk::wall_clock_ms()) > MOST_AHEAD_MS {
        return Err(format!("{shown} is more than an hour in the future"));
    }
    Ok(at)
}

fn io_error(path: &std::path::Path, doing: &str, error: &io::Error) -> TaskError {
    TaskError::fatal(format!("{doing} file {}: {error}", path.display()))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
