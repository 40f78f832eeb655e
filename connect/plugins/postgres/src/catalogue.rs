//! The tables of the target: looked up once, made where they are missing.
//!
//! Owns the tables known so far. `sink.rs` asks for one before it opens a transaction; on any doubt
//! about a table it calls [`Catalogue::forget`].

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_connect::error::TaskError;
use flumen_connect::record::SinkRecord;
use tokio_postgres::Client;

use crate::create::create_table;
use crate::encode::Encoding;
use crate::failure::task_error;
use crate::options::Options;
use crate::table::{Column, Table, table_name};

/// What is known of the target's tables.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    by_topic: BTreeMap<String, Arc<Table>>,
}

impl Catalogue {
    /// Forgets all tables: they are looked up again.
    pub(crate) fn forget(&mut self) {
        self.by_topic.clear();
    }

    /// The table of a topic; made from `records` when it is missing and that is wanted.
    ///
    /// Made in its own transaction, before any row is written: a crash leaves an empty table at
    /// worst.
    /// # Errors
    /// [`TaskError::Fatal`]: there is none and it may not be made. [`TaskError::Retry`]: Postgres
    /// is not to be had.
    pub(crate) async fn table<'a>(
        &mut self,
        client: &Client,
        options: &Options,
        topic: &str,
        records: impl Iterator<Item = &'a SinkRecord>,
    ) -> Result<Arc<Table>, TaskError> {
        if let Some(table) = self.by_topic.get(topic) {
            return Ok(Arc::clone(table));
        }
        let name = table_name(&options.table_name_format, topic);
        let mut columns = columns(client, &name).await?;
        if columns.is_empty() {
            if !options.auto_create {
                return Err(TaskError::fatal(format!(
                    "table {name} does not exist; create it, or set auto.create=true"
                )));
            }
            let sql = create_table(options, &name, records).map_err(TaskError::fatal)?;
            create(client, &name, &sql).await?;
            columns = self::columns(client, &name).await?;
        }
        let table = Arc::new(Table { name, columns });
        let _ = self.by_topic.insert(topic.to_owned(), Arc::clone(&table));
        Ok(table)
    }
}

/// Runs a `CREATE TABLE IF NOT EXISTS`, if the table is not there. One at a time by an advisory
/// lock: `IF NOT EXISTS` alone lets two collide in the catalogue, and asks for the right to create
/// even where there is nothing to do.
pub(crate) async fn create(client: &Client, name: &str, sql: &str) -> Result<(), TaskError> {
    let doing = |e: &tokio_postgres::Error| task_error(&format!("making table {name}"), e);
    let exists = "SELECT to_regclass($1) IS NOT NULL";
    if client
        .query_one(exists, &[&name])
        .await
        .map_err(|e| doing(&e))?
        .get(0)
    {
        return Ok(());
    }
    let made = async {
        client.batch_execute("BEGIN").await?;
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('flumen-connect ' || $1, 0))";
        let _ = client.execute(lock, &[&name]).await?;
        client.batch_execute(sql).await?;
        client.batch_execute("COMMIT").await
    };
    if let Err(e) = made.await {
        let _ = client.batch_execute("ROLLBACK").await;
        return Err(doing(&e));
    }
    tracing::info!("made a table: {sql}");
    Ok(())
}

/// The columns that can be written; none: there is no such table.
async fn columns(client: &Client, name: &str) -> Result<Vec<Column>, TaskError> {
    let sql = "SELECT a.attname::text, a.atttypid, t.typcategory = 'A', format_type(a.atttypid, a.atttypmod) \
               FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
               WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
               ORDER BY a.attnum";
    let rows = client.query(sql, &[&name]).await;
    let rows = rows.map_err(|e| task_error(&format!("looking up table {name}"), &e))?;
    let column = |row: &tokio_postgres::Row| Column {
        name: row.get(0),
        encoding: Encoding::of(row.get(1), row.get(2)),
        sql_type: row.get(3),
    };
    Ok(rows.iter().map(column).collect())
}
