//! Insert, upsert, delete, and tables that are made.

use std::sync::Arc;

use flumen_connect::config::{ConfigDef, Finding};
use flumen_connect::error::TaskError;
use flumen_connect::sink::SinkConnector;
use flumen_connect_postgres::PostgresSink;

use crate::harness::{self, keyed, numbers, open, values, write};
use crate::server::Server;

const UPSERT: [(&str, &str); 3] = [
    ("insert.mode", "upsert"),
    ("pk.mode", "record_value"),
    ("pk.fields", "id"),
];
const BY_KEY: [(&str, &str); 5] = [
    ("insert.mode", "upsert"),
    ("pk.mode", "record_key"),
    ("pk.fields", "id"),
    ("delete.enabled", "true"),
    ("auto.create", "true"),
];

/// Opens a task and writes batches one after the other; the error of the last.
async fn run(
    server: &Server,
    pairs: &[(&str, &str)],
    batches: &[&[&str]],
) -> Result<(), TaskError> {
    let mut task = harness::task(&server.host(), pairs);
    let mut at = open(&mut *task, "one", &[0]).await[0];
    for batch in batches {
        let batch = values(at, batch);
        at = batch.next_offset;
        let _ = write(&mut *task, &[batch]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn inserts_add_rows_and_leave_defaults_alone() {
    let Some(server) = Server::start().await else {
        return;
    };
    let sql = "CREATE TABLE flights (no serial, id int, note text DEFAULT 'none', twice int GENERATED ALWAYS AS (id * 2) STORED)";
    let _ = server.query(sql).await;
    let batches: [&[&str]; 2] = [
        &[
            r#"{"id":1}"#,
            r#"{"id":1,"note":"a"}"#,
            r#"{"note":null,"id":2}"#,
        ],
        &[r#"{"id":1}"#],
    ];
    run(&server, &[], &batches).await.unwrap();
    let rows = server
        .query("SELECT id, note, twice FROM flights ORDER BY no")
        .await;
    let mut expected = vec!["1|none|2", "1|a|2", "2|-|4", "1|none|2"];
    assert_eq!(rows[3], expected.pop().unwrap());
    assert_eq!(sorted(&rows[..3]), sorted(&expected));
}

fn sorted<T: ToString>(rows: &[T]) -> Vec<String> {
    let mut rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn upserts_replace_by_key_and_keep_what_a_record_does_not_name() {
    let Some(server) = Server::start().await else {
        return;
    };
    let _ = server
        .query("CREATE TABLE flights (id int PRIMARY KEY, a text, b text)")
        .await;
    let batches: [&[&str]; 2] = [
        &[
            r#"{"id":1,"a":"x","b":"y"}"#,
            r#"{"id":2,"a":"x"}"#,
            r#"{"id":2,"b":"z"}"#,
        ],
        &[
            r#"{"id":1,"b":null}"#,
            r#"{"id":3}"#,
            r#"{"id":2,"a":"last"}"#,
        ],
    ];
    run(&server, &UPSERT, &batches).await.unwrap();
    let rows = server.query("SELECT * FROM flights ORDER BY id").await;
    assert_eq!(rows, ["1|x|-", "2|last|z", "3|-|-"]);
}

#[tokio::test]
async fn tombstones_delete_by_the_records_key() {
    let Some(server) = Server::start().await else {
        return;
    };
    let mut task = harness::task(&server.host(), &BY_KEY);
    let _ = open(&mut *task, "one", &[0]).await;
    let first = keyed(
        0,
        &[
            ("1", r#"{"a":1}"#),
            ("2", r#"{"a":2}"#),
            ("3", r#"{"a":3,"b":"x"}"#),
        ],
    );
    let _ = write(&mut *task, &[first]).await.unwrap();
    let second = keyed(
        3,
        &[
            ("1", ""),
            ("2", ""),
            ("2", r#"{"b":"again"}"#),
            ("3", r#"{"a":4}"#),
            ("9", ""),
        ],
    );
    let _ = write(&mut *task, &[second]).await.unwrap();
    let rows = server
        .query("SELECT id, a, b FROM flights ORDER BY id")
        .await;
    assert_eq!(rows, ["2|-|again", "3|4|x"]);
}

#[tokio::test]
async fn keys_that_only_postgres_knows_to_be_equal_are_one_row() {
    let Some(server) = Server::start().await else {
        return;
    };
    let _ = server
        .query("CREATE TABLE flights (id numeric PRIMARY KEY, a int)")
        .await;
    let batch: &[&str] = &[
        r#"{"id":"1.0","a":1}"#,
        r#"{"id":"1.00","a":2}"#,
        r#"{"id":2,"a":3}"#,
    ];
    run(&server, &UPSERT, &[batch]).await.unwrap();
    let rows = server
        .query("SELECT id = 1, a FROM flights ORDER BY id")
        .await;
    assert_eq!(rows, ["t|2", "f|3"]);
}

#[tokio::test]
async fn a_missing_table_is_made_where_that_is_wanted() {
    let Some(server) = Server::start().await else {
        return;
    };
    let pairs = [
        ("auto.create", "true"),
        ("column.types", "hour:timestamptz,flights:bigint"),
        ("pk.mode", "record_value"),
        ("pk.fields", "carrier,hour"),
        ("insert.mode", "upsert"),
        ("table.name.format", "sales.delays_of_${topic}"),
    ];
    let row = r#"{"carrier":"UA","hour":"2013-01-01T05:00:00Z","flights":3,"mean":0.5,"tags":[1]}"#;
    let none = run(&server, &pairs, &[&[row]]).await.unwrap_err();
    assert!(
        none.to_string().contains("schema \"sales\" does not exist"),
        "{none}"
    );
    let _ = server.query("CREATE SCHEMA sales").await;
    run(&server, &pairs, &[&[row], &[&row.replace("0.5", "0.75")]])
        .await
        .unwrap();
    let rows = server.query("SELECT * FROM sales.delays_of_flights").await;
    assert_eq!(
        rows,
        ["2013-01-01 05:00:00+00|UA|3|0.75|[1]"]
            .map(|row| row.replace("2013-01-01 05:00:00+00|UA", "UA|2013-01-01 05:00:00+00"))
    );
    let missing = run(&server, &[], &[&[row]]).await.unwrap_err();
    assert_eq!(
        missing.to_string(),
        "table \"flights\" does not exist; create it, or set auto.create=true"
    );
}

#[tokio::test]
async fn two_tasks_that_make_the_same_table_at_once_agree() {
    let Some(server) = Server::start().await else {
        return;
    };
    let server = Arc::new(server);
    let tasks = (0..4).map(|partition| {
        let host = server.host();
        tokio::spawn(async move {
            let mut task = harness::task(&host, &[("auto.create", "true")]);
            let _ = open(&mut *task, "one", &[partition]).await;
            write(&mut *task, &[numbers(partition, 0, 10)])
                .await
                .map(drop)
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    assert_eq!(server.query("SELECT count(*) FROM flights").await, ["40"]);
}

#[tokio::test]
async fn a_column_that_is_added_is_seen_and_one_that_is_gone_is_named() {
    let Some(server) = Server::start().await else {
        return;
    };
    let _ = server.query("CREATE TABLE flights (id int)").await;
    let mut task = harness::task(&server.host(), &[]);
    let _ = open(&mut *task, "one", &[0]).await;
    let _ = write(&mut *task, &[values(0, &[r#"{"id":1}"#])])
        .await
        .unwrap();
    let with_note = [values(1, &[r#"{"id":2,"note":"x"}"#])];
    let unknown = write(&mut *task, &with_note).await.unwrap_err();
    let TaskError::Records(records) = &unknown else {
        panic!("{unknown}")
    };
    assert_eq!(records[0].reason, "table \"flights\" has no column note");
    let _ = server
        .query("ALTER TABLE flights ADD COLUMN note text, ALTER COLUMN id TYPE bigint")
        .await;
    let _ = write(&mut *task, &with_note).await.unwrap();
    let _ = server.query("ALTER TABLE flights DROP COLUMN note").await;
    let gone = write(&mut *task, &[values(2, &[r#"{"id":3,"note":"y"}"#])])
        .await
        .unwrap_err();
    assert!(gone.to_string().contains("has no column note"), "{gone}");
    assert_eq!(server.query("SELECT * FROM flights").await, ["1", "2"]);
}

#[tokio::test]
async fn a_table_that_is_dropped_meanwhile_is_made_again_or_missed() {
    let Some(server) = Server::start().await else {
        return;
    };
    let mut task = harness::task(&server.host(), &[("auto.create", "true")]);
    let _ = open(&mut *task, "one", &[0]).await;
    let _ = write(&mut *task, &[numbers(0, 0, 5)]).await.unwrap();
    let _ = server.query("DROP TABLE flights").await;
    let _ = write(&mut *task, &[numbers(0, 5, 8)]).await.unwrap();
    assert_eq!(server.query("SELECT count(*) FROM flights").await, ["3"]);
    let mut task = harness::task(&server.host(), &[]);
    let _ = open(&mut *task, "two", &[0]).await;
    let _ = write(&mut *task, &[numbers(0, 8, 9)]).await.unwrap();
    let _ = server.query("DROP TABLE flights").await;
    let missed = write(&mut *task, &[numbers(0, 9, 10)]).await.unwrap_err();
    assert!(
        matches!(&missed, TaskError::Fatal(why) if why.to_string().contains("does not exist")),
        "{missed}"
    );
}

#[tokio::test]
async fn an_upsert_without_an_index_on_its_key_says_what_is_missing() {
    let Some(server) = Server::start().await else {
        return;
    };
    let _ = server.query("CREATE TABLE flights (id int, a int)").await;
    let error = run(&server, &UPSERT, &[&[r#"{"id":1}"#]])
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, TaskError::Fatal(_))
            && text.contains("needs a primary key or unique index"),
        "{text}"
    );
}

#[tokio::test]
async fn validation_looks_at_the_database_and_hides_the_password() {
    let Some(server) = Server::start().await else {
        return;
    };
    let validate = async |pairs: &[(&str, &str)]| {
        let findings = PostgresSink
            .validate(&harness::settings(&server.host(), pairs))
            .await;
        let severity = |finding: &Finding| {
            format!(
                "{} {}",
                if finding.is_error() {
                    "error"
                } else {
                    "warning"
                },
                finding.message
            )
        };
        findings.iter().map(severity).collect::<Vec<_>>()
    };
    assert_eq!(validate(&[]).await, [""; 0]);
    let missing = validate(&[("connection.database", "nowhere")]).await;
    assert!(
        missing[0].starts_with("error") && missing[0].contains("\"nowhere\" does not exist"),
        "{missing:?}"
    );
    let away = validate(&[("connection.host", "/nowhere")]).await;
    assert!(
        away[0].starts_with("warning connecting to Postgres at /nowhere:5432"),
        "{away:?}"
    );
    let def: ConfigDef = PostgresSink.config();
    let props = [("connection.password".to_owned(), "hush".to_owned())].into();
    assert_eq!(def.redacted(&props)["connection.password"], "[hidden]");
}
