//! The checkpoints of a data directory: how far each log is durable, where each begins, and up to where each was cleaned.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use flumen_protocol::id::{Offset, TopicPartition};

use crate::checkpoint::{self, ReplaceError};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::sealed::{self, Sealed};

const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
const LOG_START_FILE: &str = "log-start-offset-checkpoint";
const CLEANER_FILE: &str = "cleaner-offset-checkpoint";

/// The checkpoints as they are on the disk.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// None if there was no readable file though there were logs.
    pub(super) recovery: Option<BTreeMap<TopicPartition, Offset>>,
    pub(super) log_start: BTreeMap<TopicPartition, Offset>,
    /// A log that is not here is cleaned from its start on.
    pub(super) clean: BTreeMap<TopicPartition, Offset>,
    /// Logs found at the start and not opened since: a clean stop holds for them.
    pub(super) untouched: BTreeSet<TopicPartition>,
    /// The recovery points were written by Apache Kafka, in the run before this one.
    pub(super) foreign: bool,
    /// Recovery points moved up since the file was written.
    pub(super) unwritten: bool,
}

impl Points {
    /// As the files in `path` say; those that cannot be read are taken for missing.
    pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Self, OpenError> {
        let recovery_file = path.join(RECOVERY_POINT_FILE);
        let ours = sealed::has_checksum(disk, &recovery_file);
        let recovery = read_offsets(disk, &recovery_file)?;
        Ok(Self {
            foreign: recovery.is_some() && !ours.map_err(OpenError::at(&recovery_file))?,
            recovery,
            log_start: read_offsets(disk, &path.join(LOG_START_FILE))?.unwrap_or_default(),
            clean: read_offsets(disk, &path.join(CLEANER_FILE))?.unwrap_or_default(),
            ..Self::default()
        })
    }

    pub(super) fn write_recovery(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
    ) -> Result<(), ReplaceError> {
        let Some(recovery) = &self.recovery else {
            return Ok(());
        };
        sealed::replace(
            disk,
            &dir.join(RECOVERY_POINT_FILE),
            checkpoint::encode_offsets(recovery).as_bytes(),
        )?;
        self.unwritten = false;
        Ok(())
    }

    pub(super) fn write_log_start(&self, disk: &dyn Disk, dir: &Path) -> Result<(), ReplaceError> {
        sealed::replace(
            disk,
            &dir.join(LOG_START_FILE),
            checkpoint::encode_offsets(&self.log_start).as_bytes(),
        )
    }

    pub(super) fn write_clean(&self, disk: &dyn Disk, dir: &Path) -> Result<(), ReplaceError> {
        sealed::replace(
            disk,
            &dir.join(CLEANER_FILE),
            checkpoint::encode_offsets(&self.clean).as_bytes(),
        )
    }
}

/// `None` if there is no such file, or none that makes sense.
fn read_offsets(
    disk: &dyn Disk,
    path: &Path,
) -> Result<Option<BTreeMap<TopicPartition, Offset>>, OpenError> {
    let bytes = match sealed::read(disk, path).map_err(OpenError::at(path))? {
        Sealed::Whole(bytes) => bytes,
        Sealed::Missing | Sealed::Damaged => return Ok(None),
    };
    let decoded = checkpoint::decode_offsets(&bytes);
    if decoded.is_none() {
        tracing::warn!(file = %path.display(), "checkpoint is damaged and not used");
    }
    Ok(decoded)
}
