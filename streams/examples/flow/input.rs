//! The input of the comparison, record for record what the Java side loads: the same keys in the same order, the same value, the same timestamps.

use bytes::Bytes;
use flumen_client::{
    Admin, Client, Compression, NewTopic, Producer, ProducerConfig, RecordBlock, partition_for_key,
};

use crate::Failure;

/// Partitions of input and output.
pub(crate) const PARTITIONS: i32 = 6;
/// Event time of the first record; a hundred records share a millisecond.
const BEGINNING_MS: i64 = 1_700_000_000_000;
const BATCH_BYTES: usize = 128 << 10;

/// `java.util.Random`: the keys of both sides are the same numbers.
#[derive(Debug)]
pub(crate) struct JavaRandom(u64);

impl JavaRandom {
    pub(crate) fn new(seed: u64) -> JavaRandom {
        JavaRandom((seed ^ 0x5_DEEC_E66D) & ((1 << 48) - 1))
    }

    fn bits(&mut self, count: u32) -> i32 {
        self.0 = (self.0.wrapping_mul(0x5_DEEC_E66D) + 0xB) & ((1 << 48) - 1);
        // Java keeps the low 32 bits.
        (self.0 >> (48 - count)) as u32 as i32
    }

    /// Uniform below `bound`.
    pub(crate) fn below(&mut self, bound: i32) -> i32 {
        let most = bound - 1;
        let mut bits = self.bits(31);
        if bound & most == 0 {
            return ((i64::from(bound) * i64::from(bits)) >> 31) as i32;
        }
        loop {
            let number = bits % bound;
            if bits.wrapping_sub(number).wrapping_add(most) >= 0 {
                return number;
            }
            bits = self.bits(31);
        }
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(4) {
            let number = self.bits(32).to_le_bytes();
            word.copy_from_slice(&number[..word.len()]);
        }
    }
}

/// A topic that keeps its records for ever: their timestamps are years old, and the usual seven days would delete them under the reader.
pub(crate) fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic::new(name, partitions).config("retention.ms", "-1")
}

/// Makes the topic and loads it.
pub(crate) async fn load(
    client: &Client,
    name: &str,
    records: u64,
    keys: i32,
) -> Result<(), Failure> {
    Admin::new(client)
        .create_topic(&topic(name, PARTITIONS))
        .await?;
    let producer = Producer::new(client, ProducerConfig::default()).await?;
    let mut random = JavaRandom::new(42);
    let mut value = [0; 100];
    random.fill(&mut value);
    let empty = || RecordBlock::with_capacity(Compression::None, BATCH_BYTES + 256);
    let mut blocks: Vec<RecordBlock> = (0..PARTITIONS).map(|_| empty()).collect();
    for number in 0..records {
        let key = Bytes::from(format!("key-{}", random.below(keys)));
        let timestamp = BEGINNING_MS + i64::try_from(number / 100)?;
        let partition = partition_for_key(&key, PARTITIONS);
        let block = &mut blocks[usize::try_from(partition)?];
        block.push(timestamp, Some(&key), Some(&value), &[]);
        if block.size_bytes() >= BATCH_BYTES {
            let full = std::mem::replace(block, empty());
            drop(producer.send_batch(name, partition, full).await?);
        }
    }
    for (partition, block) in (0..).zip(blocks) {
        if !block.is_empty() {
            drop(producer.send_batch(name, partition, block).await?);
        }
    }
    Ok(producer.close().await?)
}
