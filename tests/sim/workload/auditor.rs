//! Reads everything when all is over: each partition from its first offset to its end, as either kind of reader sees it, and what
//! the groups have committed.

use std::time::Duration;

use flumen_checker::{Marks, Partition, Read, What};
use flumen_client::{
    Client, ClientError, Consumer, ConsumerConfig, Isolation, Poll, TopicPartition,
};

use super::consumer::{read, seen};
use super::{Phase, Stage};
use crate::recorder::Journal;

/// Groups by number.
const GROUPS: [&str; 2] = ["readers", "movers"];

pub(crate) async fn run(stage: Stage) -> turmoil::Result {
    let mut phase = stage.phase.clone();
    phase.wait_for(|phase| *phase == Phase::Audit).await?;
    let client = stage.client().await;
    let journal = stage.process();
    for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
        for partition in stage.all_partitions() {
            let read = all(&stage, &client, partition, isolation).await?;
            journal.record(What::FinalRead(read));
        }
    }
    for group in 0..GROUPS.len() {
        offsets(&stage, &client, &journal, group).await?;
    }
    Ok(())
}

async fn all(
    stage: &Stage,
    client: &Client,
    partition: Partition,
    isolation: Isolation,
) -> Result<Read, ClientError> {
    let at = stage.wire_name(partition);
    let config = ConsumerConfig {
        isolation,
        ..stage.consumer_config()
    };
    let consumer = Consumer::new(client, config).await?;
    consumer.assign(vec![at.clone()]).await?;
    let bounds = |ends: std::collections::BTreeMap<TopicPartition, i64>| ends[&at];
    let partitions = std::slice::from_ref(&at);
    let start = bounds(consumer.beginning_offsets(partitions).await?);
    let stable = bounds(
        consumer
            .end_offsets_as(partitions, Isolation::ReadCommitted)
            .await?,
    );
    let end = bounds(
        consumer
            .end_offsets_as(partitions, Isolation::ReadUncommitted)
            .await?,
    );
    let mut whole = Read {
        partition,
        isolation: seen(isolation),
        from: start,
        next: start,
        records: Vec::new(),
        marks: Marks {
            high_watermark: end,
            last_stable_offset: stable,
            log_start: start,
        },
    };
    let until = match isolation {
        Isolation::ReadCommitted => stable,
        Isolation::ReadUncommitted => end,
    };
    while whole.next < until {
        if let Poll::Records(pieces) = consumer.poll_batches(Duration::from_secs(1)).await? {
            for piece in &pieces {
                let piece = read(stage, piece, isolation);
                whole.next = piece.next;
                whole.records.extend(piece.records);
            }
        }
    }
    consumer.close().await;
    Ok(whole)
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
