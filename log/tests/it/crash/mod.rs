//! The world stops at every single operation of a workload, in every way a loss of power may leave the disk; then the log is
//! opened again. What was acknowledged (appended and flushed) is there once, in order; nothing is there that was not written; the
//! indexes are those that would have been written; and opening may itself be stopped anywhere, and the opening after that.

mod check;
mod compaction;
mod dirs;
mod world;

use std::path::Path;
use std::sync::Arc;

use flumen_log::LogConfig;
use flumen_log::disk::{Disk, OpenMode};
use flumen_log::fault_disk::{Crash, FaultDisk};

use crate::helpers::*;
use check::check;
use world::{Model, Step, World, run};

/// Stops the workload at each operation, in each way; and the recovery after it at a sample of its operations.
fn stop_everywhere(config: &LogConfig, steps: &[Step]) {
    let disk = Arc::new(FaultDisk::new());
    let model = run(&(disk.clone() as Arc<dyn Disk>), config, steps);
    assert!(
        model.tag as usize == steps.len(),
        "the workload runs to its end without faults"
    );
    let ops = disk.ops();
    for op in 1..=ops + 1 {
        let disk = Arc::new(FaultDisk::new());
        disk.power_off_at(op);
        let model = run(&(disk.clone() as Arc<dyn Disk>), config, steps);
        for (i, how) in Crash::ALL.into_iter().enumerate() {
            let seeds = if how.has_choices() { 2 } else { 1 };
            for seed in 0..seeds {
                let context = format!("stopped at operation {op} of {ops}, {how:?}, seed {seed}");
                let left = disk.after_crash(how, seed * 7 + op);
                check(&left, config, &model, &context);
                if (op as usize + i).is_multiple_of(23) {
                    stop_recovery_everywhere(&left, config, &model, &context);
                }
            }
        }
    }
}

fn stop_recovery_everywhere(left: &FaultDisk, config: &LogConfig, model: &Model, context: &str) {
    let whole = Arc::new(left.after_crash(Crash::KeepAll, 0));
    let opened = World::open(&(whole.clone() as Arc<dyn Disk>), config).unwrap();
    opened.log().flush().unwrap();
    for op in 1..=whole.ops() {
        for how in [Crash::LoseUnsynced, Crash::Tear] {
            let disk = Arc::new(left.after_crash(Crash::KeepAll, 0));
            disk.power_off_at(op);
            if let Ok(world) = World::open(&(disk.clone() as Arc<dyn Disk>), config) {
                let _ = world.log().flush();
            }
            check(
                &disk.after_crash(how, op),
                config,
                model,
                &format!("{context}; recovery stopped at {op}, {how:?}"),
            );
        }
    }
}

#[test]
fn indexes_that_are_gone_are_made_anew_wherever_that_stops() {
    use Step::*;
    let steps = [
        Append(3),
        Idempotent(2),
        InTxn(7),
        Append(9),
        End(7, false),
        Append(9),
        Append(9),
        Flush,
        Append(9),
        Restart,
    ];
    let disk = Arc::new(FaultDisk::new());
    let model = run(&(disk.clone() as Arc<dyn Disk>), &small_config(), &steps);
    for clean in [true, false] {
        let left = disk.after_crash(Crash::KeepAll, 0);
        for (path, _) in left.files() {
            let name = path.to_str().unwrap();
            if name.ends_with("index") && !name.ends_with(".txnindex") {
                left.remove_file(&path).unwrap();
            }
        }
        let marker = Path::new("/data/.kafka_cleanshutdown");
        if clean {
            left.open(marker, OpenMode::Create).unwrap();
        }
        let left = left.after_crash(Crash::KeepAll, 0);
        stop_recovery_everywhere(&left, &small_config(), &model, "without indexes");
    }
}

#[test]
fn recovery_of_a_recovery_that_stopped_twice_is_the_same() {
    use Step::*;
    let steps = [
        Append(3),
        Idempotent(2),
        Flush,
        Checkpoint,
        Append(9),
        InTxn(7),
        Append(9),
        Flush,
        End(7, false),
        Append(9),
    ];
    let config = small_config();
    let open = |disk: &Arc<FaultDisk>| {
        if let Ok(world) = World::open(&(disk.clone() as Arc<dyn Disk>), &config) {
            let _ = world.log().flush();
        }
    };
    let logs = |disk: &FaultDisk| files(disk, Path::new("/data/orders-0"), &[".log"]);
    let disk = Arc::new(FaultDisk::new());
    let model = run(&(disk.clone() as Arc<dyn Disk>), &config, &steps);
    for how in Crash::ALL {
        let left = disk.after_crash(how, 1);
        let once = Arc::new(left.after_crash(Crash::KeepAll, 0));
        open(&once);
        for first in (1..=once.ops()).step_by(3) {
            let stopped = Arc::new(left.after_crash(Crash::KeepAll, 0));
            stopped.power_off_at(first);
            open(&stopped);
            let stopped = stopped.after_crash(Crash::Mixed, first);
            for second in (1..=once.ops()).step_by(3) {
                let again = Arc::new(stopped.after_crash(Crash::KeepAll, 0));
                again.power_off_at(second);
                open(&again);
                let context = format!("{how:?}, recovery stopped at {first}, then at {second}");
                let again = Arc::new(again.after_crash(Crash::Mixed, second));
                check(&again, &config, &model, &context);
                open(&again);
                let recovered = logs(&again);
                let killed = Arc::new(again.after_crash(Crash::LoseUnsynced, 0));
                open(&killed);
                assert!(logs(&killed) == recovered, "{context}");
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_appends_flushes_and_rolls_stop() {
    use Step::*;
    let mut steps = Vec::new();
    for i in 0..14 {
        steps.push(Append(1 + i % 3));
        steps.push(Idempotent(2));
        if i % 2 == 0 {
            steps.push(Flush);
        }
    }
    steps.extend([Roll, Append(2), Flush]);
    stop_everywhere(&small_config(), &steps);
}

#[test]
fn nothing_acknowledged_is_lost_wherever_checkpoints_and_restarts_stop() {
    use Step::*;
    let round = [
        Append(2),
        Idempotent(3),
        Flush,
        Checkpoint,
        Append(4),
        Idempotent(1),
        Append(2),
        Flush,
        Idempotent(5),
        Checkpoint,
        Append(1),
        Restart,
    ];
    let steps: Vec<_> = round
        .iter()
        .cycle()
        .take(3 * round.len())
        .copied()
        .collect();
    stop_everywhere(&small_config(), &steps);
}

#[test]
fn transactions_stay_whole_wherever_they_stop() {
    use Step::*;
    let steps = [
        InTxn(7),
        Append(1),
        InTxn(8),
        Flush,
        End(7, false),
        Flush,
        InTxn(7),
        End(8, true),
        Flush,
        Checkpoint,
        InTxn(9),
        Append(2),
        End(7, true),
        Flush,
        InTxn(8),
        End(9, false),
        Flush,
        End(8, false),
        Flush,
        InTxn(7),
        Checkpoint,
        End(7, false),
        Append(3),
        Flush,
        Restart,
        InTxn(8),
        Flush,
    ];
    stop_everywhere(&small_config(), &steps);
}

#[test]
fn retention_and_deleted_records_never_take_more_than_they_should() {
    use Step::*;
    let config = LogConfig {
        retention_ms: Some(1),
        ..small_config()
    };
    let steps = [
        Append(3),
        Idempotent(2),
        Append(4),
        Flush,
        Append(9),
        Append(9),
        Flush,
        Retention,
        Append(5),
        Flush,
        KeepNewest(4),
        Append(9),
        Flush,
        Checkpoint,
        Retention,
        Append(2),
        Flush,
        Retention,
        Append(1),
        Flush,
        Restart,
        Append(1),
        Flush,
    ];
    stop_everywhere(&config, &steps);
}

#[test]
fn a_truncated_tail_does_not_come_back_over_what_replaced_it() {
    use Step::*;
    let steps = [
        Append(3),
        Append(4),
        Flush,
        Append(9),
        Append(9),
        Append(9),
        Flush,
        Checkpoint,
        Truncate(12),
        Append(2),
        Flush,
        Append(9),
        Append(9),
        Flush,
        Truncate(3),
        Append(5),
        Flush,
        Checkpoint,
        Append(9),
        Append(9),
        Truncate(20),
        Append(1),
        Flush,
        Restart,
        Append(1),
        Flush,
    ];
    stop_everywhere(&small_config(), &steps);
}
