//! Writes records into tables, inside the transaction that `sink.rs` opened.
//!
//! Owns the tables and statements known so far. COPY in binary where rows are only added, arrays through `unnest` where they replace others. When Postgres refuses
//! rows, [`Writer::offenders`] finds which: by halves, under savepoints, in a transaction that is rolled back.

use std::collections::BTreeMap;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use flumen_connect::record::SinkRecord;
use flumen_connect::value::Value;
use futures_util::SinkExt as _;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Client, Statement};

use crate::encode::Encoding;
use crate::options::{InsertMode, Options};
use crate::session::{Class, class, message};
use crate::table::{Column, Row, Table, create_table, table_name};

/// Rows of one `unnest`: beyond it the arrays cost more than they save.
const UNNEST_ROWS: usize = 10_000;
/// Bytes of one message of COPY.
const COPY_BYTES: usize = 256 * 1024;
/// Rows refused in one batch, after which no more are looked for.
const OFFENDERS_MAX: usize = 1000;

/// A record, with the topic that decides its table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) topic: &'a str,
    pub(crate) record: &'a SinkRecord,
}

/// Why records were not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// These items, by their index, and why.
    Rows(Vec<(usize, String)>),
    /// Postgres says no; its class tells what follows.
    Postgres(String, tokio_postgres::Error),
    /// The table is not there or does not fit.
    Table(String),
}

fn postgres(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> WriteError {
    let doing = doing.into();
    move |e| WriteError::Postgres(doing, e)
}

/// What is known of the target.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    tables: BTreeMap<String, Table>,
    statements: BTreeMap<String, Statement>,
}

impl Writer {
    /// Forgets tables and statements: after a rollback (a table may be gone again) and on a new connection.
    pub(crate) fn forget(&mut self) {
        self.tables.clear();
        self.statements.clear();
    }

    /// Writes all items, in the open transaction.
    pub(crate) async fn write(
        &mut self,
        client: &Client,
        options: &Options,
        items: &[Item<'_>],
    ) -> Result<(), WriteError> {
        let mut by_topic: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, item) in items.iter().enumerate() {
            by_topic.entry(item.topic).or_default().push(at);
        }
        for (topic, at) in by_topic {
            let records: Vec<&SinkRecord> = at.iter().map(|at| items[*at].record).collect();
            let table = self.table(client, options, topic, &records).await?;
            let (mut rows, mut refused) = (Vec::with_capacity(at.len()), Vec::new());
            for at in at {
                match table.row(options, at, items[at].record) {
                    Ok(row) => rows.push(row),
                    Err(why) => refused.push((at, why)),
                }
            }
            if !refused.is_empty() {
                return Err(WriteError::Rows(refused));
            }
            match options.insert_mode {
                InsertMode::Insert => self.insert(client, &table, &rows, &[]).await?,
                InsertMode::Upsert => {
                    self.upsert(client, &table, &table.key_columns(options), rows)
                        .await?
                }
            }
        }
        Ok(())
    }

    /// The table of a topic; made when it is missing and that is wanted.
    async fn table(
        &mut self,
        client: &Client,
        options: &Options,
        topic: &str,
        records: &[&SinkRecord],
    ) -> Result<Table, WriteError> {
        if let Some(table) = self.tables.get(topic) {
            return Ok(table.clone());
        }
        let name = table_name(&options.table_name_format, topic);
        let mut columns = columns(client, &name).await?;
        if columns.is_empty() {
            if !options.auto_create {
                return Err(WriteError::Table(format!(
                    "table {name} does not exist; create it, or set auto.create=true"
                )));
            }
            let sql = create_table(options, &name, records).map_err(WriteError::Table)?;
            client
                .batch_execute(&sql)
                .await
                .map_err(postgres(format!("making table {name}")))?;
            tracing::info!("made a table: {sql}");
            columns = self::columns(client, &name).await?;
        }
        let table = Table { name, columns };
        if let Some(missing) = options
            .pk_fields
            .iter()
            .find(|key| !table.columns.iter().any(|column| column.name == **key))
        {
            return Err(WriteError::Table(format!(
                "table {} has no column {missing}, which pk.fields names",
                table.name
            )));
        }
        let _ = self.tables.insert(topic.to_owned(), table.clone());
        Ok(table)
    }

    /// Adds rows, or replaces those of the same `key`; rows that set the same columns go together.
    async fn insert(
        &mut self,
        client: &Client,
        table: &Table,
        rows: &[Row<'_>],
        key: &[usize],
    ) -> Result<(), WriteError> {
        let mut groups: Vec<(Vec<usize>, Vec<&Row<'_>>)> = Vec::new();
        for row in rows {
            let same = |columns: &[usize]| {
                columns.len() == row.values.iter().flatten().count()
                    && columns.iter().all(|index| row.values[*index].is_some())
            };
            match groups.iter_mut().find(|(columns, _)| same(columns)) {
                Some((_, group)) => group.push(row),
                None => groups.push((
                    (0..row.values.len())
                        .filter(|index| row.values[*index].is_some())
                        .collect(),
                    vec![row],
                )),
            }
        }
        for (columns, rows) in groups {
            match table.copy(&columns).filter(|_| key.is_empty()) {
                Some(sql) => copy(client, table, &sql, &columns, &rows).await?,
                None => {
                    let sql = table.insert(&columns, key);
                    for rows in rows.chunks(UNNEST_ROWS) {
                        self.run(client, table, &sql, &columns, rows).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The net effect per key: the last record wins, fields it does not name stay as an earlier one of the batch set them. Rows are sorted by key, so that two
    /// tasks that touch the same rows do not deadlock.
    async fn upsert(
        &mut self,
        client: &Client,
        table: &Table,
        key: &[usize],
        rows: Vec<Row<'_>>,
    ) -> Result<(), WriteError> {
        let mut merged: BTreeMap<Vec<u8>, (Row<'_>, bool)> = BTreeMap::new();
        let mut refused = Vec::new();
        let mut bytes = BytesMut::new();
        for row in rows {
            bytes.clear();
            let put = key.iter().try_for_each(|index| {
                table.columns[*index]
                    .encoding
                    .put(row.values[*index].unwrap_or(&Value::Null), &mut bytes)
            });
            if let Err(why) = put {
                refused.push((row.at, why));
                continue;
            }
            match merged.get_mut(&bytes[..]) {
                None => {
                    let replaces = row.delete;
                    let _ = merged.insert(bytes.to_vec(), (row, replaces));
                }
                Some((known, replaces)) if row.delete || known.delete => {
                    *replaces = true;
                    *known = row;
                }
                Some((known, _)) => {
                    for (known, newer) in known.values.iter_mut().zip(&row.values) {
                        *known = newer.or(*known);
                    }
                    known.at = row.at;
                }
            }
        }
        if !refused.is_empty() {
            return Err(WriteError::Rows(refused));
        }
        let deleted: Vec<&Row<'_>> = merged
            .values()
            .filter(|(_, replaces)| *replaces)
            .map(|(row, _)| row)
            .collect();
        if !deleted.is_empty() {
            self.run(client, table, &table.delete(key), key, &deleted)
                .await?;
        }
        let kept: Vec<Row<'_>> = merged
            .into_values()
            .map(|(row, _)| row)
            .filter(|row| !row.delete)
            .collect();
        self.insert(client, table, &kept, key).await
    }

    /// Runs a statement whose parameters are one array per column.
    async fn run(
        &mut self,
        client: &Client,
        table: &Table,
        sql: &str,
        columns: &[usize],
        rows: &[&Row<'_>],
    ) -> Result<(), WriteError> {
        let doing = || postgres(format!("writing table {}", table.name));
        let arrays = arrays(table, columns, rows).map_err(WriteError::Rows)?;
        let statement = match self.statements.get(sql) {
            Some(statement) => statement.clone(),
            None => {
                let statement = client.prepare(sql).await.map_err(doing())?;
                let _ = self.statements.insert(sql.to_owned(), statement.clone());
                statement
            }
        };
        let parameters: Vec<&(dyn ToSql + Sync)> = arrays
            .iter()
            .map(|array| array as &(dyn ToSql + Sync))
            .collect();
        let _ = client
            .execute(&statement, &parameters)
            .await
            .map_err(doing())?;
        Ok(())
    }

    /// Which of `items` Postgres refuses, and why. Needs an open transaction, which is worthless afterwards.
    pub(crate) async fn offenders(
        &mut self,
        client: &Client,
        options: &Options,
        items: &[Item<'_>],
    ) -> Result<Vec<(usize, String)>, WriteError> {
        let mut found = Vec::new();
        let mut open = vec![(0, items.len())];
        while let Some((from, upto)) = open.pop() {
            if found.len() >= OFFENDERS_MAX {
                break;
            }
            client
                .batch_execute("SAVEPOINT half")
                .await
                .map_err(postgres("looking for the row that is refused"))?;
            let end = match self.write(client, options, &items[from..upto]).await {
                Ok(()) => "RELEASE SAVEPOINT half",
                Err(error) => {
                    match error {
                        WriteError::Rows(rows) => {
                            found.extend(rows.into_iter().map(|(at, why)| (from + at, why)))
                        }
                        WriteError::Postgres(_, e)
                            if class(&e) == Class::Data && upto - from == 1 =>
                        {
                            found.push((from, message(&e)))
                        }
                        WriteError::Postgres(_, e) if class(&e) == Class::Data => {
                            let middle = from + (upto - from) / 2;
                            open.extend([(middle, upto), (from, middle)]);
                        }
                        other => return Err(other),
                    }
                    self.forget();
                    "ROLLBACK TO SAVEPOINT half"
                }
            };
            client
                .batch_execute(end)
                .await
                .map_err(postgres("looking for the row that is refused"))?;
        }
        Ok(found)
    }
}

/// The columns that can be written; none: there is no such table.
async fn columns(client: &Client, name: &str) -> Result<Vec<Column>, WriteError> {
    let sql = "SELECT attname::text, atttypid, format_type(atttypid, atttypmod) FROM pg_attribute \
               WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum";
    let rows = client
        .query(sql, &[&name])
        .await
        .map_err(postgres(format!("looking up table {name}")))?;
    Ok(rows
        .iter()
        .map(|row| Column {
            name: row.get(0),
            encoding: Encoding::of(row.get(1)),
            sql_type: row.get(2),
        })
        .collect())
}

/// `COPY … BINARY`: signature, flags, extension; per row an i16 count and the fields; -1 ends it.
async fn copy(
    client: &Client,
    table: &Table,
    sql: &str,
    columns: &[usize],
    rows: &[&Row<'_>],
) -> Result<(), WriteError> {
    let doing = || postgres(format!("copying into table {}", table.name));
    let (mut chunks, mut refused) = (Vec::new(), Vec::new());
    let mut bytes = BytesMut::with_capacity(COPY_BYTES + 4096);
    bytes.put_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    let count = i16::try_from(columns.len()).map_err(|_| {
        WriteError::Table(format!(
            "table {} has more columns than Postgres can have",
            table.name
        ))
    })?;
    for row in rows {
        let start = bytes.len();
        bytes.put_i16(count);
        if let Err(why) = put_row(table, columns, row, &mut bytes) {
            bytes.truncate(start);
            refused.push((row.at, why));
        }
        if bytes.len() >= COPY_BYTES {
            chunks.push(bytes.split().freeze());
            bytes.reserve(COPY_BYTES + 4096);
        }
    }
    if !refused.is_empty() {
        return Err(WriteError::Rows(refused));
    }
    bytes.put_i16(-1);
    chunks.push(bytes.freeze());
    let mut sink = pin!(client.copy_in::<_, Bytes>(sql).await.map_err(doing())?);
    for chunk in chunks {
        sink.send(chunk).await.map_err(doing())?;
    }
    let _ = sink.finish().await.map_err(doing())?;
    Ok(())
}

fn put_row(
    table: &Table,
    columns: &[usize],
    row: &Row<'_>,
    out: &mut BytesMut,
) -> Result<(), String> {
    columns.iter().try_for_each(|index| {
        let column = &table.columns[*index];
        column
            .encoding
            .put(row.values[*index].unwrap_or(&Value::Null), out)
            .map_err(|why| format!("column {}: {why}", column.name))
    })
}

/// One array per column, in Postgres' binary form.
fn arrays(
    table: &Table,
    columns: &[usize],
    rows: &[&Row<'_>],
) -> Result<Vec<RawArray>, Vec<(usize, String)>> {
    let mut refused = Vec::new();
    let arrays = columns.iter().map(|index| {
        let column = &table.columns[*index];
        let mut bytes = BytesMut::with_capacity(20 + rows.len() * 16);
        bytes.put_i32(1);
        bytes.put_i32(1);
        bytes.put_u32(column.encoding.element().1);
        bytes.put_i32(i32::try_from(rows.len()).expect("at most UNNEST_ROWS"));
        bytes.put_i32(1);
        for row in rows {
            if let Err(why) = column
                .encoding
                .put(row.values[*index].unwrap_or(&Value::Null), &mut bytes)
            {
                refused.push((row.at, format!("column {}: {why}", column.name)));
            }
        }
        RawArray(bytes.freeze())
    });
    let arrays = arrays.collect();
    if refused.is_empty() {
        Ok(arrays)
    } else {
        Err(refused)
    }
}

/// An array parameter, encoded already.
#[derive(Debug)]
struct RawArray(Bytes);

impl ToSql for RawArray {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    tokio_postgres::types::to_sql_checked!();
}
