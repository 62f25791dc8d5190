//! Guides. This module contains no code.

#[doc = include_str!("../docs/checks.md")]
pub mod checks {}

#[doc = include_str!("../docs/migrating.md")]
pub mod migrating {}
