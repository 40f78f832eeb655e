//! Log start ≤ last stable offset ≤ high watermark; none of them ever goes back; in the end no transaction holds the second below the third.

use crate::hash::HashMap;
use crate::history::{History, Isolation, Marks, Partition, Read, What};
use crate::{AnomalyKind, Findings};

/// A mark's name and its value.
type Mark = (&'static str, fn(&Marks) -> i64);

const MARKS: [Mark; 3] = [
    ("high watermark", |marks| marks.high_watermark),
    ("last stable offset", |marks| marks.last_stable_offset),
    ("log start", |marks| marks.log_start),
];

pub(crate) fn check(history: &History, findings: &mut Findings) {
    // One reader's answers come in order; of two readers' nobody knows which was given first. The last reads came after all others.
    let mut of_a_reader: HashMap<(u32, Partition), Highest> = HashMap::default();
    let mut of_all: HashMap<Partition, Highest> = HashMap::default();
    for (at, event, read) in history.reads() {
        disorder(at, read, findings);
        let all = of_all.entry(read.partition).or_default();
        if matches!(event.what, What::FinalRead(_)) {
            all.check(at, read, findings);
            stuck(at, read, findings);
        } else {
            let reader = of_a_reader.entry((event.process, read.partition));
            let reader = reader.or_default();
            reader.check(at, read, findings);
            reader.raise(at, &read.marks);
            all.raise(at, &read.marks);
        }
    }
}

/// The highest of each mark so far, and the event that told it.
#[derive(Default)]
struct Highest([(i64, usize); 3]);

impl Highest {
    fn check(&self, at: usize, read: &Read, findings: &mut Findings) {
        for ((name, value), (highest, before)) in MARKS.iter().zip(self.0) {
            let now = value(&read.marks);
            if now >= 0 && now < highest {
                findings.add(
                    AnomalyKind::MarkBack,
                    format!(
                        "the {name} of {} went back from {highest} to {now}",
                        read.partition
                    ),
                    [before, at],
                    &[],
                );
            }
        }
    }

    fn raise(&mut self, at: usize, marks: &Marks) {
        for ((_, value), highest) in MARKS.iter().zip(&mut self.0) {
            if value(marks) > highest.0 {
                *highest = (value(marks), at);
            }
        }
    }
}

fn disorder(at: usize, read: &Read, findings: &mut Findings) {
    let Marks {
        high_watermark,
        last_stable_offset,
        log_start,
    } = read.marks;
    if high_watermark < 0 {
        return;
    }
    let partition = read.partition;
    let mut wrong = |message: String, offsets: &[i64]| {
        findings.add(AnomalyKind::MarksDisorder, message, [at], offsets);
    };
    if last_stable_offset > high_watermark {
        wrong(
            format!(
                "the last stable offset of {partition} is {last_stable_offset}, its high watermark {high_watermark}"
            ),
            &[],
        );
    }
    if log_start > high_watermark {
        wrong(
            format!(
                "the log start of {partition} is {log_start}, its high watermark {high_watermark}"
            ),
            &[],
        );
    }
    let bound = match read.isolation {
        Isolation::ReadCommitted if last_stable_offset >= 0 => last_stable_offset,
        _ => high_watermark,
    };
    if let Some((offset, value)) = read.records.iter().find(|(offset, _)| *offset >= bound) {
        wrong(
            format!("{partition}@{offset} shows {value}, and the reader may read up to {bound}"),
            &[*offset],
        );
    }
}

fn stuck(at: usize, read: &Read, findings: &mut Findings) {
    let marks = &read.marks;
    if marks.last_stable_offset >= 0 && marks.last_stable_offset < marks.high_watermark {
        findings.add(
            AnomalyKind::LsoStuck,
            format!(
                "a transaction in {} hangs: at the end the last stable offset is {}, the high watermark {}",
                read.partition, marks.last_stable_offset, marks.high_watermark
            ),
            [at],
            &[],
        );
    }
}
