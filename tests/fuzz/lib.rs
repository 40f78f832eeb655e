//! The entries of `tests/fuzz`, for libFuzzer: `make fuzz`. A package of its own, outside the workspace: its instrumentation is nobody else's.

pub mod entries;
