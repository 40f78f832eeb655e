//! Turns message shapes into the Rust of flumen-protocol.
