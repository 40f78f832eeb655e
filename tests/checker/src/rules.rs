//! The rules, one file for each family. Each reads the facts and adds what it finds.

pub(crate) mod circles;
pub(crate) mod fencing;
pub(crate) mod liveness;
pub(crate) mod marks;
pub(crate) mod members;
pub(crate) mod offsets;
pub(crate) mod order;
pub(crate) mod polls;
pub(crate) mod transactions;
pub(crate) mod values;
