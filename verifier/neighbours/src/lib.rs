//! Nothing of its own: see `tests/`.

pub use verifier;
