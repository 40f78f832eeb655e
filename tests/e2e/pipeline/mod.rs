//! File → topic → topology → PostgreSQL and file, every part a process of its own, and all of them die.
//!
//! The sink's table has no unique key: a row written twice stands there twice. Input, processes and what has to be true at the end are in `world.rs`;
//! `kills.rs` lets them die, `zombies.rs` lets them stand still and come back after their successors took over.

mod application;
mod kills;
mod world;
mod zombies;
