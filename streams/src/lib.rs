//! A typed Kafka Streams DSL on timely dataflow with RocksDB stores and exactly-once commits.
pub mod state;
