//! The log alone, as a library: no broker, no network. `cargo run -p flumen-examples --bin embedded_log`
//!
//! Two records are appended and flushed, the process "crashes" (the log is dropped without a clean close), and the log is opened again.

use std::path::Path;
use std::sync::Arc;

use flumen::log::disk::OsDisk;
use flumen::log::{AppendAs, Log, LogConfig, OpenOptions};
use flumen::protocol::batch;
use flumen::protocol::builder::{BatchBuilder, BatchOptions};
use flumen::protocol::compression::DecompressionLimit;

type Failure = Box<dyn std::error::Error>;

fn open(folder: &Path) -> Result<Log, Failure> {
    Ok(Log::open(
        Arc::new(OsDisk::new()),
        folder,
        LogConfig::default(),
        OpenOptions::default(),
    )?)
}

/// Every value from `offset` on.
fn values(log: &Log, offset: i64) -> Result<Vec<String>, Failure> {
    let mut values = Vec::new();
    let slice = log.read(offset, log.log_end_offset(), 1 << 20, true)?;
    for batch in batch::batches(
        slice
            .records
            .map_or(Ok(bytes::Bytes::new()), |records| records.read())?,
    ) {
        for record in batch?.records(DecompressionLimit::DEFAULT)? {
            let record = record?;
            if record.offset >= offset {
                values.push(String::from_utf8(
                    record.value.unwrap_or_default().to_vec(),
                )?);
            }
        }
    }
    Ok(values)
}

fn main() -> Result<(), Failure> {
    let home = tempfile::tempdir()?;
    let folder = home.path().join("greetings-0");

    let log = open(&folder)?;
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.push(1_700_000_000_000, Some(b"en"), Some(b"hello"), &[]);
    batch.push(1_700_000_000_001, Some(b"fr"), Some(b"bonjour"), &[]);
    let appended = log.append(batch.build(), &AppendAs::client(0), 1_700_000_000_002)?;
    assert_eq!((appended.base_offset, appended.last_offset), (0, 1));
    assert_eq!(
        log.flush()?,
        2,
        "everything below offset 2 survives a loss of power"
    );
    drop(log);

    let log = open(&folder)?;
    assert_eq!(values(&log, 0)?, ["hello", "bonjour"]);
    let found = log
        .offset_for_timestamp(1_700_000_000_001, log.log_end_offset())?
        .expect("a record of that time");
    assert_eq!(values(&log, found.offset)?, ["bonjour"]);
    println!(
        "{} records, the log ends at offset {}",
        values(&log, 0)?.len(),
        log.log_end_offset()
    );
    Ok(())
}
