//! An issuer with fresh keys, for the tests of services that check tokens.
//!
//! [`TestIssuer`] is keys and tokens, without a network: its [`verifier`](TestIssuer::verifier) knows the keys.
//! [`MockIssuer`] serves them on loopback, key set and revocation feed, rotates, revokes and fails on demand.
//! Both make [`TestToken`]s, good ones and such that are wrong in one thing.
//!
//! ```
//! use verifier::testing::TestIssuer;
//! use verifier::{NoExtra, Reason, VerifyError};
//!
//! let issuer = TestIssuer::new("https://auth.example.com", "orders-api");
//! let verifier = issuer.verifier().build().unwrap();
//!
//! let token = issuer.token().subject("bob").permission("orders:read").sign();
//! assert!(verifier.verify_now::<NoExtra>(&token).unwrap().has_permission("orders:read"));
//!
//! let token = issuer.token().wrong_audience().sign();
//! assert_eq!(verifier.verify_now::<NoExtra>(&token).unwrap_err(), VerifyError::Invalid(Reason::WrongAudience));
//! ```
//!
//! Keys are for `EdDSA` or `ES256`. RSA keys cannot be made here: `ring` does not generate them.

pub(crate) mod clock;
mod issuer;
mod mock;
mod token;

pub use issuer::TestIssuer;
pub use mock::MockIssuer;
pub use token::TestToken;
