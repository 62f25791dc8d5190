//! A proof of who a user is, for tests of what follows a login.

use auth_service::domain::password::{HashPolicy, Password};
use auth_service::domain::proof::Proof;
use auth_service::domain::user::UserId;
use verifier::UnixTime;

/// The proof of a user's first password, given at `at`.
pub(crate) fn proof(user: UserId, at: UnixTime) -> Proof {
    let policy = HashPolicy { memory_kib: 64, iterations: 1, parallelism: 1 };
    let password = Password::new("plum-tractor-cobalt-49".to_owned());
    let hash = policy.hash(&password, &[1; 16]).unwrap();
    let verification = policy.verify(&password, Some(&hash)).unwrap();
    Proof::by_password(user, 0, verification, at).unwrap()
}
