//! DescribeLogDirs: where the logs lie and how large they are (KIP-113).

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::message::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use flumen_protocol::message::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use crate::dispatch::Context;
use crate::node::Node;

/// Answers DescribeLogDirs, for the partitions asked for or for all.
pub(crate) fn describe_log_dirs(
    node: &Node,
    _context: &Context,
    request: &DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let asked: Option<BTreeSet<(&str, i32)>> = request.topics.as_deref().map(|topics| {
        let all = topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (topic.topic.as_str(), *partition))
        });
        all.collect()
    });
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in node.partitions.all() {
        let name = partition.name();
        let wanted = |asked: &BTreeSet<_>| asked.contains(&(name.topic.as_str(), name.partition));
        if !asked.as_ref().is_none_or(wanted) {
            continue;
        }
        let log = partition.log();
        let described = DescribeLogDirsPartition {
            partition_index: name.partition,
            partition_size: i64::try_from(log.size()).unwrap_or(i64::MAX),
            offset_lag: (log.log_end_offset() - partition.high_watermark()).max(0),
            ..Default::default()
        };
        topics
            .entry(name.topic.clone())
            .or_default()
            .push(described);
    }
    let (path, space) = node.replicas.data_dir();
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut result = DescribeLogDirsResult {
        log_dir: path.display().to_string(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| DescribeLogDirsTopic {
                name,
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    if let Some(space) = space {
        (result.total_bytes, result.usable_bytes) = (bytes(space.total), bytes(space.usable));
    }
    DescribeLogDirsResponse {
        results: vec![result],
        ..Default::default()
    }
}
