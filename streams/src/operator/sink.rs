//! Sink stage: typed records become bytes in the outbox of the epoch, partitioned as Kafka's default partitioner does.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::dataflow::instance::{Flow, Instance, Sink, TaskContext};
use crate::error::{EngineError, SerdeError};
use crate::record::Record;
use crate::serde::Serde;
use crate::topology::{NodeId, TopicRef};

/// Options of a sink.
pub(crate) struct SinkOptions<K, V> {
    pub(crate) topic: TopicRef,
    pub(crate) key: Arc<dyn Serde<K>>,
    pub(crate) value: Arc<dyn Serde<V>>,
}

struct SinkStage<K, V> {
    context: Rc<TaskContext>,
    node: NodeId,
    name: String,
    options: Arc<SinkOptions<K, V>>,
    topic: Arc<str>,
    partitions: i32,
    /// Partition of the next batch's records without a key.
    keyless: i32,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Builds the sink node.
pub(crate) fn build<K: 'static, V: 'static>(
    instance: &mut Instance,
    options: &Arc<SinkOptions<K, V>>,
) {
    let shared = &instance.context.shared;
    let topic: Arc<str> = Arc::from(options.topic.topic(&shared.application_id));
    let stage = SinkStage {
        partitions: shared.partitions_of(&topic).max(1),
        keyless: instance.context.task.partition,
        context: Rc::clone(&instance.context),
        node: instance.node(),
        name: instance.node_name().to_owned(),
        options: Arc::clone(options),
        topic,
        key: Vec::new(),
        value: Vec::new(),
    };
    instance.register::<Record<K, V>>(Rc::new(std::cell::RefCell::new(stage)));
}

impl<K, V> SinkStage<K, V> {
    fn broken(&self, part: &'static str, error: SerdeError) -> Box<EngineError> {
        Box::new(EngineError::Serialization {
            node: self.name.clone(),
            part,
            error,
        })
    }
}

impl<K, V> Sink<Record<K, V>> for SinkStage<K, V> {
    fn push(&mut self, batch: &mut Vec<Record<K, V>>) -> Flow {
        self.context.running.set(self.node);
        self.context
            .counters
            .records_out
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.keyless = (self.keyless + 1) % self.partitions;
        let context = Rc::clone(&self.context);
        context.shared.with_outbox(|outbox| {
            for record in batch.iter() {
                self.key.clear();
                self.value.clear();
                let (key, value) = (&self.options.key, &self.options.value);
                key.serialize(&record.key, &mut self.key)
                    .map_err(|error| self.broken("key", error))?;
                value
                    .serialize(&record.value, &mut self.value)
                    .map_err(|error| self.broken("value", error))?;
                let key = (!key.is_null(&record.key)).then_some(self.key.as_slice());
                let value = (!value.is_null(&record.value)).then_some(self.value.as_slice());
                let partition = key.map_or(self.keyless, |key| partition_for(key, self.partitions));
                outbox.buffer(&self.topic, partition).push(
                    record.timestamp,
                    key,
                    value,
                    &record.headers,
                );
            }
            Ok(())
        })
    }
}

/// The partition of a key (Kafka: `BuiltInPartitioner.partitionForKey`).
pub(crate) fn partition_for(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    i32::try_from(positive).expect("31 bits") % partitions
}

/// Kafka's `Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).expect("keys are shorter than 4 GiB");
    let mut hash = 0x9747_b28c ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (shift, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * shift);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_kafkas() {
        // From Kafka's UtilsTest.testMurmur2.
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key).cast_signed(), hash, "{key:?}");
        }
    }
}
