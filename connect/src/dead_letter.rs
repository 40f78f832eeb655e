//! Records that cannot be handled: into a topic, with where they came from and why in their headers. Pure up to the producer.
//!
//! Owns the headers, which are Kafka's (`__connect.errors.…`, texts in UTF-8; `DeadLetterQueueReporter`). A sink's dead letters are acknowledged before
//! anything behind them is committed; a source's go into the transaction of its records. Kafka does neither: there a dead letter may be lost.

use bytes::Bytes;
use flumen_client::ProducerRecord;

/// Where it failed. Kafka: `Stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading the key's bytes, or making them.
    KeyConverter,
    /// The same for the value.
    ValueConverter,
    /// A source that could not make a record of its input.
    TaskPoll,
    /// A sink that could not write it.
    TaskPut,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::KeyConverter => "KEY_CONVERTER",
            Stage::ValueConverter => "VALUE_CONVERTER",
            Stage::TaskPoll => "TASK_POLL",
            Stage::TaskPut => "TASK_PUT",
        }
    }
}

/// A record, as it was found, and why it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The topic it came from, or would have gone to.
    pub topic: String,
    /// Partition and offset, of a sink's record.
    pub position: Option<(i32, i64)>,
    /// Where it stands, of a source's input: file, line and byte.
    pub place: Option<String>,
    /// Its key as it was.
    pub key: Option<Bytes>,
    /// Its value as it was.
    pub value: Option<Bytes>,
    /// Its headers as they were.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Its timestamp.
    pub timestamp: Option<i64>,
    /// Where it failed.
    pub stage: Stage,
    /// Why.
    pub reason: String,
}

impl DeadLetter {
    /// In one line, for the log and a task's trace.
    pub fn describe(&self) -> String {
        let at = match (&self.place, self.position) {
            (Some(place), _) => place.clone(),
            (None, Some((partition, offset))) => {
                format!("{}-{partition} offset {offset}", self.topic)
            }
            (None, None) => format!("a record for topic {}", self.topic),
        };
        format!("{at}: {} ({})", self.reason, self.stage.name())
    }

    /// The record of the dead letter topic; with `context`, headers say where it comes from.
    pub fn into_record(
        self,
        dead_letter_topic: &str,
        context: Option<&Context<'_>>,
    ) -> ProducerRecord {
        let mut headers = self.headers.clone();
        if let Some(context) = context {
            let mut put = |name: &str, text: String| {
                headers.push((format!("__connect.errors.{name}"), Some(Bytes::from(text))))
            };
            put("topic", self.topic.clone());
            if let Some((partition, offset)) = self.position {
                put("partition", partition.to_string());
                put("offset", offset.to_string());
            }
            if let Some(place) = &self.place {
                put("place", place.clone());
            }
            put("connector.name", context.connector.to_owned());
            put("task.id", context.task.to_string());
            put("stage", self.stage.name().to_owned());
            put("class.name", context.class.to_owned());
            put("exception.class.name", "DataException".to_owned());
            put("exception.message", self.reason.clone());
            put("exception.stacktrace", self.describe());
        }
        ProducerRecord {
            topic: dead_letter_topic.to_owned(),
            partition: None,
            key: self.key,
            value: self.value,
            headers,
            timestamp: self.timestamp,
        }
    }
}

/// Whose dead letters these are.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The connector.
    pub connector: &'a str,
    /// Its task.
    pub task: usize,
    /// Its plugin.
    pub class: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_keeps_its_bytes_and_says_why() {
        let letter = DeadLetter {
            topic: "orders".to_owned(),
            position: Some((2, 17)),
            place: None,
            key: None,
            value: Some(Bytes::from_static(b"{")),
            headers: vec![("a".to_owned(), None)],
            timestamp: Some(5),
            stage: Stage::ValueConverter,
            reason: "no JSON".to_owned(),
        };
        assert_eq!(
            letter.describe(),
            "orders-2 offset 17: no JSON (VALUE_CONVERTER)"
        );
        let context = Context {
            connector: "pg",
            task: 0,
            class: "PostgresSink",
        };
        let record = letter.clone().into_record("dead", Some(&context));
        assert_eq!(
            (record.value.as_deref(), record.timestamp),
            (Some(&b"{"[..]), Some(5))
        );
        let header = |name: &str| {
            record
                .headers
                .iter()
                .find(|(known, _)| known == name)
                .and_then(|(_, value)| value.clone())
        };
        assert_eq!(header("__connect.errors.offset").unwrap(), "17");
        assert_eq!(header("__connect.errors.stage").unwrap(), "VALUE_CONVERTER");
        assert_eq!(header("__connect.errors.connector.name").unwrap(), "pg");
        assert_eq!(
            letter.into_record("dead", None).headers,
            [("a".to_owned(), None)]
        );
    }
}
