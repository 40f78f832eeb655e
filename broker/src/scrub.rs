//! Looks at what nobody reads: a pass a week over the closed segments of every log, slowly, for bits that rotted on the disk.
//!
//! What is damaged is logged once and not served any more (`KAFKA_STORAGE_ERROR` or `CORRUPT_MESSAGE` for who asks for it), until a
//! restart with a good copy. See [`Log::scrub`](flumen_log::Log::scrub).

use std::sync::Arc;
use std::time::Duration;

use flumen_log::dir::LogDir;
use flumen_log::{Log, ReadError, ScrubPosition};
use flumen_protocol::id::TopicPartition;
use tokio_util::sync::CancellationToken;

use crate::driver::Drivers;

/// A start has other things to read.
const FIRST_PASS_AFTER: Duration = Duration::from_secs(3_600);
const PASS_EVERY: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Bytes read at once.
const STEP_BYTES: u64 = 1 << 20;
/// What a disk hardly notices.
const BYTES_PER_SECOND: u64 = 5_000_000;

/// Passes until `stop`.
pub(crate) async fn run(dir: Arc<LogDir>, drivers: Drivers, stop: CancellationToken) {
    let mut next = drivers.clock.now() + FIRST_PASS_AFTER;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = drivers.clock.sleep_until(next) => {}
        }
        next = drivers.clock.now() + PASS_EVERY;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = pass(&dir, &drivers) => {}
        }
    }
}

/// One pass; what it found.
async fn pass(dir: &LogDir, drivers: &Drivers) -> Vec<(TopicPartition, ReadError)> {
    let mut found = Vec::new();
    for (partition, log) in dir.logs() {
        let mut position = Some(ScrubPosition::default());
        while let Some(from) = position {
            let log: Arc<Log> = Arc::clone(&log);
            let step = drivers.blocking(move || log.scrub(from, STEP_BYTES)).await;
            let step = match step {
                Ok(step) => step,
                Err(error) => {
                    tracing::warn!(%partition, %error, "log cannot be looked at for damage");
                    break;
                }
            };
            if let Some(error) = step.found {
                tracing::error!(%partition, %error, "records are damaged on the disk and not served: bring back the file from a copy and restart");
                found.push((partition.clone(), error));
            }
            position = step.next;
            let pause = Duration::from_micros(step.bytes * 1_000_000 / BYTES_PER_SECOND);
            drivers.clock.sleep(pause).await;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use flumen_log::dir::Identity;
    use flumen_log::disk::Disk;
    use flumen_log::fault_disk::FaultDisk;
    use flumen_log::{AppendAs, LogConfig};
    use flumen_protocol::builder::{BatchBuilder, BatchOptions};
    use flumen_protocol::id::TopicId;

    use super::*;

    #[tokio::test]
    async fn a_pass_finds_what_rotted_in_any_log_and_tells_it_once() {
        let disk = Arc::new(FaultDisk::new());
        let drivers = Drivers {
            disk: disk.clone(),
            ..Drivers::os()
        };
        let identity = Identity {
            cluster_id: "cluster".to_owned(),
            node_id: 1,
            directory_id: TopicId([1; 16]),
        };
        let shared: Arc<dyn Disk> = disk.clone();
        let dir = LogDir::open(shared, Path::new("/data"), &identity).unwrap();
        for topic in ["a", "b"] {
            let name = TopicPartition::new(topic, 0);
            let log = dir.open_log(&name, None, LogConfig::default()).unwrap();
            for _ in 0..2 {
                let mut batch = BatchBuilder::new(BatchOptions::default());
                batch.push(1_000, None, Some(b"value"), &[]);
                log.append(batch.build(), &AppendAs::client(0), 1_000)
                    .unwrap();
                log.roll().unwrap();
            }
        }
        assert!(pass(&dir, &drivers).await.is_empty());
        let cold = Path::new("/data/b-0/00000000000000000000.log");
        disk.flip(cold, 65, 1).unwrap();
        let found = pass(&dir, &drivers).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, TopicPartition::new("b", 0));
        assert!(found[0].1.to_string().contains("offsets 0 to 0"));
        assert!(pass(&dir, &drivers).await.is_empty(), "once");
    }
}
