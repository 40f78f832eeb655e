//! Rows that Postgres refuses, locks, and other passing trouble.

use flumen_connect::error::TaskError;
use flumen_connect::record::SinkBatch;

use crate::harness::{self, numbers, open, values, write};
use crate::server::Server;

/// Writes as the worker does with errors.tolerance=all: without the refused records, until it
/// works. The offsets refused, with the reasons.
async fn write_tolerant(
    task: &mut dyn flumen_connect::sink::SinkTask,
    mut batches: Vec<SinkBatch>,
) -> Vec<(i64, String)> {
    let mut dead = Vec::new();
    loop {
        match write(task, &batches).await {
            Ok(_) => return dead,
            Err(TaskError::Records(refused)) => {
                for record in refused.iter().rev() {
                    let gone = batches[record.batch].records.remove(record.record);
                    dead.push((gone.offset, record.reason.clone()));
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn bad_rows_are_found_by_halves_and_the_rest_is_written_once() {
    let Some(server) = Server::start().await else {
        return;
    };
    let sql = "CREATE TABLE flights (part int, n bigint UNIQUE CHECK (n NOT IN (17, 400, 401)), text varchar(12))";
    let _ = server.query(sql).await;
    let mut task = harness::task(&server.host(), &[]);
    let _ = open(&mut *task, "one", &[0, 1]).await;
    let mut first = numbers(0, 0, 500);
    first.records.push(harness::record(500, "", r#"{"n":3}"#));
    first.records.push(harness::record(
        501,
        "",
        r#"{"n":501,"text":"much too long for it"}"#,
    ));
    first
        .records
        .push(harness::record(502, "", r#"{"n":"many"}"#));
    first.next_offset = 503;
    let second = SinkBatch {
        records: vec![harness::record(0, "", r#"{"n":600,"part":1}"#)],
        ..numbers(1, 0, 1)
    };
    let mut dead = write_tolerant(&mut *task, vec![first, second]).await;
    dead.sort();
    let offsets: Vec<i64> = dead.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [17, 400, 401, 500, 501, 502]);
    for (at, words) in [
        (0, "violates check constraint"),
        (3, "Key (n)=(3) already exists"),
        (4, "value too long for type character varying(12)"),
        (
            5,
            "column n: STRING \"many\" does not fit a column of type int8",
        ),
    ] {
        assert!(dead[at].1.contains(words), "{}", dead[at].1);
    }
    assert_eq!(
        server
            .query("SELECT count(*), count(DISTINCT n) FROM flights")
            .await,
        ["498|498"]
    );
    let offsets = server
        .query("SELECT part, next_offset FROM _connect_offsets ORDER BY part")
        .await;
    assert_eq!(offsets, ["0|503", "1|1"]);
}

#[tokio::test]
async fn a_constraint_that_waits_for_the_commit_is_searched_too() {
    let Some(server) = Server::start().await else {
        return;
    };
    let _ = server
        .query("CREATE TABLE carriers (id text PRIMARY KEY)")
        .await;
    let _ = server.query("INSERT INTO carriers VALUES ('UA')").await;
    let sql = "CREATE TABLE flights (id int, carrier text REFERENCES carriers DEFERRABLE INITIALLY DEFERRED)";
    let _ = server.query(sql).await;
    let mut task = harness::task(&server.host(), &[]);
    let _ = open(&mut *task, "one", &[0]).await;
    let batch = values(
        0,
        &[
            r#"{"id":1,"carrier":"UA"}"#,
            r#"{"id":2,"carrier":"??"}"#,
            r#"{"id":3,"carrier":"UA"}"#,
        ],
    );
    let dead = write_tolerant(&mut *task, vec![batch]).await;
    assert_eq!(dead.len(), 1);
    assert!(
        dead[0].0 == 1 && dead[0].1.contains("is not present in table"),
        "{dead:?}"
    );
    assert_eq!(
        server.query("SELECT id FROM flights ORDER BY id").await,
        ["1", "3"]
    );
}

#[tokio::test]
async fn the_record_is_blamed_that_brought_the_value_not_the_last_of_its_key() {
    let Some(server) = Server::start().await else {
        return;
    };
    let _ = server
        .query("CREATE TABLE flights (id int PRIMARY KEY, a varchar(3), b int)")
        .await;
    let pairs = [
        ("insert.mode", "upsert"),
        ("pk.mode", "record_value"),
        ("pk.fields", "id"),
    ];
    let mut task = harness::task(&server.host(), &pairs);
    let _ = open(&mut *task, "one", &[0]).await;
    let batch = values(
        0,
        &[
            r#"{"id":1,"a":"too long"}"#,
            r#"{"id":1,"b":2}"#,
            r#"{"id":2,"a":"ok"}"#,
        ],
    );
    let dead = write_tolerant(&mut *task, vec![batch]).await;
    assert_eq!(
        dead.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(),
        [0],
        "{dead:?}"
    );
    assert_eq!(
        server.query("SELECT * FROM flights ORDER BY id").await,
        ["1|-|2", "2|ok|-"]
    );
}

#[tokio::test]
async fn a_lock_on_the_table_is_waited_for_and_tried_again() {
    let Some(server) = Server::start().await else {
        return;
    };
    let _ = server
        .query("CREATE TABLE flights (part int, n bigint, text text)")
        .await;
    let mut task = harness::task(&server.host(), &[("lock.timeout.ms", "100")]);
    let _ = open(&mut *task, "one", &[0]).await;
    let other = server.client().await;
    other
        .batch_execute("BEGIN; LOCK TABLE flights IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let locked = task.write(&[numbers(0, 0, 10)]).await.unwrap_err();
    assert!(
        matches!(&locked, TaskError::Retry { cause, .. } if cause.to_string().contains("lock timeout")),
        "{locked}"
    );
    other.batch_execute("COMMIT").await.unwrap();
    let _ = write(&mut *task, &[numbers(0, 0, 10)]).await.unwrap();
    assert_eq!(server.query("SELECT count(*) FROM flights").await, ["10"]);
}

#[tokio::test]
async fn a_missing_right_is_fatal_and_names_the_table() {
    let Some(server) = Server::start().await else {
        return;
    };
    let _ = server.query("CREATE TABLE flights (part int, n bigint, text text); CREATE ROLE ann LOGIN; GRANT CREATE ON SCHEMA public TO ann").await;
    let mut task = harness::task(&server.host(), &[("connection.user", "ann")]);
    let _ = open(&mut *task, "one", &[0]).await;
    let refused = write(&mut *task, &[numbers(0, 0, 1)]).await.unwrap_err();
    assert!(
        matches!(&refused, TaskError::Fatal(why) if why.to_string().contains("permission denied for table flights")),
        "{refused}"
    );
    // With the rights on the two tables, and none to make any, it works.
    let grant = "GRANT INSERT ON flights TO ann; REVOKE CREATE ON SCHEMA public FROM ann";
    let _ = server.query(grant).await;
    assert_eq!(open(&mut *task, "two", &[0]).await, [0]);
    let _ = write(&mut *task, &[numbers(0, 0, 1)]).await.unwrap();
}
