//! Seeds that found something. They run before all others.

/// The seed, and what it found.
pub(crate) const REGRESSIONS: &[(u64, &str)] = &[];
