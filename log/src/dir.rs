//! All logs of one data directory: who owns it, which partitions lie in it, how far each is recovered, and what happens to all of
//! them at once.
//!
//! The broker opens one per entry of `log.dirs`. Several threads may open logs at once; [`LogDir::checkpoint`],
//! [`LogDir::retention_pass`] and [`LogDir::close`] are called from one that may wait for the disk.
//!
//! Order of writes, so that a crash in between is harmless:
//! - the recovery point is written down after what it promises is durable, and lowered before a truncation;
//! - the log start is written down before the segments below it are removed;
//! - a log's entries are removed before its directory is, and the directory has another name, durably, before it is emptied;
//! - the clean-stop marker is written last, and removed first thing at the next start.
//!
//! Source: Kafka `LogManager`, `LogDirFailureChannel`, `MetaPropertiesEnsemble`.

mod cleaning;
mod points;
pub(crate) mod renew;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use flumen_protocol::id::{BrokerId, Offset, TopicId, TopicPartition};
use parking_lot::{Mutex, RwLock};

use crate::checkpoint::{self, ReplaceError};
use crate::config::LogConfig;
use crate::disk::{Disk, DiskLock};
use crate::error::{FlushError, OpenError, ReadError};
use crate::log::{Deleted, Log, OpenOptions, checkpoint_many};
use crate::recovery;
pub use cleaning::Dirty;
use points::Points;

const LOCK_FILE: &str = ".lock";
const META_FILE: &str = "meta.properties";
const CLEAN_FILE: &str = ".kafka_cleanshutdown";

/// Logs that are checkpointed side by side.
const LOGS_AT_A_TIME: usize = 64;

/// To whom a data directory belongs: `meta.properties`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: String,
    /// The broker.
    pub node_id: BrokerId,
    /// The directory itself.
    pub directory_id: TopicId,
}

/// A partition's directory as it was found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which partition, by the directory's name.
    pub partition: TopicPartition,
    /// The topic's id, if the directory tells it.
    pub topic_id: Option<TopicId>,
}

/// One data directory. See the file's head.
#[derive(Debug)]
pub struct LogDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    identity: Identity,
    clean_stop: Option<i64>,
    found: Vec<Found>,
    logs: RwLock<BTreeMap<TopicPartition, Arc<Log>>>,
    points: Mutex<Points>,
    /// Why no log here may call anything durable any more.
    names_lost: OnceLock<String>,
    _lock: Box<dyn DiskLock>,
}

impl LogDir {
    /// Takes the directory for this process, creating it with the identity `fresh` if it is new. An old one keeps its cluster and
    /// directory id ([`Self::identity`]); its node id must be that of `fresh`.
    ///
    /// # Errors
    /// [`OpenError::Locked`], [`OpenError::Mismatch`], [`OpenError::Storage`].
    pub fn open(disk: Arc<dyn Disk>, path: &Path, fresh: &Identity) -> Result<Self, OpenError> {
        for changed in disk.create_dir(path).map_err(OpenError::at(path))? {
            disk.sync_dir(&changed).map_err(OpenError::at(&changed))?;
        }
        let lock = disk
            .lock(&path.join(LOCK_FILE))
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => OpenError::Locked(path.to_owned()),
                _ => OpenError::at(path)(error),
            })?;
        renew::renew_if_asked(&*disk, path).map_err(OpenError::at(path))?;
        let identity = read_identity(&*disk, path, fresh)?;
        let found = find_logs(&*disk, path)?;
        let mut points = Points::read(&*disk, path)?;
        points.untouched = found.iter().map(|found| found.partition.clone()).collect();
        if points.recovery.is_none() && found.is_empty() {
            points.recovery = Some(BTreeMap::new());
            points
                .write_recovery(&*disk, path)
                .map_err(|error| OpenError::at(path)(error.into()))?;
        }
        let clean_stop = take_clean_marker(&*disk, path)?;
        let (logs, points) = (RwLock::default(), Mutex::new(points));
        Ok(Self {
            disk,
            path: path.to_owned(),
            identity,
            clean_stop,
            found,
            logs,
            points,
            names_lost: OnceLock::new(),
            _lock: lock,
        })
    }

    /// To whom the directory belongs.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The broker epoch of the stop before this start if it was a clean one; `None` after a crash, and in a new directory.
    pub fn clean_stop(&self) -> Option<i64> {
        self.clean_stop
    }

    /// The partitions that were there at the start, by name.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// Opens the log of a partition, creating it if there is none; an open one is given again. Different partitions may be opened
    /// at once from several threads. After an unclean stop, what was recovered may not be durable yet: flush before it is served.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_log(
        &self,
        partition: &TopicPartition,
        topic_id: Option<TopicId>,
        config: LogConfig,
    ) -> Result<Arc<Log>, OpenError> {
        if let Some(log) = self.get(partition) {
            return Ok(log);
        }
        let options = self.options_for(partition, topic_id);
        let log = Arc::new(Log::open(
            self.disk.clone(),
            &self.dir_of(partition),
            config,
            options,
        )?);
        let mut logs = self.logs.write();
        let log = logs.entry(partition.clone()).or_insert(log).clone();
        drop(logs);
        self.points.lock().untouched.remove(partition);
        if let Some(reason) = self.names_lost.get() {
            log.fence(reason.clone());
        }
        Ok(log)
    }

    fn options_for(&self, partition: &TopicPartition, topic_id: Option<TopicId>) -> OpenOptions {
        let points = self.points.lock();
        OpenOptions {
            clean: self.clean_stop.is_some() && points.untouched.contains(partition),
            recovery_point: points
                .recovery
                .as_ref()
                .map(|points| points.get(partition).copied().unwrap_or(0)),
            log_start_offset: points.log_start.get(partition).copied().unwrap_or(0),
            topic_id,
            foreign: points.foreign,
        }
    }

    fn dir_of(&self, partition: &TopicPartition) -> PathBuf {
        self.path.join(partition.to_string())
    }

    /// The log of a partition, if it is open.
    pub fn get(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.read().get(partition).cloned()
    }

    /// All open logs, by partition.
    pub fn logs(&self) -> Vec<(TopicPartition, Arc<Log>)> {
        self.logs
            .read()
            .iter()
            .map(|(partition, log)| (partition.clone(), log.clone()))
            .collect()
    }

    /// Deletes the log of a partition, open or not. Readers that hold a range of it can finish.
    ///
    /// # Errors
    /// [`FlushError::Failed`] if the disk refused; what is left is removed at the next start.
    pub fn delete_log(&self, partition: &TopicPartition) -> Result<(), FlushError> {
        let renamed = self
            .detach(partition, "delete")
            .map_err(failed("deletion of a log"))?;
        renamed.map_or(Ok(()), |renamed| {
            self.disk
                .remove_dir(&renamed)
                .map_err(failed("deletion of a log"))
        })
    }

    /// Puts aside the directory of a partition that nobody knows, or that belongs to another topic of the same name: it is renamed,
    /// never deleted, and left alone from now on. Returns its new path; `None` if there is no such directory.
    ///
    /// # Errors
    /// [`FlushError::Failed`] if the disk refused.
    pub fn set_aside(&self, partition: &TopicPartition) -> Result<Option<PathBuf>, FlushError> {
        self.detach(partition, "stray")
            .map_err(failed("renaming of a stray log"))
    }

    /// Forgets a log and gives its directory a name that is no partition's.
    fn detach(&self, partition: &TopicPartition, suffix: &str) -> io::Result<Option<PathBuf>> {
        let removed = self.logs.write().remove(partition);
        if let Some(log) = removed {
            log.retire();
        }
        let mut points = self.points.lock();
        points.untouched.remove(partition);
        let mut changed = points.log_start.remove(partition).is_some();
        changed |= points
            .recovery
            .as_mut()
            .is_some_and(|recovery| recovery.remove(partition).is_some());
        if changed {
            self.write_recovery(&mut points)?;
            self.write_log_start(&points)?;
        }
        if points.clean.remove(partition).is_some() {
            self.write_clean(&points)?;
        }
        let from = self.dir_of(partition);
        let taken: BTreeSet<String> = self
            .disk
            .list(&self.path)?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        if !taken.contains(&partition.to_string()) {
            return Ok(None);
        }
        let names = (0..).map(|i| format!("{partition}.{i:032x}-{suffix}"));
        let name = names
            .into_iter()
            .find(|name| !taken.contains(name))
            .expect("some name is free");
        let to = self.path.join(name);
        self.disk.rename(&from, &to)?;
        // Or the name could come back after a crash, with a part of what it held: as the log of the next topic of that name.
        let synced = self.disk.sync_dir(&self.path);
        self.known(synced.map_err(ReplaceError::NamesLost))?;
        Ok(Some(to))
    }

    /// Cuts a log: see [`Log::truncate_to`]. The recovery point is lowered first.
    ///
    /// # Errors
    /// As [`Log::truncate_to`], and [`FlushError::Failed`] with the log unchanged if the recovery point could not be lowered.
    pub fn truncate(
        &self,
        partition: &TopicPartition,
        log: &Log,
        offset: Offset,
    ) -> Result<Offset, FlushError> {
        let mut points = self.points.lock();
        let offset = log.end_below(offset);
        let lowered = points
            .recovery
            .as_mut()
            .and_then(|recovery| recovery.get_mut(partition))
            .filter(|point| **point > offset);
        if let Some(point) = lowered {
            *point = offset;
            self.write_recovery(&mut points)
                .map_err(failed("lowering a recovery point"))?;
        }
        if points
            .clean
            .get(partition)
            .is_some_and(|clean| *clean > offset)
        {
            points.clean.insert(partition.clone(), offset);
            self.write_clean(&points)
                .map_err(failed("lowering the mark of the last cleaning"))?;
        }
        // Under the lock: a checkpoint must not write down a point from before the cut.
        log.truncate_to(offset)
    }

    /// Moves a log's start up, durably: see [`Log::delete_records_before`].
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] above the log's end; [`ReadError::Storage`] if it could not be written down: it holds until
    /// the next restart then.
    pub fn delete_records(
        &self,
        partition: &TopicPartition,
        log: &Log,
        offset: Offset,
    ) -> Result<Offset, ReadError> {
        let start = log.delete_records_before(offset)?;
        let mut points = self.points.lock();
        if points
            .log_start
            .get(partition)
            .is_none_or(|known| *known < start)
        {
            points.log_start.insert(partition.clone(), start);
            self.write_log_start(&points)?;
        }
        Ok(start)
    }

    /// Moves the recovery points up to the ends of the logs: see [`Log::checkpoint`]. To be called from time to time; what was
    /// appended since is what the next start after a crash has to scan. A log that fails keeps its old point.
    ///
    /// # Errors
    /// [`FlushError::Failed`] if the file could not be written: the old points hold.
    pub fn checkpoint(&self) -> Result<(), FlushError> {
        self.checkpoint_logs(&self.logs()).map(drop)
    }

    /// The lock is held for a few logs at a time: a truncation or deletion of one of them must not come in between, but nobody who
    /// opens another one should wait for all.
    ///
    /// Returns the first failure of a log, whose old point holds.
    fn checkpoint_logs(
        &self,
        logs: &[(TopicPartition, Arc<Log>)],
    ) -> Result<Option<FlushError>, FlushError> {
        let mut moved = Vec::new();
        let mut first_failure = None;
        for some in logs.chunks(LOGS_AT_A_TIME) {
            let mut points = self.points.lock();
            // Without a readable file, the logs that are not open yet must stay unknown.
            let unknown = points.recovery.is_none() && !points.untouched.is_empty();
            let each: Vec<&Log> = some.iter().map(|(_, log)| &**log).collect();
            for ((partition, log), result) in some.iter().zip(checkpoint_many(&each)) {
                match result {
                    Ok(_) if unknown => {}
                    Ok(point) => {
                        let recovery = points.recovery.get_or_insert_default();
                        let old = recovery.insert(partition.clone(), point);
                        points.unwritten |= old != Some(point);
                        moved.push((log, point));
                    }
                    Err(error) => {
                        tracing::warn!(%partition, %error, "recovery point stays");
                        first_failure.get_or_insert(error);
                    }
                }
            }
        }
        let mut points = self.points.lock();
        if points.unwritten {
            self.write_recovery(&mut points)
                .map_err(failed("writing the recovery points"))?;
        }
        drop(points);
        moved
            .iter()
            .for_each(|(log, point)| log.recovery_point_recorded(*point));
        Ok(first_failure)
    }

    /// Deletes the segments of all logs that are due: see [`Log::retention_start`]. `high_watermark` gives the bound for each log,
    /// `now_ms` is the broker's clock in milliseconds since 1970. A log that fails is left for the next pass.
    ///
    /// # Errors
    /// [`FlushError::Failed`] if the new log starts could not be written down: nothing was deleted.
    pub fn retention_pass(
        &self,
        now_ms: i64,
        high_watermark: impl Fn(&TopicPartition, &Log) -> Offset,
    ) -> Result<Vec<(TopicPartition, Deleted)>, FlushError> {
        let mut due = Vec::new();
        for (partition, log) in self.logs() {
            match log.retention_start(now_ms, high_watermark(&partition, &log)) {
                Ok(Some(start)) => due.push((partition, log, start)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%partition, %error, "retention skipped"),
            }
        }
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let mut points = self.points.lock();
        for (partition, log, start) in &due {
            points
                .log_start
                .insert(partition.clone(), (*start).max(log.log_start_offset()));
        }
        self.write_log_start(&points)
            .map_err(failed("writing the log starts"))?;
        drop(points);
        let mut deleted = Vec::new();
        for (partition, log, start) in due {
            match log.delete_segments_before(start) {
                Ok(done) => deleted.push((partition, done)),
                Err(error) => tracing::warn!(%partition, %error, "retention stopped"),
            }
        }
        Ok(deleted)
    }

    /// Closes all logs; leaves the mark of a clean stop, with the broker's epoch, if all went well. The directory is free for another
    /// process once this is dropped.
    ///
    /// # Errors
    /// [`FlushError`]: the next start recovers as after a crash.
    pub fn close(&self, broker_epoch: i64) -> Result<(), FlushError> {
        let logs = self.logs();
        for (_, log) in &logs {
            // What fails here leaves a longer file.
            let _ = log.trim();
        }
        let mut points = self.points.lock();
        for (partition, log) in &logs {
            if log.log_start_offset() > 0 {
                points
                    .log_start
                    .insert(partition.clone(), log.log_start_offset());
            }
        }
        self.write_log_start(&points)
            .map_err(failed("writing the log starts"))?;
        // What a crash left in a log that nobody opened is still to be looked at.
        let unseen = self.clean_stop.is_none() && !points.untouched.is_empty();
        drop(points);
        let failure = self.checkpoint_logs(&logs)?;
        logs.iter().for_each(|(_, log)| log.retire());
        if let Some(failure) = failure {
            return Err(failure);
        }
        if unseen {
            return Ok(());
        }
        let mark = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        let marked = checkpoint::replace(&*self.disk, &self.path.join(CLEAN_FILE), mark.as_bytes());
        self.known(marked)
            .map_err(failed("marking the stop as clean"))
    }

    fn write_recovery(&self, points: &mut Points) -> io::Result<()> {
        self.known(points.write_recovery(&*self.disk, &self.path))
    }

    fn write_clean(&self, points: &Points) -> io::Result<()> {
        self.known(points.write_clean(&*self.disk, &self.path))
    }

    fn write_log_start(&self, points: &Points) -> io::Result<()> {
        self.known(points.write_log_start(&*self.disk, &self.path))
    }

    /// A sync of this directory that failed may have dropped the name of any log in it.
    fn known(&self, written: Result<(), ReplaceError>) -> io::Result<()> {
        if let Err(ReplaceError::NamesLost(error)) = &written {
            renew::ask(&*self.disk, &self.path);
            let reason = format!("sync of {} failed: {error}", self.path.display());
            for (_, log) in self.logs() {
                log.fence(reason.clone());
            }
            let _ = self.names_lost.set(reason);
        }
        Ok(written?)
    }
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> FlushError {
    move |error| FlushError::Failed {
        what: what.into(),
        error: Arc::new(error),
    }
}

fn read_identity(disk: &dyn Disk, path: &Path, fresh: &Identity) -> Result<Identity, OpenError> {
    let file = path.join(META_FILE);
    let Some(bytes) = checkpoint::read(disk, &file).map_err(OpenError::at(&file))? else {
        let Identity {
            cluster_id,
            node_id,
            directory_id,
        } = fresh;
        let text = format!(
            "version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={directory_id}\n"
        );
        if let Err(error) = checkpoint::replace(disk, &file, text.as_bytes()) {
            renew::ask(disk, path);
            return Err(OpenError::at(&file)(error.into()));
        }
        return Ok(fresh.clone());
    };
    let mismatch = |reason: String| OpenError::Mismatch {
        path: file.clone(),
        reason,
    };
    let properties = checkpoint::decode_properties(&bytes)
        .ok_or_else(|| mismatch("is not a properties file".into()))?;
    let get = |key: &str| {
        properties
            .get(key)
            .ok_or_else(|| mismatch(format!("has no {key}")))
    };
    let node_id = get("node.id")?
        .parse()
        .map_err(|_| mismatch("node.id is not a number".into()))?;
    if node_id != fresh.node_id {
        return Err(mismatch(format!(
            "belongs to node {node_id}, this is node {}",
            fresh.node_id
        )));
    }
    // Kafka did not write a directory id before 3.7.
    let directory_id = match properties.get("directory.id") {
        Some(id) => id
            .parse()
            .map_err(|error| mismatch(format!("directory.id: {error}")))?,
        None => fresh.directory_id,
    };
    Ok(Identity {
        cluster_id: get("cluster.id")?.clone(),
        node_id,
        directory_id,
    })
}

/// The partitions' directories; those on their way out are removed for good.
fn find_logs(disk: &dyn Disk, path: &Path) -> Result<Vec<Found>, OpenError> {
    let mut found = Vec::new();
    for entry in disk.list(path).map_err(OpenError::at(path))? {
        let dir = path.join(&entry.name);
        if !entry.is_dir {
            continue;
        }
        if entry.name.ends_with("-delete") {
            disk.remove_dir(&dir).map_err(OpenError::at(&dir))?;
        } else if let Some(partition) = parse_name(&entry.name) {
            let topic_id = recovery::read_topic_id(disk, &dir).map_err(OpenError::at(&dir))?;
            found.push(Found {
                partition,
                topic_id,
            });
        }
    }
    Ok(found)
}

/// `orders-3`; `None` for anything else.
fn parse_name(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let digits = !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit());
    let partition = partition
        .parse()
        .ok()
        .filter(|_| digits && !topic.is_empty())?;
    Some(TopicPartition::new(topic, partition))
}

/// Whether the last stop was a clean one, and of which broker epoch; says so only once.
fn take_clean_marker(disk: &dyn Disk, path: &Path) -> Result<Option<i64>, OpenError> {
    let file = path.join(CLEAN_FILE);
    let Some(bytes) = checkpoint::read(disk, &file).map_err(OpenError::at(&file))? else {
        return Ok(None);
    };
    disk.remove_file(&file).map_err(OpenError::at(&file))?;
    if let Err(error) = disk.sync_dir(path) {
        renew::ask(disk, path);
        return Err(OpenError::at(&file)(error));
    }
    let text = String::from_utf8_lossy(&bytes);
    let epoch = text
        .split_once("\"brokerEpoch\":")
        .map(|(_, rest)| rest.trim_start());
    let digits = epoch.and_then(|epoch| {
        epoch
            .split(|c: char| c != '-' && !c.is_ascii_digit())
            .next()
    });
    Ok(Some(
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(-1),
    ))
}
