//! Hand-made histories: for each anomaly one that shows it, and for each the legal ones that look like it.

mod groups;
mod liveness;
mod reads;
mod scale;
mod transactions;
mod values;
