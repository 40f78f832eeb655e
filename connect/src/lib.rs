//! A connect runtime: source and sink plugins, exactly-once, Kafka Connect REST.
//!
//! A *connector* is a configuration in a topic; a *worker* runs it as *tasks* made by a *plugin*. Speaks Kafka only, so it runs against any compatible
//! cluster.
//!
//! A source, whole:
//!
//! ```
//! use async_trait::async_trait;
//! use flumen_connect::config::{ConfigDef, ConfigKey, Kind, Props, Settings};
//! use flumen_connect::error::TaskError;
//! use flumen_connect::record::{Data, SourceBatch, SourcePosition, SourceRecord};
//! use flumen_connect::registry::Registry;
//! use flumen_connect::source::{Budget, Guarantee, SourceConnector, SourceContext, SourceTask};
//!
//! struct Counter;
//!
//! #[async_trait]
//! impl SourceConnector for Counter {
//!     fn config(&self) -> ConfigDef {
//!         ConfigDef::new([ConfigKey::required("topic", Kind::String, "Where the numbers go.")])
//!     }
//!     async fn task_configs(&self, settings: &Settings, _most: usize) -> Result<Vec<Props>, TaskError> {
//!         Ok(vec![settings.props().clone()])
//!     }
//!     fn guarantees(&self, _: &Settings) -> Guarantee {
//!         Guarantee::ExactlyOnce
//!     }
//!     fn task(&self, settings: &Settings) -> Box<dyn SourceTask> {
//!         Box::new(Counting { topic: settings.str("topic").to_owned(), next: 0 })
//!     }
//! }
//!
//! struct Counting { topic: String, next: i64 }
//!
//! #[async_trait]
//! impl SourceTask for Counting {
//!     async fn open(&mut self, _: SourceContext, restored: Vec<SourcePosition>) -> Result<(), TaskError> {
//!         self.next = restored.first().and_then(|p| p.offset["next"].as_i64()).unwrap_or(0);
//!         Ok(())
//!     }
//!     async fn poll(&mut self, _: Budget) -> Result<SourceBatch, TaskError> {
//!         let record = SourceRecord::new(self.topic.as_str().into(), Data::schemaless(self.next.into()));
//!         self.next += 1;
//!         let position = SourcePosition {
//!             partition: [("counter".to_owned(), 1.into())].into(),
//!             offset: [("next".to_owned(), self.next.into())].into(),
//!         };
//!         Ok(SourceBatch { records: vec![record], positions: vec![position], bytes: 8, ..SourceBatch::default() })
//!     }
//! }
//!
//! // let worker = Worker::start(WorkerConfig::new("localhost:9092"), registry).await?;
//! let registry = Registry::new().source("Counter", &[], Counter);
//! assert_eq!(registry.connector("Counter").unwrap().1.direction(), "source");
//! ```
//!
//! # Life of a source
//!
//! 1. `worker.rs` commits the configuration, `supervisor.rs` starts the task.
//! 2. `source_task.rs` fences earlier instances, then reads their committed positions.
//! 3. The plugin opens there.
//! 4. It is polled: records, with the position after them.
//! 5. `converter/` makes bytes, `outbox.rs` packs them into blocks by partition, the producer sends them.
//! 6. At a boundary the position records join them and the transaction commits.
//! 7. The plugin is told. 4 to 7 repeat.
//!
//! # Life of a sink
//!
//! 1. and 2. as above, without positions of ours.
//! 3. The plugin claims its partitions in the target and says where to start.
//! 4. `sink_task.rs` reads from there, committed records only.
//! 5. `pending.rs` decodes them into adjacent ranges.
//! 6. The plugin writes records and next offsets in one step.
//! 7. The group is told, for lag display only. 4 to 7 repeat.
//!
//! A record that cannot be handled becomes a dead letter (`dead_letter.rs`) or stops the task, by `errors.tolerance`; trouble
//! that passes is borne (`retry.rs`); a failed task starts again by itself.

mod common;
pub mod config;
pub mod converter;
pub mod dead_letter;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod offsets;
mod outbox;
mod pending;
pub mod record;
pub mod registry;
mod rest;
pub mod retry;
mod runtime;
pub mod schema;
pub mod sink;
mod sink_task;
pub mod source;
mod source_task;
pub mod state;
pub mod status;
mod supervisor;
mod task;
mod topics;
pub mod value;
pub mod worker;

pub use topics::InternalTopics;
