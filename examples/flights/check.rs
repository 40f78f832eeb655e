//! Reads both sinks back and holds every row against the plain recomputation; prints the ten worst carrier-hours.
//!
//! Called by `main.rs`; it never writes to a sink.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};

use crate::recompute::{CarrierHour, Delays};

/// The rows of one sink.
pub(crate) type Rows = BTreeMap<CarrierHour, Delays>;

/// The JSON lines of the file sink while they are being written: only what is new is read.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    /// The lines before this byte are in `rows`.
    read: u64,
    rows: Rows,
    flights: i64,
}

impl Growing {
    /// Reads what has come since the last call. A line that is not whole yet is left for the next one; where the sink has cut the
    /// file back (it is shorter, or a line is no row) it begins again.
    ///
    /// # Errors
    /// A message that names the file.
    pub(crate) fn read_on(&mut self, path: &Path) -> Result<Progress, String> {
        let named = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Progress::default()),
            Err(e) => return Err(named(e)),
        };
        if file.metadata().map_err(named)?.len() < self.read {
            *self = Growing::default();
        }
        let mut new = Vec::new();
        let _ = file.seek(SeekFrom::Start(self.read)).map_err(named)?;
        let _ = file.read_to_end(&mut new).map_err(named)?;
        for line in new.split_inclusive(|byte| *byte == b'\n') {
            let Some(whole) = line.strip_suffix(b"\n") else {
                break;
            };
            let Some((key, row)) = std::str::from_utf8(whole).ok().and_then(parse) else {
                *self = Growing::default();
                break;
            };
            self.read += line.len() as u64;
            self.flights += row.flights;
            self.flights -= self.rows.insert(key, row).map_or(0, |old| old.flights);
        }
        Ok(Progress {
            rows: self.rows.len(),
            flights: self.flights,
        })
    }
}

/// How far a sink is.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Progress {
    pub(crate) rows: usize,
    /// The sum over all rows. Counts only ever grow to their final value: when the sums agree, every row has arrived.
    pub(crate) flights: i64,
}

/// The JSON lines of the file sink when it has ended: the last line of a carrier-hour is its value.
///
/// # Errors
/// A message that names the line; a line that is cut off is one.
pub(crate) fn read_file(path: &Path) -> Result<Rows, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    let mut rows = Rows::new();
    for (at, line) in text.split_inclusive('\n').enumerate() {
        let row = line.strip_suffix('\n').and_then(parse);
        let row = row.ok_or_else(|| format!("{}:{}: not a row: {line}", path.display(), at + 1))?;
        rows.insert(row.0, row.1);
    }
    Ok(rows)
}

fn parse(line: &str) -> Option<(CarrierHour, Delays)> {
    let row: serde_json::Value = serde_json::from_str(line).ok()?;
    let key = (
        row["carrier"].as_str()?.to_owned(),
        row["hour"].as_str()?.to_owned(),
    );
    let delays = Delays {
        flights: row["flights"].as_i64()?,
        mean_dep_delay: row["mean_dep_delay"].as_f64()?,
        max_dep_delay: row["max_dep_delay"].as_i64()?,
    };
    Some((key, delays))
}

/// How far the table of the Postgres sink is; nothing as long as the sink has not made it.
///
/// # Errors
/// What PostgreSQL says.
pub(crate) async fn count_postgres(client: &tokio_postgres::Client) -> Result<Progress, String> {
    let exists = "SELECT to_regclass('carrier_delays') IS NOT NULL";
    let made = client.query_one(exists, &[]).await;
    if !made.map_err(|e| e.to_string())?.get::<_, bool>(0) {
        return Ok(Progress::default());
    }
    let sums = "SELECT count(*), coalesce(sum(flights), 0)::bigint FROM carrier_delays";
    let row = client.query_one(sums, &[]).await;
    let row = row.map_err(|e| e.to_string())?;
    Ok(Progress {
        rows: usize::try_from(row.get::<_, i64>(0)).expect("a count is not negative"),
        flights: row.get(1),
    })
}

/// The rows of the Postgres sink.
///
/// # Errors
/// What PostgreSQL says.
pub(crate) async fn read_postgres(client: &tokio_postgres::Client) -> Result<Rows, String> {
    let all = "SELECT carrier, to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
               flights::bigint, mean_dep_delay::float8, max_dep_delay::bigint FROM carrier_delays";
    let rows = client.query(all, &[]).await.map_err(|e| e.to_string())?;
    let row = |row: &tokio_postgres::Row| {
        let delays = Delays {
            flights: row.get(2),
            mean_dep_delay: row.get(3),
            max_dep_delay: row.get(4),
        };
        ((row.get(0), row.get(1)), delays)
    };
    Ok(rows.iter().map(row).collect())
}

/// Every row of a sink against the recomputation.
///
/// # Errors
/// The first differences, one a line, and how many there are.
pub(crate) fn compare(sink: &str, found: &Rows, expected: &Rows) -> Result<(), String> {
    let mut differences = Vec::new();
    for (key, want) in expected {
        match found.get(key) {
            Some(have) if have == want => {}
            Some(have) => differences.push(format!("{} {}: {have:?}, not {want:?}", key.0, key.1)),
            None => differences.push(format!("{} {}: missing", key.0, key.1)),
        }
    }
    let extra = found.keys().filter(|key| !expected.contains_key(*key));
    differences.extend(extra.map(|key| format!("{} {}: not in the data", key.0, key.1)));
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    differences.truncate(5);
    Err(format!(
        "{sink}: {count} rows differ\n  {}",
        differences.join("\n  ")
    ))
}

/// The ten carrier-hours with the largest mean delay, as a table.
pub(crate) fn worst(rows: &Rows) -> Table {
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by(|a, b| {
        b.1.mean_dep_delay
            .total_cmp(&a.1.mean_dep_delay)
            .then(a.0.cmp(b.0))
    });
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header([
        "carrier",
        "hour",
        "flights",
        "mean delay",
        "max delay",
    ]);
    for ((carrier, hour), delays) in sorted.into_iter().take(10) {
        let mean = format!("{:.1} min", delays.mean_dep_delay);
        table.add_row([
            carrier.clone(),
            hour.clone(),
            delays.flights.to_string(),
            mean,
            format!("{} min", delays.max_dep_delay),
        ]);
    }
    for column in 2..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
