//! What happens when something runs short or is away: the rest goes on, nothing grows without bound, what recovers does so by itself, and the log says it once.
//!
//! `disk.rs`: no space. `descriptors.rs`: no file descriptors. `connectors.rs`: a database that is slow or away, a connector that fails for ever.

mod connectors;
mod descriptors;
mod disk;
