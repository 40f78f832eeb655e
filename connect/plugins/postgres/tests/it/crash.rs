//! The connection and the server die at every point of a transaction; the table has no key, so a
//! row written twice would show.

use std::sync::Arc;

use flumen_connect::error::TaskError;
use flumen_connect::record::SinkBatch;

use crate::harness::{self, numbers, open, write};
use crate::proxy::{Action, POINTS, Point, Proxy};
use crate::server::Server;

const ROWS: i64 = 50;

/// Every point with a cut; with a kill those where the server has something to lose.
fn crashes() -> impl Iterator<Item = (Point, Action)> {
    let kills = [
        Point::InCopy,
        Point::Commit,
        Point::Committing,
        Point::Committed,
    ];
    let cuts = POINTS.into_iter().map(|point| (point, Action::Cut));
    cuts.chain(kills.into_iter().map(|point| (point, Action::Kill)))
}

async fn start() -> Option<(Arc<Server>, Proxy)> {
    let server = Arc::new(Server::start_durable().await?);
    let sql = "CREATE TABLE flights (part int, n bigint, text text)";
    let _ = server.query(sql).await;
    let proxy = Proxy::start(&server).await;
    Some((server, proxy))
}

/// The next batch of both partitions.
fn batches(start: i64) -> [SinkBatch; 2] {
    [
        numbers(0, start, start + ROWS),
        numbers(1, start, start + ROWS),
    ]
}

/// Every row of both partitions below `end`, once, and the offsets beside them.
async fn check(server: &Server, end: i64, when: &str) {
    let sql = "SELECT part, count(*), count(DISTINCT n), min(n), max(n) FROM flights GROUP BY part ORDER BY part";
    let all = |part: i64| format!("{part}|{end}|{end}|0|{}", end - 1);
    assert_eq!(server.query(sql).await, [all(0), all(1)], "{when}");
    let offsets = server
        .query("SELECT next_offset FROM _connect_offsets ORDER BY part")
        .await;
    assert_eq!(offsets, [end.to_string(), end.to_string()], "{when}");
}

#[tokio::test]
async fn the_same_task_goes_on_after_a_cut_or_a_kill_at_every_point() {
    let Some((server, proxy)) = start().await else {
        return;
    };
    let mut task = harness::task(&proxy.host, &[]);
    let mut at = 0;
    for (point, action) in crashes() {
        let when = format!("{action:?} at {point:?}");
        // Opened again, so that it prepares its statements again and comes by every point.
        assert_eq!(open(&mut *task, "one", &[0, 1]).await, [at, at], "{when}");
        proxy.arm(point, action);
        let failed = task.write(&batches(at)).await.unwrap_err();
        assert!(
            matches!(failed, TaskError::Retry { .. }),
            "{when}: {failed}"
        );
        assert!(!proxy.is_armed(), "{when}");
        if action == Action::Kill {
            let gone = task.write(&batches(at)).await.unwrap_err();
            assert!(matches!(gone, TaskError::Retry { .. }), "{when}: {gone}");
            server.start_again().await;
        }
        let _ = write(&mut *task, &batches(at)).await.unwrap();
        at += ROWS;
        check(&server, at, &when).await;
        // And it is not confused about where it is.
        let _ = write(&mut *task, &batches(at)).await.unwrap();
        at += ROWS;
        check(&server, at, &when).await;
    }
}

#[tokio::test]
async fn a_new_task_begins_where_the_table_ends_after_a_crash_at_every_point() {
    let Some((server, proxy)) = start().await else {
        return;
    };
    let mut at = 0;
    let mut committed = Vec::new();
    for (point, action) in crashes() {
        let when = format!("{action:?} at {point:?}");
        let mut first = harness::task(&proxy.host, &[]);
        assert_eq!(
            open(&mut *first, "first", &[0, 1]).await,
            [at, at],
            "{when}"
        );
        proxy.arm(point, action);
        let _ = first.write(&batches(at)).await.unwrap_err();
        drop(first);
        if action == Action::Kill {
            server.start_again().await;
        }
        let mut second = harness::task(&proxy.host, &[]);
        let starts = open(&mut *second, "second", &[0, 1]).await;
        assert_eq!(starts[0], starts[1], "{when}");
        if starts[0] == at {
            let _ = write(&mut *second, &batches(at)).await.unwrap();
        } else {
            assert_eq!(starts[0], at + ROWS, "{when}");
            committed.push((point, action));
        }
        at += ROWS;
        check(&server, at, &when).await;
    }
    let sure = |point: &Point| !matches!(point, Point::Committing | Point::Committed);
    assert!(
        committed.iter().all(|(point, _)| !sure(point)),
        "{committed:?}"
    );
    assert!(
        committed.contains(&(Point::Committed, Action::Cut)),
        "{committed:?}"
    );
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_leaves_no_doubt() {
    let Some((server, proxy)) = start().await else {
        return;
    };
    let mut task = harness::task(&proxy.host, &[]);
    let mut at = 0;
    for point in [
        Point::Begin,
        Point::InCopy,
        Point::Commit,
        Point::Committing,
    ] {
        let when = format!("{point:?}");
        assert_eq!(open(&mut *task, "one", &[0, 1]).await, [at, at], "{when}");
        proxy.arm(point, Action::Stall);
        let batches = batches(at);
        tokio::select! {
            biased;
            written = task.write(&batches) => panic!("{written:?}"),
            () = proxy.acted.notified() => {}
        }
        let _ = write(&mut *task, &batches).await.unwrap();
        at += ROWS;
        check(&server, at, &when).await;
    }
}

#[tokio::test]
async fn an_unanswered_commit_that_is_still_at_work_is_waited_for() {
    let Some((server, proxy)) = start().await else {
        return;
    };
    // A commit that takes a while: its trigger waits until then.
    let function = "CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END'";
    let _ = server.query(function).await;
    let trigger = "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON flights DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.n % 50 = 0) EXECUTE FUNCTION doze()";
    let _ = server.query(trigger).await;
    let mut task = harness::task(&proxy.host, &[]);
    let _ = open(&mut *task, "one", &[0, 1]).await;
    proxy.arm(Point::Committing, Action::Cut);
    let cut = task.write(&batches(0)).await.unwrap_err();
    assert!(matches!(cut, TaskError::Retry { .. }), "{cut}");
    // At once, without the pause.
    let _ = task.write(&batches(0)).await.unwrap();
    check(&server, ROWS, "after the slow commit").await;
}

#[tokio::test]
async fn postgres_gone_for_a_while_is_waited_for() {
    let Some((server, proxy)) = start().await else {
        return;
    };
    let mut task = harness::task(&proxy.host, &[]);
    let _ = open(&mut *task, "one", &[0, 1]).await;
    let _ = write(&mut *task, &batches(0)).await.unwrap();
    server.crash();
    for _ in 0..5 {
        let gone = task.write(&batches(ROWS)).await.unwrap_err();
        assert!(
            matches!(&gone, TaskError::Retry { cause, .. } if cause.to_string().contains("connecting to Postgres at 127.0.0.1")
                || cause.to_string().contains("beginning a transaction")
                || cause.to_string().contains("setting up the session")),
            "{gone}"
        );
    }
    server.start_again().await;
    let _ = write(&mut *task, &batches(ROWS)).await.unwrap();
    check(&server, 2 * ROWS, "after the outage").await;
}
