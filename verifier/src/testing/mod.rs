//! An issuer with fresh keys, for the tests of services that check tokens.
//!
//! [`TestIssuer`] makes keys and tokens without a network: its [`verifier`](TestIssuer::verifier) has the
//! keys. [`MockIssuer`] serves key set and revocation feed on loopback, and rotates, revokes and fails on
//! command. Both make [`TestToken`]s, valid ones and ones with exactly one fault.
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
//! Keys are for `EdDSA` or `ES256`; `ring` cannot generate RSA keys.

pub(crate) mod clock;
mod issuer;
mod mock;
mod token;

pub use issuer::TestIssuer;
pub use mock::MockIssuer;
pub use token::TestToken;
