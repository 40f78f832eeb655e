//! One partition of a topic on this broker.
pub(crate) mod leader;
pub mod pending;
