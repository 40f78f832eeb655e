//! The Flumen broker: partitions, cluster metadata, coordinators, server.
#![allow(dead_code)]

pub mod clock;
pub mod cluster;
pub mod config;
pub(crate) mod coordinator;
pub mod driver;
pub mod partition;
