//! Private keys: generation, sealing, signing, and the key ring of a replica.

pub mod keyring;
pub mod material;
pub mod sealing;
pub mod signer;
