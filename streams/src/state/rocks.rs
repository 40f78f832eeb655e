//! Rows in RocksDB: one database per engine, one column family per store, tasks side by side in it by key prefix.
//!
//! There is no write-ahead log: the changelog topic is one. After a crash a column family lacks its last memtable, and
//! because each task's changelog position is a row of the same column family, what is left always equals its position
//! (positions of two column families may differ). A driver file: SST files are written and moved here.
//! The options and the reasons for them were measured: sorted writes and file ingestion matter, most knobs do not.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompactionStyle,
    DBCompressionType, ErrorKind, FlushOptions, IngestExternalFileOptions, LogLevel, Options,
    ReadOptions, SstFileWriter, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::backend::{Batch, StateBackend, StateError, Visit};
use super::key;

/// From this many rows on, a batch is written as a file and ingested: eight times faster than through a memtable.
const INGEST_ROWS: usize = 20_000;
/// What a block costs in the cache, for the clock cache's table; towards the lower side.
const BLOCK_CHARGE: usize = 4 << 10;

/// Memory that all databases of a process share.
#[derive(Clone)]
pub struct RocksMemory {
    blocks: Cache,
    memtables: WriteBufferManager,
}

impl fmt::Debug for RocksMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksMemory")
            .field("blocks", &self.blocks.get_usage())
            .finish_non_exhaustive()
    }
}

impl RocksMemory {
    /// `block_cache_bytes` for blocks read, `memtable_bytes` for rows not yet flushed.
    pub fn new(block_cache_bytes: usize, memtable_bytes: usize) -> Self {
        Self {
            blocks: Cache::new_hyper_clock_cache(block_cache_bytes, BLOCK_CHARGE),
            memtables: WriteBufferManager::new_write_buffer_manager(memtable_bytes, false),
        }
    }
}

/// The database of one engine.
#[derive(Clone)]
pub struct RocksDatabase {
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    folder: PathBuf,
    next_file: AtomicU64,
}

impl fmt::Debug for RocksDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RocksDatabase")
            .field(&self.inner.folder)
            .finish()
    }
}

impl RocksDatabase {
    /// Opens or creates the database in `folder` with a column family for each of `stores`.
    ///
    /// Stores that exist in it and are not named stay untouched. A database that RocksDB calls corrupt is set aside as
    /// `<folder>.corrupt` and an empty one takes its place, with a warning: its changelogs restore it.
    ///
    /// # Errors
    /// [`StateError::Storage`]: not to be opened, or another process has it.
    pub fn open(
        folder: &Path,
        stores: &[String],
        memory: &RocksMemory,
    ) -> Result<Self, StateError> {
        let db = match open_database(folder, stores, memory) {
            Err(error) if error.kind() == ErrorKind::Corruption => {
                tracing::warn!(folder = %folder.display(), %error, "the state is corrupt: set aside; everything will be restored from the changelogs");
                set_aside(folder)?;
                open_database(folder, stores, memory)
            }
            other => other,
        };
        let db = db.map_err(|error| storage(&folder.display(), &error))?;
        let inner = Inner {
            db,
            folder: folder.to_path_buf(),
            next_file: AtomicU64::new(0),
        };
        inner.clear_files()?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// One store of one task.
    pub fn store(&self, name: &str, partition: u16) -> RocksStore {
        RocksStore {
            database: self.clone(),
            name: name.to_owned(),
            partition,
        }
    }

    /// Writes all memtables out and waits.
    ///
    /// # Errors
    /// [`StateError::Storage`]: the disk failed.
    pub fn flush(&self, stores: &[String]) -> Result<(), StateError> {
        stores
            .iter()
            .try_for_each(|name| self.store(name, 0).flush(true))
    }
}

impl Inner {
    fn files(&self) -> PathBuf {
        self.folder.join("ingest")
    }

    /// Files of a spill that a crash cut short are of no use: the spill will be made again.
    fn clear_files(&self) -> Result<(), StateError> {
        let files = self.files();
        #[expect(
            clippy::disallowed_methods,
            reason = "driver file: folder of the files to ingest"
        )]
        let cleared = match fs::remove_dir_all(&files) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&files),
        };
        cleared.map_err(|error| storage(&files.display(), &error))
    }
}

fn open_database(
    folder: &Path,
    stores: &[String],
    memory: &RocksMemory,
) -> Result<DB, rocksdb::Error> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(2);
    options.set_write_buffer_manager(&memory.memtables);
    options.set_allow_concurrent_memtable_write(false); // one writer: the engine's thread
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    let existing = if folder.join("CURRENT").exists() {
        DB::list_cf(&options, folder)?
    } else {
        Vec::new()
    };
    let mut names = existing;
    names.extend(stores.iter().cloned());
    names.push("default".to_owned());
    names.sort_unstable();
    names.dedup();
    let families = names
        .into_iter()
        .map(|name| ColumnFamilyDescriptor::new(name, store_options(memory)));
    DB::open_cf_descriptors(&options, folder, families)
}

fn store_options(memory: &RocksMemory) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&memory.blocks);
    blocks.set_format_version(6);
    blocks.set_bloom_filter(10.0, false);
    // Not in the block cache: a large file's filter would never fit into one of its shards (eleven times slower).
    blocks.set_cache_index_and_filter_blocks(false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(32 << 20);
    options.set_max_write_buffer_number(4);
    options
}

fn set_aside(folder: &Path) -> Result<(), StateError> {
    let aside = folder.with_extension("corrupt");
    #[expect(
        clippy::disallowed_methods,
        reason = "driver file: the corrupt database is kept for inspection"
    )]
    let moved = match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => fs::rename(folder, &aside),
    };
    moved.map_err(|error| storage(&folder.display(), &error))
}

fn storage(store: &impl fmt::Display, reason: &impl fmt::Display) -> StateError {
    StateError::Storage {
        store: store.to_string(),
        reason: reason.to_string(),
    }
}

fn without_wal() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

/// One store of one task in its engine's database.
#[derive(Clone)]
pub struct RocksStore {
    database: RocksDatabase,
    name: String,
    partition: u16,
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RocksStore({}, partition {})", self.name, self.partition)
    }
}

impl RocksStore {
    fn db(&self) -> &DB {
        &self.database.inner.db
    }

    fn family(&self) -> Result<&ColumnFamily, StateError> {
        self.db()
            .cf_handle(&self.name)
            .ok_or_else(|| storage(&self.name, &"not opened with its database"))
    }

    fn failed(&self, error: &rocksdb::Error) -> StateError {
        storage(&self.name, error)
    }

    fn write_batch(&self, batch: &Batch, position: Option<i64>) -> Result<(), StateError> {
        let family = self.family()?;
        let mut writes =
            WriteBatch::with_capacity_bytes(batch.size_in_bytes() + 16 * batch.len() + 64);
        let (mut from, mut upto) = (Vec::new(), Vec::new());
        for (first, end) in batch.drops() {
            key::row_key(&mut from, self.partition, first);
            key::row_key(&mut upto, self.partition, end);
            writes.delete_range_cf(family, &from, &upto);
        }
        if let Some(position) = position {
            writes.put_cf(
                family,
                key::position_key(self.partition),
                position.to_be_bytes(),
            );
        }
        for (user_key, value) in batch.rows() {
            key::row_key(&mut from, self.partition, user_key);
            match value {
                Some(value) => writes.put_cf(family, &from, value),
                None => writes.delete_cf(family, &from),
            }
        }
        self.db()
            .write_opt(writes, &without_wal())
            .map_err(|error| self.failed(&error))
    }

    /// Writes the sorted rows and the position as one file and moves it into the database.
    ///
    /// The file covers the position's key, so an older position in the memtable is flushed before, never after.
    fn ingest(&self, batch: &Batch, position: Option<i64>) -> Result<(), StateError> {
        let inner = &self.database.inner;
        let path = inner.files().join(format!(
            "{}.sst",
            inner.next_file.fetch_add(1, Ordering::Relaxed)
        ));
        let mut options = Options::default();
        options.set_compression_type(DBCompressionType::Lz4);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_format_version(6);
        blocks.set_bloom_filter(10.0, false);
        options.set_block_based_table_factory(&blocks);
        let mut file = SstFileWriter::create(&options);
        let mut row = Vec::new();
        let mut fill = || -> Result<(), rocksdb::Error> {
            file.open(&path)?;
            if let Some(position) = position {
                file.put(key::position_key(self.partition), position.to_be_bytes())?;
            }
            for (user_key, value) in batch.rows() {
                key::row_key(&mut row, self.partition, user_key);
                match value {
                    Some(value) => file.put(&row, value)?,
                    None => file.delete(&row)?,
                }
            }
            file.finish()
        };
        fill().map_err(|error| self.failed(&error))?;
        let mut how = IngestExternalFileOptions::default();
        how.set_move_files(true);
        let family = self.family()?;
        self.db()
            .ingest_external_file_cf_opts(family, &how, vec![path])
            .map_err(|error| self.failed(&error))
    }
}

impl StateBackend for RocksStore {
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        let family = self.family()?;
        let mut row = Vec::new();
        let rows: Vec<Vec<u8>> = keys
            .iter()
            .map(|user_key| {
                key::row_key(&mut row, self.partition, user_key);
                row.clone()
            })
            .collect();
        let found = self
            .db()
            .batched_multi_get_cf(family, rows.iter().map(Vec::as_slice), true);
        let answers = found.into_iter().map(|answer| {
            answer
                .map(|value| value.map(|bytes| bytes.to_vec()))
                .map_err(|error| self.failed(&error))
        });
        answers.collect()
    }

    fn scan(
        &self,
        from: &[u8],
        upto: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StateError> {
        if upto.is_some_and(|upto| upto <= from) {
            return Ok(());
        }
        let (mut first, mut end) = (Vec::new(), Vec::new());
        key::row_key(&mut first, self.partition, from);
        match upto {
            Some(upto) => key::row_key(&mut end, self.partition, upto),
            None => end.extend_from_slice(&key::rows_end(self.partition)),
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        let mut rows = self.db().raw_iterator_cf_opt(self.family()?, options);
        rows.seek(&first);
        while let Some((row, value)) = rows.item() {
            if visit(&row[key::PREFIX_LEN..], value).is_break() {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| self.failed(&error))
    }

    fn last_key(&self) -> Result<Option<Vec<u8>>, StateError> {
        let mut first = Vec::new();
        key::row_key(&mut first, self.partition, b"");
        let mut rows = self.db().raw_iterator_cf(self.family()?);
        rows.seek_for_prev(key::rows_end(self.partition));
        let last = rows
            .key()
            .filter(|row| *row >= first.as_slice())
            .map(|row| row[key::PREFIX_LEN..].to_vec());
        rows.status().map_err(|error| self.failed(&error))?;
        Ok(last)
    }

    fn write(&self, batch: &mut Batch, position: Option<i64>) -> Result<(), StateError> {
        batch.sort();
        if batch.len() < INGEST_ROWS {
            return self.write_batch(batch, position);
        }
        if !batch.drops().is_empty() {
            // Rows of the past: gone a moment before the position says so does no harm, the other way round would.
            let mut drops = Batch::new();
            batch
                .drops()
                .iter()
                .for_each(|(from, upto)| drops.drop_range(from, upto));
            self.write_batch(&drops, None)?;
        }
        self.ingest(batch, position)
    }

    fn position(&self) -> Result<Option<i64>, StateError> {
        let stored = self
            .db()
            .get_cf(self.family()?, key::position_key(self.partition));
        let Some(stored) = stored.map_err(|error| self.failed(&error))? else {
            return Ok(None);
        };
        let corrupt = || StateError::Corrupt {
            store: self.name.clone(),
            partition: self.partition,
            what: "its position is not 8 bytes",
        };
        stored
            .try_into()
            .map(i64::from_be_bytes)
            .map(Some)
            .map_err(|_| corrupt())
    }

    fn wipe(&self) -> Result<(), StateError> {
        let (family, mut writes) = (self.family()?, WriteBatch::default());
        let (from, upto) = (
            key::partition_start(self.partition),
            key::rows_end(self.partition),
        );
        writes.delete_range_cf(family, from, upto);
        self.db()
            .write_opt(writes, &without_wal())
            .map_err(|error| self.failed(&error))
    }

    fn flush(&self, wait: bool) -> Result<(), StateError> {
        let mut how = FlushOptions::default();
        how.set_wait(wait);
        self.db()
            .flush_cf_opt(self.family()?, &how)
            .map_err(|error| self.failed(&error))
    }
}

#[cfg(test)]
mod tests;
