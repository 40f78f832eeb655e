//! The stages that nodes become. Each takes batches at its port and pushes batches to the port below; none names timely.

pub(crate) mod aggregate;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod stateless;
pub(crate) mod window;
