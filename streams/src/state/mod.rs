//! State of the stateful operators: where rows lie, and how they come back after a crash.

pub mod backend;
pub mod key;
pub mod memory;
pub mod rocks;

pub use backend::{Batch, StateBackend, StateError};
