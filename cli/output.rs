//! Tables for people, JSON for programs: stdout carries data only.
//!
//! Used by every subcommand. It never decides what is shown, only how.

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people.
    Table,
    /// One JSON document for programs.
    Json,
}

/// Something that can be shown as rows below a header.
pub(crate) trait Rows: Serialize {
    /// Column names.
    fn header(&self) -> Vec<&'static str>;
    /// Cells, row by row.
    fn rows(&self) -> Vec<Vec<String>>;
    /// What a person is told when there are no rows.
    fn empty(&self) -> &'static str;
}

impl Output {
    /// Prints a result to stdout.
    pub(crate) fn print(self, value: &impl Rows) {
        match self {
            Output::Json => println!(
                "{}",
                serde_json::to_string_pretty(value).expect("plain data serialises")
            ),
            Output::Table if value.rows().is_empty() => eprintln!("{}", value.empty()),
            Output::Table => {
                let mut table = Table::new();
                table
                    .load_style(presets::NOTHING)
                    .set_header(value.header());
                table.add_rows(value.rows());
                println!("{}", table.trim_fmt());
            }
        }
    }
}
