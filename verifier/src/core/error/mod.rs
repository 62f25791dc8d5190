//! Why a token is refused, and what to tell the client about it; why keys or revocations are missing.

mod build;
mod issuer;
mod reason;
mod refusal;

pub use build::BuildError;
pub use issuer::{FeedError, FetchError, JwksError};
pub use reason::Reason;
pub use refusal::{Missing, VerifyError};
