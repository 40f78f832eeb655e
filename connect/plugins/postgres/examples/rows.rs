//! Rows per second of one task: `cargo run --release -p flumen-connect-postgres --example rows --
//! postgres://user@host:port/database`
//!
//! Writes rows of five columns and about 100 bytes into the table `flumen_rows` (dropped before and
//! after), in transactions of several sizes: inserts by COPY, upserts of new keys, upserts of known
//! keys. Every transaction moves the offsets too; whether it waits for the disk is the server's
//! `fsync` and `synchronous_commit`. The clock runs while the task works, not while the next batch
//! is made.

#![expect(clippy::disallowed_methods, reason = "measures time and connects")]

use std::time::{Duration, Instant};

use flumen_connect::config::Props;
use flumen_connect::record::{Data, SinkBatch, SinkRecord, TopicPartition};
use flumen_connect::sink::{AssignedPartition, SinkConnector, SinkContext};
use flumen_connect::value::Value;
use flumen_connect_postgres::PostgresSink;
use tokio_util::sync::CancellationToken;

const TABLE: &str = "flumen_rows";
const ROWS: i64 = 200_000;

/// `{"id", "carrier", "hour", "flights", "delay"}`, as a JSON converter makes it.
fn record(offset: i64, id: i64) -> SinkRecord {
    let hour = format!("2013-01-{:02}T{:02}:00:00Z", id % 28 + 1, id % 24);
    let pairs = [
        ("id", Value::Int64(id)),
        (
            "carrier",
            Value::from(format!("carrier number {:0>32}", id % 1000)),
        ),
        ("hour", Value::from(hour)),
        ("flights", Value::Int64(offset)),
        ("delay", Value::Float64(id as f64 / 7.0)),
    ];
    let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value));
    SinkRecord {
        offset,
        timestamp: 0,
        key: Data::NULL,
        value: Data::schemaless(Value::Map(pairs.collect())),
        headers: Vec::new(),
    }
}

async fn measure(
    url: &str,
    mode: &str,
    rows: i64,
    again: bool,
) -> Result<f64, Box<dyn std::error::Error>> {
    let props = [
        ("connection.url", url),
        ("insert.mode", mode),
        ("pk.mode", "record_value"),
        ("pk.fields", "id"),
        ("auto.create", "true"),
        ("offsets.table", "flumen_rows_offsets"),
        ("column.types", "hour:timestamptz"),
    ];
    let props: Props = props
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let settings = PostgresSink
        .config()
        .settings(&props)
        .map_err(|e| format!("{e:?}"))?;
    let mut task = PostgresSink.task(&settings);
    let context = SinkContext {
        connector: TABLE.to_owned(),
        task: 0,
        owner: "example".to_owned(),
        stopping: CancellationToken::new(),
    };
    let partition = TopicPartition::new(TABLE, 0);
    let assigned = AssignedPartition {
        topic_partition: partition.clone(),
        topic_id: None,
        log_start_offset: 0,
        log_end_offset: ROWS * 2,
        group_offset: None,
    };
    let _ = task.open(context, &[assigned]).await?;
    let (mut measured, mut spent) = (0, Duration::ZERO);
    let rounds = if again { 2 } else { 1 };
    for round in 0..rounds {
        for start in (round * ROWS..(round + 1) * ROWS).step_by(usize::try_from(rows)?) {
            let end = (start + rows).min((round + 1) * ROWS);
            // Keys come scattered, as hashes do.
            let key = |offset: i64| (offset % ROWS) * 77_777 % ROWS;
            let batch = SinkBatch {
                topic_partition: partition.clone(),
                start_offset: start,
                next_offset: end,
                records: (start..end)
                    .map(|offset| record(offset, key(offset)))
                    .collect(),
            };
            let clock = Instant::now();
            let _ = task.write(&[batch]).await?;
            if round == rounds - 1 {
                spent += clock.elapsed();
                measured += end - start;
            }
        }
    }
    Ok(measured as f64 / spent.as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("which database? postgres://user@host:port/database")?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    drop(tokio::spawn(connection));
    println!("{ROWS} rows of 5 columns, one task, thousand rows a second by rows of a transaction");
    println!("{:<24}{:>8}{:>8}{:>8}{:>8}", "", 500, 2000, 5000, 20_000);
    for (what, mode, again) in [
        ("insert (COPY)", "insert", false),
        ("upsert, new keys", "upsert", false),
        ("upsert, known keys", "upsert", true),
    ] {
        print!("{what:<24}");
        for rows in [500, 2000, 5000, 20_000] {
            client
                .batch_execute(&format!("DROP TABLE IF EXISTS {TABLE}, {TABLE}_offsets"))
                .await?;
            print!("{:>8.0}", measure(&url, mode, rows, again).await? / 1000.0);
        }
        println!();
    }
    client
        .batch_execute(&format!("DROP TABLE IF EXISTS {TABLE}, {TABLE}_offsets"))
        .await?;
    Ok(())
}
