//! Topologies through the `TopologyTestDriver`: verbs, windows, errors, the description, and a model.

#![allow(clippy::unwrap_used, reason = "tests; helpers too")]

mod aggregates;
mod describe;
mod errors;
mod model;
mod stateless;
mod windows;
