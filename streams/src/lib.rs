//! A typed Kafka Streams DSL on timely dataflow with RocksDB stores and exactly-once commits.
mod commit;
pub mod dataflow;
pub mod error;
mod operator;
mod position;
mod record;
pub mod serde;
pub mod state;
pub mod time;
mod topology;
mod window;

pub use error::{EngineError, SerdeError, TopologyError};
pub use operator::source::OnDeserializationError;
pub use record::{Headers, Record};
pub use time::TimestampExtractor;
pub use topology::{InternalTopic, Subtopology, TaskId, TopicRef, Topology};
pub use window::{TimeWindows, Window, Windowed};
