//! The answer by the plainest means: one loop over the CSV, one map. What both sinks must equal.
//!
//! Called by `main.rs` before and after the run; it knows nothing of topics, windows or commits.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Carrier and scheduled hour, e.g. `("UA", "2013-01-01T10:00:00Z")`.
pub(crate) type CarrierHour = (String, String);

/// What the demo keeps per carrier and scheduled hour; delays in minutes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delays {
    pub(crate) flights: i64,
    pub(crate) mean_dep_delay: f64,
    pub(crate) max_dep_delay: i64,
}

/// The whole expected result.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) rows: BTreeMap<CarrierHour, Delays>,
    /// Flights that were not cancelled: the sum of `flights` over all rows.
    pub(crate) flown: i64,
    /// Data lines of the file.
    pub(crate) lines: u64,
}

/// Reads the CSV (plain, or gzip by its ending) and aggregates it.
///
/// # Errors
/// A message that names the file and the line.
pub(crate) fn recompute(path: &Path) -> Result<Expected, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(|e| named(&e))?;
    let reader: Box<dyn Read> = match path.extension() {
        Some(ending) if ending == "gz" => Box::new(flate2::read::MultiGzDecoder::new(file)),
        _ => Box::new(file),
    };
    let mut lines = BufReader::new(reader).lines();
    let header = lines
        .next()
        .ok_or_else(|| named(&"empty"))?
        .map_err(|e| named(&e))?;
    let header = split(&header);
    let column = |name: &str| {
        let found = header.iter().position(|column| column == name);
        found.ok_or_else(|| named(&format!("no column {name}")))
    };
    let (carrier, hour, delay) = (
        column("carrier")?,
        column("time_hour")?,
        column("dep_delay")?,
    );

    let mut sums: BTreeMap<CarrierHour, (i64, i64, i64)> = BTreeMap::new();
    let (mut flown, mut count) = (0, 0);
    for line in lines {
        let line = line.map_err(|e| named(&e))?;
        if line.trim_end_matches('\r').is_empty() {
            continue;
        }
        count += 1;
        let fields = split(&line);
        let field = |at: usize| {
            let value = fields.get(at);
            value.ok_or_else(|| named(&format!("data line {count} has {} columns", fields.len())))
        };
        if field(delay)? == "NA" {
            continue;
        }
        let minutes: i64 = field(delay)?
            .parse()
            .map_err(|e| named(&format!("data line {count}: dep_delay: {e}")))?;
        let key = (field(carrier)?.clone(), field(hour)?.clone());
        let (flights, sum, max) = sums.entry(key).or_insert((0, 0, i64::MIN));
        *flights += 1;
        *sum += minutes;
        *max = minutes.max(*max);
        flown += 1;
    }
    let rows = sums
        .into_iter()
        .map(|(key, (flights, sum, max))| {
            let mean_dep_delay = sum as f64 / flights as f64;
            (
                key,
                Delays {
                    flights,
                    mean_dep_delay,
                    max_dep_delay: max,
                },
            )
        })
        .collect();
    Ok(Expected {
        rows,
        flown,
        lines: count,
    })
}

/// The fields of one line: commas separate them, except between double quotes; a doubled quote in there is one.
fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.trim_end_matches('\r').chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("never empty");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                let _ = characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(character),
        }
    }
    fields
}
