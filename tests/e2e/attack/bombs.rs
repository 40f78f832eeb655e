//! P-2: a few kilobytes that become a hundred megabytes, in every codec, for the broker and for our own consumer.

use std::time::Duration;

use flumen::client::{Client, ClientConfig, Consumer, ConsumerConfig};
use flumen::protocol::builder::{BatchBuilder, BatchOptions};
use flumen::protocol::compression::Compression;
use flumen::protocol::message::ProduceRequest;
use flumen::protocol::message::produce_request::{PartitionProduceData, TopicProduceData};
use flumen::protocol::segment::Records;

use super::victim::{Victim, beside};
use super::{Broker, MIB};
use crate::server::Server;
use crate::wire::Wire;

/// A batch of one record of so many zeros.
fn bomb(codec: Compression, bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: codec,
        ..BatchOptions::default()
    });
    builder.push(0, None, Some(&vec![0; bytes]), &[]);
    builder.build().to_vec()
}

fn produce(wire: &mut Wire, topic: &str, records: Vec<u8>) -> i16 {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 60_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData {
                records: Some(Records::Bytes(records.into())),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    wire.ask(9, &request).responses[0].partition_responses[0].error_code
}

/// Raw snappy that says it holds 4 GiB, and a zstd frame that wants a window of 2 GiB.
fn impossible() -> Vec<Vec<u8>> {
    let with = |codec: Compression, payload: &[u8]| {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.push(0, None, Some(b"x"), &[]);
        let mut batch = builder.build().to_vec();
        batch.truncate(61);
        batch.extend_from_slice(payload);
        let length = i32::try_from(batch.len() - 12).expect("small");
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[22] = codec as u8;
        flumen::protocol::batch::seal(&mut batch);
        batch
    };
    vec![
        with(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]),
        with(
            Compression::Zstd,
            &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0, 0],
        ),
        with(
            Compression::Lz4,
            &[
                0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 0xff, 0xff, 0xff, 0x7f,
            ],
        ),
    ]
}

/// `max.message.bytes` times this is what a batch may hold, decompressed.
const OPENED: u64 = 32 * MIB;

#[test]
fn bombs_of_every_codec_are_refused_beside_a_client_that_works() {
    let mut broker = Broker::start(&[]);
    let server = &broker.server;
    drop(Victim::new(server, "t"));
    beside(server, || {
        let compressed = [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        let mut bombs: Vec<Vec<u8>> = compressed
            .iter()
            .map(|codec| bomb(*codec, 100 << 20))
            .collect();
        bombs.extend(impossible());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut wire = Wire::connect(server);
                    for bomb in bombs.iter().cycle().take(bombs.len() * 3) {
                        assert_ne!(produce(&mut wire, "t", bomb.clone()), 0);
                    }
                });
            }
        });
    });
    // One batch is open per processor at a time, twice while it grows; a request is at most 5 MB here, copied once when it is read.
    let processors = std::thread::available_parallelism().map_or(2, |n| n.get() as u64);
    broker.held_at_most("bombs", processors * 2 * OPENED + 4 * 10 * MIB);
}

#[test]
fn our_consumer_opens_a_batch_as_far_as_it_was_told_to() {
    let server = Server::start();
    drop(Victim::new(&server, "t"));
    let mut wire = Wire::connect(&server);
    // The broker takes it: it is below its own limit.
    assert_eq!(
        produce(&mut wire, "t", bomb(Compression::Zstd, 20 << 20)),
        0
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect(ClientConfig::new(&server.address()));
        let client = client.await.expect("the broker answers");
        let poll = async |bytes_max: usize| {
            let config = ConsumerConfig {
                decompressed_bytes_max: bytes_max,
                auto_offset_reset: flumen::client::OffsetReset::Earliest,
                ..ConsumerConfig::default()
            };
            let consumer = Consumer::new(&client, config).await.expect("a consumer");
            let partition = flumen::client::TopicPartition::new("t", 0);
            consumer.assign(vec![partition]).await.expect("assigned");
            loop {
                match consumer.poll(Duration::from_secs(1)).await {
                    Ok(records) if records.is_empty() => {}
                    Ok(records) => return Ok(records.len()),
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        assert_eq!(poll(32 << 20).await, Ok(1));
        let refused = poll(1 << 20).await.expect_err("a bomb");
        assert!(
            refused.contains("t-0") && refused.contains("1048576"),
            "{refused}"
        );
    });
}
