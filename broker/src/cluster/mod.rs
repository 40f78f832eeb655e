//! Cluster metadata: command → decide → records → append, flush → apply → reply.
pub(crate) mod controller;
pub mod image;
pub(crate) mod placement;
pub mod record;
