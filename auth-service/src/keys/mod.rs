//! Private keys: made, sealed, opened, used to sign.

pub mod keyring;
pub mod material;
pub mod sealing;
pub mod signer;
