//! Stream processing in Rust: Kafka Streams' DSL, typed, on timely dataflow, with RocksDB stores and exactly-once commits.
//!
//! Word count, and its test without a broker:
//!
//! ```
//! use flumen_streams::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TopologyTestDriver, serdes};
//!
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream("lines", Consumed::values(serdes::string()))
//!     .flat_map_values(|line: String| line.to_lowercase().split_whitespace().map(str::to_owned).collect::<Vec<_>>())
//!     .group_by(|_, word| word.clone(), Grouped::with(serdes::string(), serdes::string()))
//!     .count(Materialized::as_("counts"))
//!     .to_stream()
//!     .to("words", Produced::with(serdes::string(), serdes::i64()));
//! let topology = builder.build()?;
//!
//! let driver = TopologyTestDriver::new(topology);
//! let lines = driver.create_input_topic("lines", serdes::nothing(), serdes::string());
//! let words = driver.create_output_topic("words", serdes::string(), serdes::i64());
//! lines.pipe_input((), "the river and the sea".to_owned(), 0);
//! assert_eq!(words.read_key_values(), [("the".to_owned(), 2), ("river".to_owned(), 1), ("and".to_owned(), 1), ("sea".to_owned(), 1)]);
//! # Ok::<(), flumen_streams::TopologyError>(())
//! ```
//!
//! The words, as Kafka Streams uses them:
//! - a *record* is a key, a value and an event time in ms;
//! - a *stream* ([`KStream`]) is records, each a fact; a *table* ([`KTable`]) is records, each the new value of its key;
//! - a *topology* ([`Topology`]) is what a [`StreamsBuilder`] wrote down; where records must meet by a new key it is cut into
//!   *sub-topologies* by repartition topics;
//! - a *task* ([`TaskId`]) is one sub-topology on one partition of its inputs: the unit of work that moves between processes;
//! - a *store* holds a task's state, and has a changelog topic from which it can be rebuilt anywhere;
//! - an *epoch* is what one transaction commits: outputs, changes of state and input positions, all or none.

mod app;
mod assign;
mod builder;
mod commit;
mod config;
pub mod dataflow;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod grouped;
mod kstream;
mod ktable;
mod metrics;
mod operator;
mod position;
mod record;
mod runtime;
pub mod serdes;
mod session;
pub mod state;
mod task;
mod testing;
pub mod time;
mod topology;
mod window;
mod worker;

pub use app::{KafkaStreams, StreamsState};
pub use builder::{Consumed, Grouped, Materialized, Produced, Repartitioned, StreamsBuilder};
pub use config::{OnError, PositionLost, ProcessingGuarantee, StartFrom, StreamsConfig, Threads};
pub use error::{EngineError, SerdeError, StreamsError, TopologyError};
pub use grouped::{KGroupedStream, TimeWindowedKStream};
pub use kstream::{BranchedKStream, KStream};
pub use ktable::KTable;
pub use metrics::StreamsMetrics;
pub use operator::source::OnDeserializationError;
pub use record::{Headers, Record};
pub use testing::{TestInputTopic, TestOutputTopic, TopologyTestDriver};
pub use time::TimestampExtractor;
pub use topology::{InternalTopic, Subtopology, TaskId, TopicRef, Topology};
pub use window::{TimeWindows, Window, Windowed};
