//! Reads both sinks back and holds every row against the plain recomputation; prints the ten worst carrier-hours.
//!
//! Called by `main.rs`; it never writes to a sink.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};

use crate::recompute::{CarrierHour, Delays};

/// The rows of one sink.
pub(crate) type Rows = BTreeMap<CarrierHour, Delays>;

/// The JSON lines of the file sink: the last line of a carrier-hour is its value.
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
        // While the demo runs the last line may be half-written; at the end it must not be.
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let row = parse(line)
            .ok_or_else(|| format!("{}:{}: not a row: {line}", path.display(), at + 1))?;
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

/// The table that the Postgres sink keeps; empty as long as the sink has not made it.
///
/// # Errors
/// What PostgreSQL says.
pub(crate) async fn read_postgres(client: &tokio_postgres::Client) -> Result<Rows, String> {
    let exists = "SELECT to_regclass('carrier_delays') IS NOT NULL";
    let made: bool = client
        .query_one(exists, &[])
        .await
        .map_err(|e| e.to_string())?
        .get(0);
    if !made {
        return Ok(Rows::new());
    }
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

/// Flights counted so far: what the progress bar shows.
pub(crate) fn flights(rows: &Rows) -> i64 {
    rows.values().map(|delays| delays.flights).sum()
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
