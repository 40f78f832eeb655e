//! A history as lines for people: time, who, what.

use std::fmt;

use crate::history::{Event, History, Isolation, Marks, Outcome, Partition, Producer, Read, What};

/// Records of one read that are printed; of longer ones the first and last.
const RECORDS_SHOWN: usize = 12;

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            writeln!(f, "{}", Line(self, event))?;
        }
        Ok(())
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}-{}", self.topic, self.index)
    }
}

struct Line<'a>(&'a History, &'a Event);

impl Line<'_> {
    fn name(&self, number: u32) -> String {
        match self.0.names.get(&number) {
            Some(name) => name.clone(),
            None => format!("p{number}"),
        }
    }

    fn names(&self, numbers: &[u32]) -> String {
        let names: Vec<_> = numbers.iter().map(|number| self.name(*number)).collect();
        names.join(", ")
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event {
            at_ms,
            process,
            what,
        } = self.1;
        write!(f, "{at_ms:>9} ms  {:<14} ", self.name(*process))?;
        match what {
            What::Crashed { host } => write!(f, "{} crashes", self.name(*host)),
            What::Restarted { host } => write!(f, "{} runs again", self.name(*host)),
            What::FaultsStopped { expected } => {
                write!(f, "faults stop; must move: {}", self.names(expected))
            }
            What::Moved { who } => write!(f, "{} moves", self.name(*who)),
            What::Polled(read) => read_line(f, "polls", read),
            What::FinalRead(read) => read_line(f, "reads at the end", read),
            other => producer_line(f, other),
        }
    }
}

fn producer_line(f: &mut fmt::Formatter<'_>, what: &What) -> fmt::Result {
    match what {
        What::ProducerStarting { transactional_id } => {
            write!(f, "asks for transactional id {transactional_id}")
        }
        What::ProducerStarted { transactional_id } => {
            write!(f, "has transactional id {transactional_id}")
        }
        What::Fenced => write!(f, "is told that it is fenced"),
        What::Sent {
            producer,
            partition,
            value,
        } => match producer {
            Producer::Plain => write!(f, "sends {value} to {partition}, without a producer id"),
            Producer::Idempotent => write!(f, "sends {value} to {partition}"),
            Producer::Transactional(txn) => {
                write!(f, "sends {value} to {partition} in transaction {txn}")
            }
        },
        What::Acked { value, offset } => write!(f, "is told: {value} is at offset {offset}"),
        What::Failed { value } => write!(f, "is told: {value} is not written"),
        What::Unknown { value } => write!(f, "is not told whether {value} is written"),
        What::TxnBegun { txn } => write!(f, "begins transaction {txn}"),
        What::OffsetsSent {
            txn,
            group,
            generation,
            partition,
            offset,
        } => write!(
            f,
            "adds offset {offset} of {partition} for group {group}{} to transaction {txn}",
            Generation(*generation)
        ),
        What::OffsetsRefused { txn, group } => {
            write!(
                f,
                "is refused the offsets of group {group} in transaction {txn}"
            )
        }
        What::TxnCommitting { txn } => write!(f, "asks to commit transaction {txn}"),
        What::TxnCommitted { txn } => write!(f, "is told: transaction {txn} is committed"),
        What::TxnAborted { txn } => write!(f, "is told: transaction {txn} is aborted"),
        What::TxnUnknown { txn } => write!(f, "is not told how transaction {txn} ended"),
        other => consumer_line(f, other),
    }
}

fn consumer_line(f: &mut fmt::Formatter<'_>, what: &What) -> fmt::Result {
    match what {
        What::Assigned {
            group,
            generation,
            partitions,
        } => match group {
            Some(group) => write!(
                f,
                "owns {} in generation {generation} of group {group}",
                list(partitions)
            ),
            None => write!(f, "takes {}", list(partitions)),
        },
        What::Revoked { partitions } => write!(f, "gives up {}", list(partitions)),
        What::OffsetsCommitting {
            commit,
            group,
            generation,
            partition,
            offset,
        } => write!(
            f,
            "asks to commit offset {offset} of {partition} for group {group}{} (commit {commit})",
            Generation(*generation)
        ),
        What::OffsetsCommitted { commit, outcome } => match outcome {
            Outcome::Acked => write!(f, "is told: commit {commit} is done"),
            Outcome::Failed => write!(f, "is told: commit {commit} is not done"),
            Outcome::Unknown => write!(f, "is not told how commit {commit} ended"),
        },
        What::OffsetsFetching { group } => write!(f, "asks for the offsets of group {group}"),
        What::OffsetsFetched {
            group,
            partition,
            offset,
        } => write!(
            f,
            "is told: offset {offset} of {partition} is committed for group {group}"
        ),
        _ => Ok(()),
    }
}

struct Generation(Option<i32>);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(generation) => write!(f, " as a member of generation {generation}"),
            None => Ok(()),
        }
    }
}

fn list(partitions: &[Partition]) -> String {
    if partitions.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<_> = partitions.iter().map(Partition::to_string).collect();
    names.join(", ")
}

fn read_line(f: &mut fmt::Formatter<'_>, verb: &str, read: &Read) -> fmt::Result {
    let isolation = match read.isolation {
        Isolation::ReadCommitted => "committed",
        Isolation::ReadUncommitted => "uncommitted",
    };
    write!(
        f,
        "{verb} {} ({isolation}) from {} to {}: ",
        read.partition, read.from, read.next
    )?;
    let shown = |f: &mut fmt::Formatter<'_>, records: &[(i64, u64)]| {
        for (at, (offset, value)) in records.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{value} at {offset}")?;
        }
        Ok(())
    };
    match read.records.len() {
        0 => write!(f, "nothing")?,
        count if count <= RECORDS_SHOWN => shown(f, &read.records)?,
        count => {
            shown(f, &read.records[..RECORDS_SHOWN / 2])?;
            write!(f, ", … {} more …, ", count - RECORDS_SHOWN)?;
            shown(f, &read.records[count - RECORDS_SHOWN / 2..])?;
        }
    }
    if read.marks != Marks::UNKNOWN {
        let Marks {
            high_watermark,
            last_stable_offset,
            log_start,
        } = read.marks;
        write!(
            f,
            "; log start {log_start}, last stable offset {last_stable_offset}, high watermark {high_watermark}"
        )?;
    }
    Ok(())
}
