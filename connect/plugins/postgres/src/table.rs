//! Names of tables and columns, and the statements that write rows. Pure.
//!
//! Owns quoting and SQL text. `plan.rs` chooses statement and columns, `catalogue.rs` reads what a
//! table looks like.

use std::fmt::Write as _;

use crate::encode::Encoding;
use crate::options::Options;

/// A column as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) encoding: Encoding,
    /// The type as SQL says it, with its modifier: `numeric(10,2)`.
    pub(crate) sql_type: String,
}

/// A table as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Quoted, with its schema if one was configured.
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

/// Quotes one identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `sales.${topic}` → `"sales"."orders"`. Only dots of the format separate, not those of the topic.
pub(crate) fn table_name(format: &str, topic: &str) -> String {
    let parts = format.split('.');
    let quoted: Vec<String> = parts
        .map(|part| quote(&part.replace("${topic}", topic)))
        .collect();
    quoted.join(".")
}

impl Table {
    /// Where the column of that name stands; `hint` is looked at first.
    pub(crate) fn column(&self, name: &[u8], hint: usize) -> Option<usize> {
        let named = |column: &Column| column.name.as_bytes() == name;
        if self.columns.get(hint).is_some_and(named) {
            return Some(hint);
        }
        self.columns.iter().position(named)
    }

    /// Indexes of the primary key's columns, in the order of `pk.fields`; `Err` names one that is
    /// not there.
    pub(crate) fn key_columns(&self, options: &Options) -> Result<Vec<usize>, String> {
        let index = |name: &String| {
            self.column(name.as_bytes(), 0).ok_or_else(|| {
                let table = &self.name;
                format!("table {table} has no column {name}, which pk.fields names")
            })
        };
        options.pk_fields.iter().map(index).collect()
    }

    /// `COPY … FROM STDIN BINARY` for these columns; `None` where one of them has no binary form
    /// here.
    pub(crate) fn copy(&self, columns: &[usize]) -> Option<String> {
        let casts = |index: &usize| self.columns[*index].encoding.needs_cast();
        if columns.is_empty() || columns.iter().any(casts) {
            return None;
        }
        let names = self.names(columns);
        Some(format!("COPY {} ({names}) FROM STDIN BINARY", self.name))
    }

    /// `INSERT … SELECT … FROM unnest($1, $2 …)`, with `ON CONFLICT` where there is a key.
    pub(crate) fn insert(&self, columns: &[usize], key: &[usize]) -> String {
        let (names, source) = (self.names(columns), self.unnest(columns));
        let values: Vec<String> = (0..columns.len())
            .map(|at| format!("u.c{at}{}", self.cast(columns[at])))
            .collect();
        let values = values.join(",");
        let mut sql = format!(
            "INSERT INTO {} ({names}) SELECT {values} FROM {source}",
            self.name
        );
        if !key.is_empty() {
            let others = columns.iter().filter(|index| !key.contains(index));
            let sets: Vec<String> = others
                .map(|index| quote(&self.columns[*index].name))
                .map(|name| format!("{name}=EXCLUDED.{name}"))
                .collect();
            let action = match sets.is_empty() {
                true => "NOTHING".to_owned(),
                false => format!("UPDATE SET {}", sets.join(",")),
            };
            let _ = write!(sql, " ON CONFLICT ({}) DO {action}", self.names(key));
        }
        sql
    }

    /// `DELETE … USING unnest($1 …)` by key.
    pub(crate) fn delete(&self, key: &[usize]) -> String {
        let equal = |(at, index): (usize, &usize)| {
            let name = quote(&self.columns[*index].name);
            format!("t.{name}=u.c{at}{}", self.cast(*index))
        };
        let on: Vec<String> = key.iter().enumerate().map(equal).collect();
        let (source, on) = (self.unnest(key), on.join(" AND "));
        format!("DELETE FROM {} t USING {source} WHERE {on}", self.name)
    }

    fn names(&self, columns: &[usize]) -> String {
        let names = columns
            .iter()
            .map(|index| quote(&self.columns[*index].name));
        names.collect::<Vec<_>>().join(",")
    }

    fn cast(&self, index: usize) -> String {
        let column = &self.columns[index];
        match column.encoding.needs_cast() {
            true => format!("::{}", column.sql_type),
            false => String::new(),
        }
    }

    fn unnest(&self, columns: &[usize]) -> String {
        let element = |index: &usize| self.columns[*index].encoding.element().0;
        let arrays = columns.iter().enumerate();
        let arrays = arrays.map(|(at, index)| format!("${}::{}[]", at + 1, element(index)));
        let names = (0..columns.len()).map(|at| format!("c{at}"));
        format!(
            "unnest({}) AS u({})",
            arrays.collect::<Vec<_>>().join(","),
            names.collect::<Vec<_>>().join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_quote_cast_and_update_all_but_the_key() {
        let column = |name: &str, encoding, sql_type: &str| Column {
            name: name.to_owned(),
            encoding,
            sql_type: sql_type.to_owned(),
        };
        let table = Table {
            name: table_name("${topic}", "o\"x"),
            columns: vec![
                column("id", Encoding::Int8, "bigint"),
                column("at", Encoding::TimestampTz, "timestamptz"),
                column("net", Encoding::Other, "inet"),
            ],
        };
        assert_eq!(
            table.copy(&[0, 1]).unwrap(),
            "COPY \"o\"\"x\" (\"id\",\"at\") FROM STDIN BINARY"
        );
        assert_eq!(table.copy(&[0, 2]), None);
        assert_eq!(
            table.insert(&[0, 1, 2], &[0]),
            "INSERT INTO \"o\"\"x\" (\"id\",\"at\",\"net\") SELECT u.c0,u.c1,u.c2::inet \
             FROM unnest($1::int8[],$2::timestamptz[],$3::text[]) AS u(c0,c1,c2) \
             ON CONFLICT (\"id\") DO UPDATE SET \"at\"=EXCLUDED.\"at\",\"net\"=EXCLUDED.\"net\""
        );
        assert!(table.insert(&[0], &[0]).ends_with("DO NOTHING"));
        assert_eq!(
            table.delete(&[0, 2]),
            "DELETE FROM \"o\"\"x\" t USING unnest($1::int8[],$2::text[]) AS u(c0,c1) \
             WHERE t.\"id\"=u.c0 AND t.\"net\"=u.c1::inet"
        );
        assert_eq!(table_name("sales.${topic}_x", "a.b"), "\"sales\".\"a.b_x\"");
    }

    #[test]
    fn a_column_is_found_with_and_without_its_hint() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            encoding: Encoding::Int8,
            sql_type: "bigint".to_owned(),
        };
        let table = Table {
            name: "t".to_owned(),
            columns: vec![column("a"), column("b")],
        };
        assert_eq!([0, 1, 7].map(|hint| table.column(b"b", hint)), [Some(1); 3]);
        assert_eq!(table.column(b"c", 0), None);
    }
}
