//! The parts that live as long as a replica. [`app`] is built from the others, which do not know it.

pub mod app;
pub mod clock_guard;
pub mod drain;
pub mod feed;
pub mod hashing;
pub mod metric;
pub mod settings;
pub mod telemetry;
pub mod waiting_room;
