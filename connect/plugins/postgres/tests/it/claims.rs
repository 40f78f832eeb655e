//! Owners: who was overtaken, who stopped inside a transaction, what contradicts the topic.

use std::sync::Arc;
use std::time::Duration;

use flumen_connect::error::TaskError;
use flumen_connect::record::{TopicId, TopicPartition};
use flumen_connect::sink::{AssignedPartition, SinkConnector};
use flumen_connect_postgres::PostgresSink;

use crate::harness::{self, assigned, context, numbers, offsets, open, write};
use crate::proxy::{Action, Point, Proxy};
use crate::server::Server;

async fn start() -> Option<Arc<Server>> {
    let server = Arc::new(Server::start().await?);
    let _ = server
        .query("CREATE TABLE flights (part int, n bigint, text text)")
        .await;
    Some(server)
}

#[tokio::test]
async fn an_owner_that_was_overtaken_writes_nothing_and_is_told_by_whom() {
    let Some(server) = start().await else { return };
    let mut first = harness::task(&server.host(), &[]);
    assert_eq!(open(&mut *first, "worker a", &[0, 1]).await, [0, 0]);
    let _ = write(&mut *first, &[numbers(0, 0, 10), numbers(1, 0, 5)])
        .await
        .unwrap();
    let mut second = harness::task(&server.host(), &[]);
    assert_eq!(open(&mut *second, "worker b", &[0]).await, [10]);
    let fenced = first
        .write(&[numbers(0, 10, 20), numbers(1, 5, 7)])
        .await
        .unwrap_err();
    assert!(
        matches!(&fenced, TaskError::Fenced(why) if why.contains("partition flights-0 of sink to-postgres is owned by worker b since")),
        "{fenced}"
    );
    // All or nothing; and what nobody took away is still its own.
    assert_eq!(server.query("SELECT count(*) FROM flights").await, ["15"]);
    let _ = write(&mut *first, &[numbers(1, 5, 7)]).await.unwrap();
    let _ = write(&mut *second, &[numbers(0, 10, 20)]).await.unwrap();
    assert_eq!(
        server
            .query("SELECT count(*), count(DISTINCT (part, n)) FROM flights")
            .await,
        ["27|27"]
    );
}

#[tokio::test]
async fn a_successor_does_not_wait_for_an_owner_that_stopped_inside_its_transaction() {
    let Some(server) = start().await else { return };
    let proxy = Proxy::start(&server).await;
    let mut at = 0;
    for point in [Point::Copy, Point::InCopy, Point::Commit] {
        let mut zombie = harness::task(&proxy.host, &[]);
        assert_eq!(open(&mut *zombie, "zombie", &[0]).await, [at]);
        proxy.arm(point, Action::Stall);
        let batch = [numbers(0, at, at + 10)];
        let mut successor = harness::task(&server.host(), &[]);
        {
            let mut writing = zombie.write(&batch);
            tokio::select! {
                biased;
                written = &mut writing => panic!("{written:?}"),
                () = proxy.acted.notified() => {}
            }
            // Well below lock.timeout.ms and idle.in.transaction.timeout.ms, which are 10 s.
            let opening = open(&mut *successor, "successor", &[0]);
            let opened = tokio::time::timeout(Duration::from_secs(8), opening).await;
            assert_eq!(opened.expect("does not wait"), [at], "{point:?}");
            let next = [numbers(0, at, at + 7)];
            let _ = write(&mut *successor, &next).await.unwrap();
            let woken = writing.await.unwrap_err();
            assert!(
                matches!(woken, TaskError::Retry { .. }),
                "{point:?}: {woken}"
            );
        }
        let fenced = write(&mut *zombie, &batch).await.unwrap_err();
        assert!(
            matches!(&fenced, TaskError::Fenced(why) if why.contains("owned by successor")),
            "{point:?}: {fenced}"
        );
        at += 7;
        let rows = server
            .query("SELECT count(*), count(DISTINCT n), max(n) FROM flights")
            .await;
        assert_eq!(rows, [format!("{at}|{at}|{}", at - 1)], "{point:?}");
    }
}

#[tokio::test]
async fn a_target_that_contradicts_the_topic_stops_the_task() {
    let Some(server) = start().await else { return };
    let mut task = harness::task(&server.host(), &[]);
    let _ = open(&mut *task, "one", &[0]).await;
    let _ = write(&mut *task, &[numbers(0, 0, 10)]).await.unwrap();
    let mut refuse = async |partition: AssignedPartition| {
        let refused = task.open(context("two"), &[partition]).await.unwrap_err();
        assert!(matches!(refused, TaskError::Fatal(_)), "{refused}");
        refused.to_string()
    };
    let short = AssignedPartition {
        log_end_offset: 9,
        ..assigned(0)
    };
    assert!(
        refuse(short)
            .await
            .contains("holds rows up to offset 10, the topic ends at 9")
    );
    let other = AssignedPartition {
        topic_id: Some(TopicId([1; 16])),
        ..assigned(0)
    };
    assert!(
        refuse(other.clone())
            .await
            .contains("the topic was deleted and made again")
    );
    // Nothing was claimed by these.
    let owners = server
        .query("SELECT owner, next_offset FROM _connect_offsets")
        .await;
    assert_eq!(owners, ["one|10"]);
    // Told to begin anew, it takes the new topic.
    let settings = harness::settings(&server.host(), &[]);
    let forget = [(TopicPartition::new("flights", 0), None)].into();
    PostgresSink
        .alter_offsets(&settings, "to-postgres", &forget)
        .await
        .unwrap();
    let starts = task.open(context("three"), &[other]).await.unwrap();
    assert_eq!(offsets(&starts), [0]);
}

#[tokio::test]
async fn offsets_set_from_outside_are_where_the_next_owner_begins_and_fence_the_last() {
    let Some(server) = start().await else { return };
    let settings = harness::settings(&server.host(), &[]);
    let alter = async |offset: Option<i64>| {
        let offsets = [(TopicPartition::new("flights", 0), offset)].into();
        PostgresSink
            .alter_offsets(&settings, "to-postgres", &offsets)
            .await
            .unwrap();
    };
    alter(Some(5)).await;
    let mut task = harness::task(&server.host(), &[]);
    assert_eq!(open(&mut *task, "one", &[0]).await, [5]);
    alter(Some(5)).await;
    let fenced = task.write(&[numbers(0, 5, 6)]).await.unwrap_err();
    assert!(
        matches!(&fenced, TaskError::Fenced(why) if why.contains("altered over REST")),
        "{fenced}"
    );
    // A row that is made again is above what earlier owners hold, though it begins where they do.
    let mut zombie = harness::task(&server.host(), &[]);
    let _ = open(&mut *zombie, "zombie", &[0]).await;
    alter(None).await;
    let hint = AssignedPartition {
        group_offset: Some(5),
        ..assigned(0)
    };
    let starts = task.open(context("two"), &[hint]).await.unwrap();
    assert_eq!(offsets(&starts), [5]);
    let fenced = zombie.write(&[numbers(0, 5, 6)]).await.unwrap_err();
    assert!(
        matches!(&fenced, TaskError::Fenced(why) if why.contains("owned by two")),
        "{fenced}"
    );
    let _ = write(&mut *task, &[numbers(0, 5, 6)]).await.unwrap();
    assert_eq!(server.query("SELECT n FROM flights").await, ["5"]);
}

#[tokio::test]
async fn a_database_that_went_back_is_noticed() {
    let Some(server) = start().await else { return };
    let proxy = Proxy::start(&server).await;
    let mut task = harness::task(&proxy.host, &[]);
    let _ = open(&mut *task, "one", &[0]).await;
    let _ = write(&mut *task, &[numbers(0, 0, 10)]).await.unwrap();
    // A failover to a copy that lagged by one transaction.
    proxy.arm(Point::Begin, Action::Cut);
    let _ = task.write(&[numbers(0, 10, 20)]).await.unwrap_err();
    let _ = server
        .query("DELETE FROM flights WHERE n >= 5; UPDATE _connect_offsets SET next_offset = 5")
        .await;
    let back = write(&mut *task, &[numbers(0, 10, 20)]).await.unwrap_err();
    assert!(
        matches!(&back, TaskError::Fatal(why) if why.to_string().contains("went back")),
        "{back}"
    );
    assert_eq!(open(&mut *task, "one", &[0]).await, [5]);
    let _ = write(&mut *task, &[numbers(0, 5, 20)]).await.unwrap();
    assert_eq!(
        server
            .query("SELECT count(*), count(DISTINCT n) FROM flights")
            .await,
        ["20|20"]
    );
}
