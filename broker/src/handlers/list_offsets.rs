//! ListOffsets: first, last and latest offsets, and the first offset at or after a timestamp.

use std::collections::BTreeSet;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{LeaderEpoch, Offset};
use flumen_protocol::message::list_offsets_request::ListOffsetsPartition;
use flumen_protocol::message::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use flumen_protocol::message::{ListOffsetsRequest, ListOffsetsResponse};

use crate::dispatch::Context;
use crate::error::read_error_code;
use crate::node::Node;
use crate::partition::Partition;
use crate::partition::pending::Isolation;

/// Timestamps that mean a place (Kafka: `ListOffsetsRequest`).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// First version that tells the epoch of an offset.
const EPOCHS: i16 = 4;

/// A place in the log; -1 for what there is not.
struct Place {
    offset: Offset,
    timestamp: i64,
    leader_epoch: LeaderEpoch,
}

const NOWHERE: Place = Place {
    offset: -1,
    timestamp: -1,
    leader_epoch: -1,
};

/// Answers ListOffsets.
pub(crate) fn list_offsets(
    node: &Node,
    context: &Context,
    request: &ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = Isolation::from_wire(request.isolation_level);
    // Each search reads the disk, and one answer for a partition is what clients expect: what is named twice is refused, once.
    let (mut named, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for topic in &request.topics {
        for asked in &topic.partitions {
            let name = (&topic.name, asked.partition_index);
            if !named.insert(name) {
                twice.insert(name);
            }
        }
    }
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .filter(|asked| named.remove(&(&topic.name, asked.partition_index)))
            .map(|asked| {
                let result = match twice.contains(&(&topic.name, asked.partition_index)) {
                    true => Err(ErrorCode::InvalidRequest),
                    false => find(node, context, &topic.name, asked, isolation),
                };
                let (error, place) =
                    result.map_or_else(|error| (error, NOWHERE), |place| (ErrorCode::None, place));
                ListOffsetsPartitionResponse {
                    partition_index: asked.partition_index,
                    error_code: error.code(),
                    timestamp: place.timestamp,
                    offset: place.offset,
                    leader_epoch: if context.version >= EPOCHS {
                        place.leader_epoch
                    } else {
                        -1
                    },
                    ..Default::default()
                }
            })
            .collect(),
        ..Default::default()
    });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn find(
    node: &Node,
    context: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Place, ErrorCode> {
    let partition = node.partitions.opened(topic, asked.partition_index)?;
    partition.check_epoch(asked.current_leader_epoch)?;
    let since = |version: i16, place: Place| {
        if context.version < version {
            Err(ErrorCode::UnsupportedVersion)
        } else {
            Ok(place)
        }
    };
    let earliest = || {
        let offset = partition.log().log_start_offset();
        // Where nothing is, what comes will be of this epoch.
        let leader_epoch = match offset == partition.log().log_end_offset() {
            true => partition.leader_epoch(),
            false => partition.epoch_at(offset),
        };
        Place {
            offset,
            timestamp: -1,
            leader_epoch,
        }
    };
    match asked.timestamp {
        LATEST => Ok(Place {
            offset: partition.readable_end(isolation),
            timestamp: -1,
            leader_epoch: partition.leader_epoch(),
        }),
        EARLIEST => Ok(earliest()),
        MAX_TIMESTAMP => since(7, NOWHERE).and_then(|_| newest(&partition)),
        EARLIEST_LOCAL => since(8, earliest()),
        // Nothing is tiered, and nothing waits to be.
        LATEST_TIERED => since(9, NOWHERE),
        EARLIEST_PENDING_UPLOAD => since(11, NOWHERE),
        timestamp if timestamp < 0 => Err(ErrorCode::UnsupportedVersion),
        timestamp => at_time(&partition, timestamp, isolation),
    }
}

fn newest(partition: &Partition) -> Result<Place, ErrorCode> {
    let found = partition
        .log()
        .max_timestamp(partition.high_watermark())
        .map_err(|error| read_error_code(&error))?;
    Ok(found.map_or(NOWHERE, |found| Place {
        offset: found.offset,
        timestamp: found.timestamp,
        leader_epoch: found.leader_epoch,
    }))
}

fn at_time(
    partition: &Partition,
    timestamp: i64,
    isolation: Isolation,
) -> Result<Place, ErrorCode> {
    let upto = partition.readable_end(isolation);
    let found = partition
        .log()
        .offset_for_timestamp(timestamp, upto)
        .map_err(|error| read_error_code(&error))?;
    Ok(found.map_or(NOWHERE, |found| Place {
        offset: found.offset,
        timestamp: found.timestamp,
        leader_epoch: found.leader_epoch,
    }))
}
