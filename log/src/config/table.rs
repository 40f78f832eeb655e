//! The table of topic options, by name. Data only.

use super::Bounds::{Any, AtLeast, Fraction, OneOf};
use super::ConfigType::{Boolean, Double, Int, List, Long, String};
use super::{Bounds, ConfigKey, ConfigType, Synonym};

const MAX: &str = "9223372036854775807";
const HOUR: i64 = 3_600_000;

const fn key(
    name: &'static str,
    (kind, default, bounds): (ConfigType, &'static str, Bounds),
    synonyms: &'static [Synonym],
    doc: &'static str,
) -> ConfigKey {
    ConfigKey {
        name,
        kind,
        default,
        bounds,
        synonyms,
        doc,
    }
}

const fn same(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}

const fn times(name: &'static str, factor: i64) -> Synonym {
    Synonym { name, factor }
}

/// All topic options, sorted by name.
pub const TOPIC_CONFIGS: &[ConfigKey] = &[
    key(
        "cleanup.policy",
        (List, "delete", OneOf(&["compact", "delete"])),
        &[same("log.cleanup.policy")],
        "What becomes of old segments: deleted by age and size, compacted to the newest value of each key, both, or (empty) kept for ever.",
    ),
    key(
        "compression.type",
        (
            String,
            "producer",
            OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        ),
        &[same("compression.type")],
        "Codec of the stored batches; `producer` keeps what was sent.",
    ),
    key(
        "delete.retention.ms",
        (Long, "86400000", AtLeast(0)),
        &[same("log.cleaner.delete.retention.ms")],
        "How long a compacted topic keeps tombstones and markers after they were first cleaned.",
    ),
    key(
        "file.delete.delay.ms",
        (Long, "60000", AtLeast(0)),
        &[same("log.segment.delete.delay.ms")],
        "How long files stay after their deletion. Readers keep them open, so they are removed at once whatever it says.",
    ),
    key(
        "flush.messages",
        (Long, MAX, AtLeast(1)),
        &[same("log.flush.interval.messages")],
        "With flush.mode=async: flush after this many records; 1 is a flush before each acknowledgement.",
    ),
    key(
        "flush.mode",
        (String, "sync", OneOf(&["sync", "async"])),
        &[same("log.flush.mode")],
        "Whether a record is on the disk (fdatasync) before it is acknowledged, or reaches it later, as in a default Kafka.",
    ),
    key(
        "flush.ms",
        (Long, MAX, AtLeast(0)),
        &[same("log.flush.interval.ms")],
        "With flush.mode=async: flush at least this often.",
    ),
    key(
        "index.interval.bytes",
        (Int, "4096", AtLeast(0)),
        &[same("log.index.interval.bytes")],
        "Bytes of log per index entry.",
    ),
    key(
        "max.compaction.lag.ms",
        (Long, MAX, AtLeast(1)),
        &[same("log.cleaner.max.compaction.lag.ms")],
        "How long a record of a compacted topic may stay uncompacted.",
    ),
    key(
        "max.message.bytes",
        (Int, "1048588", AtLeast(0)),
        &[same("message.max.bytes")],
        "Largest batch that is accepted, after compression.",
    ),
    key(
        "message.timestamp.after.max.ms",
        (Long, "3600000", AtLeast(0)),
        &[same("log.message.timestamp.after.max.ms")],
        "How far a producer's timestamp may lie after the broker's clock.",
    ),
    key(
        "message.timestamp.before.max.ms",
        (Long, MAX, AtLeast(0)),
        &[same("log.message.timestamp.before.max.ms")],
        "How far a producer's timestamp may lie before the broker's clock.",
    ),
    key(
        "message.timestamp.type",
        (
            String,
            "CreateTime",
            OneOf(&["CreateTime", "LogAppendTime"]),
        ),
        &[same("log.message.timestamp.type")],
        "Whether records keep the producer's timestamp or get the broker's.",
    ),
    key(
        "min.cleanable.dirty.ratio",
        (Double, "0.5", Fraction),
        &[same("log.cleaner.min.cleanable.ratio")],
        "Share of a compacted log that may be uncompacted before it is compacted.",
    ),
    key(
        "min.compaction.lag.ms",
        (Long, "0", AtLeast(0)),
        &[same("log.cleaner.min.compaction.lag.ms")],
        "How long a record of a compacted topic stays uncompacted at least.",
    ),
    key(
        "min.insync.replicas",
        (Int, "1", AtLeast(1)),
        &[same("min.insync.replicas")],
        "Replicas that must have a record before acks=all acknowledges it.",
    ),
    key(
        "retention.bytes",
        (Long, "-1", AtLeast(-1)),
        &[same("log.retention.bytes")],
        "Size of a partition above which old segments are deleted; -1 is no limit.",
    ),
    key(
        "retention.ms",
        (Long, "604800000", AtLeast(-1)),
        &[
            same("log.retention.ms"),
            times("log.retention.minutes", 60_000),
            times("log.retention.hours", HOUR),
        ],
        "Age of its newest record above which a segment is deleted; -1 is no limit.",
    ),
    key(
        "segment.bytes",
        (Int, "1073741824", AtLeast(14)),
        &[same("log.segment.bytes")],
        "Size of a segment file above which a new one is begun. Apache Kafka takes no less than 1048576.",
    ),
    key(
        "segment.index.bytes",
        (Int, "10485760", AtLeast(4)),
        &[same("log.index.size.max.bytes")],
        "Size of the index files of the active segment; they are cut to what they hold when it is full.",
    ),
    key(
        "segment.jitter.ms",
        (Long, "0", AtLeast(0)),
        &[
            same("log.roll.jitter.ms"),
            times("log.roll.jitter.hours", HOUR),
        ],
        "Most that is taken off segment.ms, so that not all partitions begin a new segment at once.",
    ),
    key(
        "segment.ms",
        (Long, "604800000", AtLeast(1)),
        &[same("log.roll.ms"), times("log.roll.hours", HOUR)],
        "Age of a segment's first record at which a new segment is begun.",
    ),
    key(
        "unclean.leader.election.enable",
        (Boolean, "false", Any),
        &[same("unclean.leader.election.enable")],
        "Whether a replica that is not in sync may lead when no other is left, at the price of lost records.",
    ),
];
