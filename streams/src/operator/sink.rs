//! Sink stage: typed records become bytes in the outbox of the epoch, partitioned as Kafka's default partitioner does.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use flumen_client::partition_for_key;

use crate::dataflow::TopicIndex;
use crate::dataflow::instance::{Flow, Instance, Sink, TaskContext};
use crate::error::{EngineError, SerdeError};
use crate::record::Record;
use crate::serdes::Serde;
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
    topic: TopicIndex,
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
    let topic = options.topic.topic(&shared.application_id);
    let stage = SinkStage {
        partitions: shared.partitions_of(&topic).max(1),
        keyless: instance.context.task.partition,
        context: Rc::clone(&instance.context),
        node: instance.node(),
        name: instance.node_name().to_owned(),
        options: Arc::clone(options),
        topic: shared.topic_index(&topic),
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
                let partition =
                    key.map_or(self.keyless, |key| partition_for_key(key, self.partitions));
                outbox.buffer(self.topic, partition).push(
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
