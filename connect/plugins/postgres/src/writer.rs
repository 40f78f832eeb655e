//! Runs planned statements inside the transaction that `sink.rs` opened.
//!
//! Owns the prepared statements of a connection. When Postgres refuses rows, [`Writer::search`]
//! finds which: by halves, under savepoints, each half on top of those before it, so that it
//! decides as if the records came one by one. It never begins or ends a transaction.

use std::collections::BTreeMap;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::failure::{Class, class_of, message};
use crate::plan::{Body, Refused, Statement};

/// Prepared statements kept; beyond it all are dropped: record shapes vary without end.
const PREPARED_MAX: usize = 200;
/// Rows refused in one search, after which no more are looked for.
const REFUSED_MAX: usize = 1000;

/// The statements prepared on one connection.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    prepared: BTreeMap<String, tokio_postgres::Statement>,
}

impl Writer {
    /// Runs the statements in order.
    pub(crate) async fn run(
        &mut self,
        client: &Client,
        statements: &[Statement],
    ) -> Result<(), Error> {
        for statement in statements {
            let prepared = match self.prepared.get(&statement.sql) {
                Some(prepared) => prepared.clone(),
                None => {
                    let prepared = client.prepare(&statement.sql).await?;
                    if self.prepared.len() >= PREPARED_MAX {
                        self.prepared.clear();
                    }
                    let _ = self
                        .prepared
                        .insert(statement.sql.clone(), prepared.clone());
                    prepared
                }
            };
            match &statement.body {
                Body::Copy(pieces) => {
                    let mut sink = pin!(client.copy_in::<_, Bytes>(&prepared).await?);
                    for piece in pieces {
                        sink.feed(piece.clone()).await?;
                    }
                    let _ = sink.finish().await?;
                }
                Body::Arrays(arrays) => {
                    let arrays: Vec<RawArray<'_>> = arrays.iter().map(RawArray).collect();
                    let parameters: Vec<&(dyn ToSql + Sync)> = arrays
                        .iter()
                        .map(|array| array as &(dyn ToSql + Sync))
                        .collect();
                    let _ = client.execute(&prepared, &parameters).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes records `0..count` but those that Postgres refuses, and says which and why. `plan`
    /// makes the statements of a range of them.
    ///
    /// # Errors
    /// Whatever is not about rows.
    pub(crate) async fn search(
        &mut self,
        client: &Client,
        count: usize,
        mut plan: impl FnMut(std::ops::Range<usize>) -> Result<Vec<Statement>, Refused>,
    ) -> Result<Vec<(usize, String)>, Error> {
        let mut refused = Vec::new();
        // The range to look at next is the last.
        let mut open = Vec::new();
        open.push(0..count);
        while let Some(range) = open.pop() {
            if refused.len() >= REFUSED_MAX {
                break;
            }
            let statements = match plan(range.clone()) {
                Ok(statements) => statements,
                Err(these) => {
                    refused.extend(these.records);
                    continue;
                }
            };
            client.batch_execute("SAVEPOINT half").await?;
            match self.run(client, &statements).await {
                Ok(()) => client.batch_execute("RELEASE SAVEPOINT half").await?,
                Err(e) if class_of(&e) == Class::Data => {
                    client
                        .batch_execute("ROLLBACK TO SAVEPOINT half; RELEASE SAVEPOINT half")
                        .await?;
                    if range.len() == 1 {
                        refused.push((range.start, message(&e)));
                    } else {
                        let middle = range.start + range.len() / 2;
                        open.extend([middle..range.end, range.start..middle]);
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(refused)
    }
}

/// An array parameter, encoded already.
#[derive(Debug)]
struct RawArray<'a>(&'a Bytes);

impl ToSql for RawArray<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_slice(self.0);
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
