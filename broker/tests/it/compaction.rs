//! Topics that are compacted, as their producers and readers meet them; the broker's own among them.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::OffsetFetchRequest;

use crate::configs::{BROKER, TOPIC, set};
use crate::groups::commit_request;
use crate::support::{Wire, World, batch, eventually};

const OFTEN: [(&str, &str); 1] = [("log.cleaner.backoff.ms", "5")];
const SMALL: [(&str, &str); 2] = [
    ("segment.bytes", "1000"),
    ("min.cleanable.dirty.ratio", "0.1"),
];

fn keyed(records: &[(&str, Option<&str>)]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for (key, value) in records {
        builder.push(
            1_700_000_000_000,
            Some(key.as_bytes()),
            value.map(str::as_bytes),
            &[],
        );
    }
    builder.build()
}

async fn put(client: &mut Wire, topic: &str, key: &str, value: &str) {
    let written = client.produce(topic, 0, keyed(&[(key, Some(value))])).await;
    assert_eq!(written.error_code, 0);
}

/// Every record, read as a consumer does from the beginning: offset, key, value.
async fn read(client: &mut Wire, topic: &str) -> Vec<(i64, String, String)> {
    let (mut all, mut at) = (Vec::new(), 0);
    loop {
        let data = client.fetch(topic, 0, at).await;
        assert_eq!(data.error_code, 0);
        let bytes = data.records.unwrap_or_default().into_bytes().unwrap();
        let before = at;
        for batch in flumen_protocol::batch::batches(bytes) {
            let batch = batch.unwrap();
            at = at.max(batch.header().next_offset());
            for record in batch.records(DecompressionLimit::DEFAULT).unwrap() {
                let record = record.unwrap();
                let text =
                    |bytes: Option<Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                if record.offset >= before {
                    all.push((record.offset, text(record.key), text(record.value)));
                }
            }
        }
        if at == before {
            return all;
        }
    }
}

fn size_of_log(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let logs = files.filter(|file| file.path().extension().is_some_and(|ext| ext == "log"));
    // What is being swapped may be gone by now.
    logs.map(|file| file.metadata().map_or(0, |metadata| metadata.len()))
        .sum()
}

#[tokio::test]
async fn readers_from_the_beginning_find_each_key_once_and_nothing_is_lost() {
    let mut world = World::start(&OFTEN).await;
    let mut client = world.client().await;
    let configs = [&[("cleanup.policy", "compact")][..], &SMALL].concat();
    client.create_topic("t", 1, &configs).await.unwrap();
    let mut newest = BTreeMap::new();
    for i in 0..400i64 {
        let key = format!("k{}", i % 9);
        put(&mut client, "t", &key, &i.to_string()).await;
        newest.insert(key, (i, i.to_string()));
    }
    eventually(async || read(&mut client, "t").await.len() < 40).await;
    for restart in [false, true] {
        if restart {
            world.restart().await;
            client = world.client().await;
        }
        let found = read(&mut client, "t").await;
        assert!(found.is_sorted(), "offsets stay in order");
        let table: BTreeMap<_, _> = found
            .into_iter()
            .map(|(at, key, value)| (key, (at, value)))
            .collect();
        assert_eq!(table, newest, "restart: {restart}");
    }
}

#[tokio::test]
async fn the_policy_may_change_while_the_topic_is_in_use() {
    let world = World::start(&OFTEN).await;
    let mut client = world.client().await;
    client.create_topic("t", 1, &SMALL).await.unwrap();
    for i in 0..100 {
        put(&mut client, "t", "k", &i.to_string()).await;
    }
    assert_eq!(read(&mut client, "t").await.len(), 100);
    let policy = ("cleanup.policy", Some("compact"));
    let done = set(&mut client, (TOPIC, "t"), policy).await;
    assert_eq!(done.0, ErrorCode::None, "{}", done.1);
    let keyless = client.produce("t", 0, batch(&["no key"])).await;
    assert_eq!(
        ErrorCode::from_code(keyless.error_code),
        ErrorCode::InvalidRecord
    );
    let errors: Vec<_> = keyless
        .record_errors
        .iter()
        .map(|error| error.batch_index)
        .collect();
    assert_eq!(errors, [0]);
    eventually(async || read(&mut client, "t").await.len() < 20).await;
    assert_eq!(read(&mut client, "t").await.last().unwrap().2, "99");
}

#[tokio::test]
async fn the_cleaner_takes_over_what_is_set_while_it_waits() {
    let world = World::start(&[("log.cleaner.backoff.ms", "3600000")]).await;
    let mut client = world.client().await;
    let configs = [&[("cleanup.policy", "compact")][..], &SMALL].concat();
    client.create_topic("t", 1, &configs).await.unwrap();
    for i in 0..100 {
        put(&mut client, "t", "k", &i.to_string()).await;
    }
    assert_eq!(read(&mut client, "t").await.len(), 100, "it waits");
    let often = (OFTEN[0].0, Some(OFTEN[0].1));
    let done = set(&mut client, (BROKER, "1"), often).await;
    assert_eq!(done.0, ErrorCode::None, "{}", done.1);
    eventually(async || read(&mut client, "t").await.len() < 20).await;
}

/// So the time that a start takes depends on the number of groups, not on how often they committed.
#[tokio::test]
async fn committed_offsets_are_compacted_and_found_after_a_restart() {
    let mut world = World::start(&[
        OFTEN[0],
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.segment.bytes", "4096"),
    ])
    .await;
    let mut client = world.client_with_topic("t", 1).await;
    for offset in 0..400 {
        let committed = client.call(9, &commit_request("", -1, offset)).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    }
    let dir = world.dir.path().join("__consumer_offsets-0");
    eventually(async || {
        client.call(9, &commit_request("", -1, 400)).await;
        size_of_log(&dir) < 12_000
    })
    .await;
    world.restart().await;
    let mut client = world.client().await;
    let request = OffsetFetchRequest {
        group_id: "g".to_owned(),
        topics: None,
        ..Default::default()
    };
    let response = client.call(7, &request).await;
    assert_eq!(response.topics[0].partitions[0].committed_offset, 400);
}
