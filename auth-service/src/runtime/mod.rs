//! What lives as long as a replica does. No part knows the whole: [`app`] is built from the others.

pub mod app;
pub mod clock_guard;
pub mod drain;
pub mod feed;
pub mod hashing;
pub mod metric;
pub mod settings;
pub mod telemetry;
