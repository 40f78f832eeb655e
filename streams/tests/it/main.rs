//! Topologies through the `TopologyTestDriver`: verbs, windows, errors, the description, and a model.

mod aggregates;
mod describe;
mod errors;
mod model;
mod stateless;
mod windows;
