//! Our own client against the broker: what an application in Rust sees of the two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_client::{
    Admin, Assignor, Client, ClientConfig, ClientError, Compression, Consumer, ConsumerConfig,
    CooperativeStickyAssignor, Isolation, NewTopic, OffsetAndMetadata, Poll, Producer,
    ProducerConfig, ProducerRecord, RecordBlock, TopicPartition,
};

use tokio::sync::watch;

use crate::support::{PATIENCE, World};

const SECOND: Duration = Duration::from_secs(1);

async fn client(world: &World) -> Client {
    Client::connect(ClientConfig::new(&world.addr().to_string()))
        .await
        .unwrap()
}

/// A client, and a topic with so many partitions.
async fn client_with_topic(world: &World, topic: &str, partitions: i32) -> Client {
    let client = client(world).await;
    Admin::new(&client)
        .create_topic(&NewTopic::new(topic, partitions))
        .await
        .unwrap();
    client
}

fn all_of(topic: &str, partitions: i32) -> Vec<TopicPartition> {
    (0..partitions)
        .map(|partition| TopicPartition::new(topic, partition))
        .collect()
}

/// Reads by hand until so many records have come; values by partition.
async fn read(
    client: &Client,
    topic: &str,
    partitions: i32,
    count: usize,
) -> BTreeMap<i32, Vec<u32>> {
    let consumer = Consumer::new(client, ConsumerConfig::default())
        .await
        .unwrap();
    consumer.assign(all_of(topic, partitions)).await.unwrap();
    let mut values: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    let mut seen = 0;
    let reading = async {
        while seen < count {
            for record in consumer.poll(SECOND).await.unwrap() {
                values
                    .entry(record.partition)
                    .or_default()
                    .push(number(&record.value));
                seen += 1;
            }
        }
    };
    if tokio::time::timeout(PATIENCE, reading).await.is_err() {
        panic!("{seen} records of {count}: {values:?}");
    }
    values
}

fn number(value: &Option<Bytes>) -> u32 {
    std::str::from_utf8(value.as_ref().unwrap())
        .unwrap()
        .parse()
        .unwrap()
}

fn numbered(topic: &str, number: u32, partitions: u32) -> ProducerRecord {
    let partition = i32::try_from(number % partitions).unwrap();
    ProducerRecord::new(topic, number.to_string()).partition(partition)
}

/// What [`read`] gave must be every number once, in order; says where it first is not.
fn assert_once_and_in_order(read: &BTreeMap<i32, Vec<u32>>, count: u32, partitions: u32) {
    for partition in 0..partitions {
        let expected: Vec<u32> = (0..count)
            .filter(|number| number % partitions == partition)
            .collect();
        let found = &read[&i32::try_from(partition).unwrap()];
        let differs = |at: &usize| expected.get(*at) != found.get(*at);
        let Some(at) = (0..expected.len().max(found.len())).find(differs) else {
            continue;
        };
        let around = |list: &[u32]| {
            list[at.saturating_sub(5).min(list.len())..(at + 20).min(list.len())].to_vec()
        };
        panic!(
            "partition {partition}: {} of {}, first difference at {at}:\n expected {:?}\n found {:?}",
            found.len(),
            expected.len(),
            around(&expected),
            around(found),
        );
    }
}

#[tokio::test]
async fn records_come_back_as_they_were_sent_in_every_codec() {
    let world = World::start(&[]).await;
    let client = client_with_topic(&world, "t", 1).await;
    let first = TopicPartition::new("t", 0);
    let consumer = Consumer::new(&client, ConsumerConfig::default())
        .await
        .unwrap();
    consumer.assign(vec![first.clone()]).await.unwrap();
    for compression in Compression::ALL {
        let config = ProducerConfig {
            compression,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(&client, config).await.unwrap();
        let record = ProducerRecord {
            topic: "t".to_owned(),
            key: Some(Bytes::from_static(b"key")),
            value: None,
            headers: vec![
                ("a".to_owned(), Some(Bytes::from_static(b"1"))),
                ("a".to_owned(), None),
            ],
            timestamp: Some(77),
            ..ProducerRecord::default()
        };
        let metadata = producer.send(record).await.unwrap().await.unwrap();
        let mut block = RecordBlock::new(compression);
        (0..500_u32).for_each(|i| block.push(i.into(), None, Some(i.to_string().as_bytes()), &[]));
        producer.send_batch("t", 0, block).await.unwrap();
        producer.flush().await.unwrap();

        let mut records = Vec::new();
        while records.len() < 501 {
            records.extend(consumer.poll(SECOND).await.unwrap());
        }
        assert_eq!(records[0].offset, metadata.offset, "{compression:?}");
        assert_eq!((records[0].timestamp, &records[0].value), (77, &None));
        assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
        let headers: Vec<_> = records[0].headers.iter().collect();
        assert_eq!(headers, [(&b"a"[..], Some(&b"1"[..])), (&b"a"[..], None)]);
        let values: Vec<u32> = records[1..]
            .iter()
            .map(|record| number(&record.value))
            .collect();
        assert_eq!(values, (0..500).collect::<Vec<u32>>());
    }
    assert_eq!(consumer.position(&first).await, Ok(501 * 5));
}

#[tokio::test]
async fn offsets_are_found_by_time_and_at_both_ends() {
    let world = World::start(&[]).await;
    let client = client_with_topic(&world, "t", 1).await;
    let producer = Producer::new(&client, ProducerConfig::default())
        .await
        .unwrap();
    for timestamp in [1000, 2000, 3000] {
        let record = ProducerRecord {
            timestamp: Some(timestamp),
            ..ProducerRecord::new("t", "1")
        };
        producer.send(record).await.unwrap().await.unwrap();
    }
    let first = TopicPartition::new("t", 0);
    let consumer = Consumer::new(&client, ConsumerConfig::default())
        .await
        .unwrap();
    let at = |time| BTreeMap::from([(first.clone(), time)]);
    let found = consumer.offsets_for_times(&at(1500)).await.unwrap();
    assert_eq!((found[&first].offset, found[&first].timestamp), (1, 2000));
    assert_eq!(
        consumer.offsets_for_times(&at(3001)).await,
        Ok(BTreeMap::new())
    );
    let ends = consumer
        .end_offsets(std::slice::from_ref(&first))
        .await
        .unwrap();
    assert_eq!(ends[&first], 3);
    let starts = consumer
        .beginning_offsets(std::slice::from_ref(&first))
        .await
        .unwrap();
    assert_eq!(starts[&first], 0);
}

#[tokio::test]
async fn a_second_member_gets_its_share_and_commits_hold() {
    let world = World::start(&[]).await;
    let client = client_with_topic(&world, "t", 4).await;
    let config = ConsumerConfig {
        assignors: vec![Arc::new(CooperativeStickyAssignor) as Arc<dyn Assignor>],
        heartbeat_interval: Duration::from_millis(50),
        ..ConsumerConfig::group("g")
    };
    let one = Consumer::new(&client, config.clone()).await.unwrap();
    one.subscribe(&["t"]).await.unwrap();
    assert_eq!(
        one.poll_batches(PATIENCE).await,
        Ok(Poll::Assigned(all_of("t", 4)))
    );
    let committed = (TopicPartition::new("t", 3), OffsetAndMetadata::new(7));
    one.commit(std::slice::from_ref(&committed)).await.unwrap();

    let two = Consumer::new(&client, config).await.unwrap();
    two.subscribe(&["t"]).await.unwrap();
    let sharing = async {
        while one.assignment().len() != 2 || two.assignment().len() != 2 {
            let short = Duration::from_millis(50);
            let (at_one, _) = tokio::join!(one.poll_batches(short), two.poll_batches(short));
            if let Poll::Revoking(partitions) = at_one.unwrap() {
                assert_eq!(partitions.len(), 2, "only what moves is given back");
                one.rebalance_done();
            }
        }
    };
    tokio::time::timeout(PATIENCE, sharing)
        .await
        .expect("the group settles");
    let mut both = one.assignment();
    both.extend(two.assignment());
    both.sort();
    assert_eq!(both, all_of("t", 4));
    let found = two.committed(&all_of("t", 4)).await.unwrap();
    assert_eq!(found, BTreeMap::from([committed]));

    let group = Admin::new(&client).describe_group("g").await.unwrap();
    assert_eq!((group.state.as_str(), group.members.len()), ("Stable", 2));
    one.close().await;
    let taking_over = async {
        while two.assignment().len() != 4 {
            two.poll_batches(Duration::from_millis(50)).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, taking_over)
        .await
        .expect("the other takes over");
}

#[tokio::test]
async fn a_static_member_that_comes_back_keeps_its_partitions_and_fences_its_former_self() {
    let world = World::start(&[]).await;
    let client = client_with_topic(&world, "t", 2).await;
    let config = ConsumerConfig {
        group_instance_id: Some("i".to_owned()),
        heartbeat_interval: Duration::from_millis(50),
        ..ConsumerConfig::group("g")
    };
    let before = Consumer::new(&client, config.clone()).await.unwrap();
    before.subscribe(&["t"]).await.unwrap();
    assert_eq!(
        before.poll_batches(PATIENCE).await,
        Ok(Poll::Assigned(all_of("t", 2)))
    );
    let generation = before.group_metadata().generation_id;
    let after = Consumer::new(&client, config).await.unwrap();
    after.subscribe(&["t"]).await.unwrap();
    assert_eq!(
        after.poll_batches(PATIENCE).await,
        Ok(Poll::Assigned(all_of("t", 2)))
    );
    assert_eq!(
        after.group_metadata().generation_id,
        generation,
        "no rebalance"
    );
    assert_eq!(
        before.poll_batches(PATIENCE).await,
        Ok(Poll::Lost(all_of("t", 2)))
    );
    assert!(before.poll_batches(PATIENCE).await.unwrap_err().is_fenced());
}

#[tokio::test]
async fn only_what_was_committed_is_seen_and_only_once() {
    let world = World::start(&[]).await;
    let client = client_with_topic(&world, "t", 2).await;
    let config = ProducerConfig::transactional("tx");
    let producer = Producer::new(&client, config.clone()).await.unwrap();
    producer.init_transactions().await.unwrap();
    for number in 0..30 {
        producer.begin_transaction().unwrap();
        // Numbers that are divisible by 3 are aborted, some of them before they were sent.
        let record = numbered(
            "t",
            if number % 3 == 0 {
                1000 + number
            } else {
                number
            },
            2,
        );
        producer.send(record).await.unwrap();
        if number % 2 == 0 {
            producer.flush().await.unwrap();
        }
        match number % 3 {
            0 => producer.abort_transaction().await.unwrap(),
            _ => producer.commit_transaction().await.unwrap(),
        }
    }
    let values = read(&client, "t", 2, 20).await;
    for (partition, values) in values {
        let of = |number: &u32| {
            !number.is_multiple_of(3) && i32::try_from(number % 2).unwrap() == partition
        };
        assert_eq!(values, (0..30).filter(of).collect::<Vec<u32>>());
    }
    // Another producer under the same name ends the first one, and what it had open.
    producer.begin_transaction().unwrap();
    producer.send(numbered("t", 99, 2)).await.unwrap();
    producer.flush().await.unwrap();
    let next = Producer::new(&client, config).await.unwrap();
    next.init_transactions().await.unwrap();
    assert!(producer.commit_transaction().await.unwrap_err().is_fenced());
    let consumer = Consumer::new(&client, ConsumerConfig::default())
        .await
        .unwrap();
    let stable = consumer.end_offsets(&all_of("t", 2)).await.unwrap();
    let replicated = consumer
        .end_offsets_as(&all_of("t", 2), Isolation::ReadUncommitted)
        .await
        .unwrap();
    assert_eq!(stable, replicated, "nothing is left open");
}

/// Copies `from` to `to` in transactions, exactly once, for as long as it is let. Tells `in_midst` whenever it has sent the records
/// of a transaction and not yet ended it.
async fn copy(
    client: Client,
    index: usize,
    in_midst: Arc<watch::Sender<bool>>,
) -> Result<(), ClientError> {
    let producer = Producer::new(
        &client,
        ProducerConfig::transactional(format!("copy-{index}")),
    )
    .await?;
    producer.init_transactions().await?;
    let config = ConsumerConfig {
        group_instance_id: Some(format!("copy-{index}")),
        max_partition_fetch_bytes: 2_000,
        heartbeat_interval: Duration::from_millis(100),
        ..ConsumerConfig::group("copiers")
    };
    let consumer = Consumer::new(&client, config).await?;
    consumer.subscribe(&["from"]).await?;
    loop {
        let pieces = match consumer.poll_batches(SECOND).await? {
            Poll::Records(pieces) => pieces,
            Poll::Revoking(_) => {
                consumer.rebalance_done();
                continue;
            }
            _ => continue,
        };
        producer.begin_transaction()?;
        let copying = async {
            let mut offsets = Vec::new();
            for piece in &pieces {
                for record in piece.records(Default::default()) {
                    producer
                        .send(numbered("to", number(&record?.value), 4))
                        .await?;
                }
                let next = OffsetAndMetadata::new(piece.next_offset);
                offsets.push((piece.partition.clone(), next));
            }
            in_midst.send_replace(true);
            producer
                .send_offsets_to_transaction(&offsets, &consumer.group_metadata())
                .await?;
            producer.commit_transaction().await
        };
        match copying.await {
            Ok(()) => {}
            Err(error) if error.is_fenced() => return Err(error),
            // The group has moved on: nothing of this counts, and others have the partitions.
            Err(_) => {
                producer.abort_transaction().await?;
                return Ok(());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copiers_that_are_killed_within_their_transactions_copy_exactly_once() {
    let world = World::start(&[]).await;
    let client = client_with_topic(&world, "from", 4).await;
    Admin::new(&client)
        .create_topic(&NewTopic::new("to", 4))
        .await
        .unwrap();
    let in_midst: [Arc<watch::Sender<bool>>; 2] = Default::default();
    let start =
        |index: usize| tokio::spawn(copy(client.clone(), index, Arc::clone(&in_midst[index])));
    let mut copiers = [start(0), start(1)];
    let producer = Producer::new(&client, ProducerConfig::default())
        .await
        .unwrap();
    // Records flow until each copier was killed eight times in the midst of a transaction.
    let (mut count, mut kills) = (0, 0);
    while kills < 16 {
        for _ in 0..50 {
            producer.send(numbered("from", count, 4)).await.unwrap();
            count += 1;
        }
        producer.flush().await.unwrap();
        let index = kills % 2;
        if in_midst[index].send_replace(false) {
            copiers[index].abort();
            copiers[index] = start(index);
            kills += 1;
        }
        // One may have stopped by itself, when the group had moved on.
        for (index, copier) in copiers.iter_mut().enumerate() {
            if copier.is_finished() {
                *copier = start(index);
            }
        }
    }
    let keep_alive = async {
        let [first, second] = &mut copiers;
        loop {
            tokio::select! {
                biased;
                _ = &mut *first => *first = start(0),
                _ = &mut *second => *second = start(1),
            }
        }
    };
    let copied = tokio::select! {
        biased;
        values = read(&client, "to", 4, usize::try_from(count).unwrap()) => values,
        () = keep_alive => unreachable!("it never ends"),
    };
    assert_once_and_in_order(&copied, count, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_and_repeats_nothing() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let listener = format!("PLAINTEXT://{free}");
    let mut world = World::start(&[("listeners", listener.as_str())]).await;
    let client = client_with_topic(&world, "t", 4).await;
    let producer = Producer::new(&client, ProducerConfig::default())
        .await
        .unwrap();
    let (sent, mut progress) = watch::channel(0_u32);
    let (stop, stopped) = watch::channel(false);
    let sending = tokio::spawn(async move {
        let mut number = 0;
        while !*stopped.borrow() {
            for _ in 0..50 {
                producer.send(numbered("t", number, 4)).await.unwrap();
                number += 1;
            }
            producer.flush().await.unwrap();
            sent.send_replace(number);
        }
        producer.close().await.unwrap();
        number
    });
    for _ in 0..3 {
        let before = *progress.borrow();
        let moved = progress.wait_for(|sent| *sent >= before + 500);
        tokio::time::timeout(PATIENCE, moved)
            .await
            .expect("the producer goes on")
            .unwrap();
        world.restart().await;
    }
    stop.send(true).unwrap();
    let count = sending.await.unwrap();
    let values = read(&client, "t", 4, usize::try_from(count).unwrap()).await;
    assert_once_and_in_order(&values, count, 4);
}
