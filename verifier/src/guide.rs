//! Pages to read. There is no code in here.

#[doc = include_str!("../docs/checks.md")]
pub mod checks {}

#[doc = include_str!("../docs/migrating.md")]
pub mod migrating {}
