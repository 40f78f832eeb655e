//! Reads everything when all is over: each partition from its first offset to its end, as either kind of reader sees it, what the
//! groups have committed, and the compacted topic, where there is one.

use std::time::Duration;

use flumen_checker::{Marks, Partition, Read, What};
use flumen_client::{
    Client, ClientError, Consumer, ConsumerConfig, Isolation, Poll, TopicPartition,
};

use super::consumer::{read, seen};
use super::{Kind, Phase, Stage, table};
use crate::recorder::Journal;

/// Groups by number.
const GROUPS: [&str; 2] = ["readers", "movers"];

pub(crate) async fn run(stage: Stage) -> turmoil::Result {
    let mut phase = stage.phase.clone();
    phase.wait_for(|phase| *phase == Phase::Audit).await?;
    let client = stage.client().await;
    let journal = stage.process();
    for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
        for read in all(&stage, &client, isolation).await? {
            journal.record(What::FinalRead(read));
        }
    }
    for group in 0..GROUPS.len() {
        offsets(&stage, &client, &journal, group).await?;
    }
    let is_table = |kind: &Kind| matches!(kind, Kind::Table(_));
    if stage.plan.hosts.iter().any(|host| is_table(&host.kind)) {
        table::audit(&stage, &client, &journal).await?;
    }
    Ok(())
}

/// Every partition from its first offset to its end.
async fn all(
    stage: &Stage,
    client: &Client,
    isolation: Isolation,
) -> Result<Vec<Read>, ClientError> {
    let partitions = stage.all_partitions();
    let names: Vec<_> = partitions.iter().map(|at| stage.wire_name(*at)).collect();
    let config = ConsumerConfig {
        isolation,
        ..stage.consumer_config()
    };
    let consumer = Consumer::new(client, config).await?;
    consumer.assign(names.clone()).await?;
    let starts = consumer.beginning_offsets(&names).await?;
    let stable = consumer
        .end_offsets_as(&names, Isolation::ReadCommitted)
        .await?;
    let ends = consumer
        .end_offsets_as(&names, Isolation::ReadUncommitted)
        .await?;
    let begin = |(partition, name): (&Partition, &TopicPartition)| Read {
        partition: *partition,
        isolation: seen(isolation),
        from: starts[name],
        next: starts[name],
        records: Vec::new(),
        marks: Marks {
            high_watermark: ends[name],
            last_stable_offset: stable[name],
            log_start: starts[name],
        },
    };
    let mut reads: Vec<Read> = partitions.iter().zip(&names).map(begin).collect();
    let until = |read: &Read| match isolation {
        Isolation::ReadCommitted => read.marks.last_stable_offset,
        Isolation::ReadUncommitted => read.marks.high_watermark,
    };
    while reads.iter().any(|read| read.next < until(read)) {
        let Poll::Records(pieces) = consumer.poll_batches(Duration::from_secs(1)).await? else {
            continue;
        };
        for piece in &pieces {
            let piece = read(stage, piece, isolation);
            let whole = reads
                .iter_mut()
                .find(|read| read.partition == piece.partition)
                .expect("one for each partition");
            whole.next = piece.next;
            whole.records.extend(piece.records);
        }
    }
    consumer.close().await;
    Ok(reads)
}

async fn offsets(
    stage: &Stage,
    client: &Client,
    journal: &Journal,
    group: usize,
) -> Result<(), ClientError> {
    let config = ConsumerConfig {
        group_id: Some(GROUPS[group].to_owned()),
        ..stage.consumer_config()
    };
    let group = u16::try_from(group).unwrap();
    let consumer = Consumer::new(client, config).await?;
    let partitions = stage.all_partitions();
    journal.record(What::OffsetsFetching { group });
    let names: Vec<_> = partitions.iter().map(|at| stage.wire_name(*at)).collect();
    let committed = consumer.committed(&names).await?;
    for (partition, name) in partitions.iter().zip(&names) {
        journal.record(What::OffsetsFetched {
            group,
            partition: *partition,
            offset: committed.get(name).map_or(-1, |at| at.offset),
        });
    }
    Ok(())
}
