//! What goes in: a file of lines, and a topic of JSON rows with their schema, as the Java side gets them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use flumen::client::{Admin, Client, Compression, NewTopic, Producer, ProducerConfig, RecordBlock};

use crate::Failure;

/// Numbers that look random and are the same in every run: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Appends so many hexadecimal digits.
    fn hex(&mut self, digits: usize, into: &mut String) {
        let end = into.len() + digits;
        while into.len() < end {
            let _ = write!(into, "{:016x}", self.next()); // text does not fail
        }
        into.truncate(end);
    }
}

/// Lines of `bytes` bytes and a newline: a number and random digits.
pub(crate) fn write_lines(path: &Path, lines: u64, bytes: usize) -> Result<(), Failure> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let (mut numbers, mut line) = (Numbers(42), String::new());
    for number in 0..lines {
        line.clear();
        write!(line, "{number:010} ")?;
        numbers.hex(bytes - 11, &mut line);
        line.push('\n');
        file.write_all(line.as_bytes())?;
    }
    Ok(file.into_inner()?.sync_all()?)
}

pub(crate) async fn create_topic(client: &Client, name: &str) -> Result<(), Failure> {
    let topic = NewTopic::new(name, 1).config("retention.ms", "-1");
    Admin::new(client).create_topic(&topic).await?;
    Ok(())
}

/// The schema of every row.
const SCHEMA: &str = r#"{"schema":{"type":"struct","name":"row","optional":false,"fields":[{"field":"id","type":"int64","optional":false},{"field":"name","type":"string","optional":false},{"field":"amount","type":"double","optional":false},{"field":"at","type":"int64","optional":false,"name":"org.apache.kafka.connect.data.Timestamp","version":1},{"field":"note","type":"string","optional":true}]},"payload":"#;

/// Rows of about 530 bytes; their ids go round `ids`. Returns the bytes of all values.
pub(crate) async fn load_rows(
    client: &Client,
    topic: &str,
    rows: u64,
    ids: u64,
) -> Result<u64, Failure> {
    create_topic(client, topic).await?;
    let producer = Producer::new(client, ProducerConfig::default()).await?;
    let (mut numbers, mut row, mut bytes) = (Numbers(42), String::new(), 0);
    let mut block = RecordBlock::new(Compression::None);
    for number in 0..rows {
        row.clear();
        row.push_str(SCHEMA);
        let (name, cents) = (numbers.next() % 1_000_000_000, numbers.next() % 10_000_000);
        write!(
            row,
            r#"{{"id":{},"name":"name-{name:09}","amount":{}.{:02},"at":{},"note":"#,
            number % ids,
            cents / 100,
            cents % 100,
            1_700_000_000_000 + number,
        )?;
        if number % 10 == 0 {
            row.push_str("null}}");
        } else {
            row.push('"');
            numbers.hex(60, &mut row);
            row.push_str("\"}}");
        }
        bytes += row.len() as u64;
        let timestamp = 1_700_000_000_000 + i64::try_from(number)?;
        block.push(timestamp, None, Some(row.as_bytes()), &[]);
        if block.size_bytes() >= 128 << 10 || number + 1 == rows {
            let full = std::mem::replace(&mut block, RecordBlock::new(Compression::None));
            drop(producer.send_batch(topic, 0, full).await?);
        }
    }
    producer.close().await?;
    Ok(bytes)
}
