//! Proof of a user's identity. Only a [`Proof`] can start a session.

use verifier::UnixTime;

use super::password::Verification;
use super::user::UserId;

/// An authentication method, with its name in RFC 8176.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A password.
    Password,
}

impl Method {
    /// The name in the claim `amr` and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "pwd",
        }
    }
}

/// An authenticated user, with methods and time. Each method has its own constructor; a proof cannot be made
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    user: UserId,
    credential_version: i64,
    methods: Vec<Method>,
    at: UnixTime,
}

impl Proof {
    /// The proof by a password that was compared with the stored hash of this credential version. `None`
    /// unless it `matches`.
    pub fn by_password(
        user: UserId,
        credential_version: i64,
        verification: Verification,
        at: UnixTime,
    ) -> Option<Self> {
        let methods = vec![Method::Password];
        verification.matches().then_some(Self { user, credential_version, methods, at })
    }

    /// The authenticated user.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The version of the checked credentials. If they have changed since, the proof is void.
    pub fn credential_version(&self) -> i64 {
        self.credential_version
    }

    /// When the user authenticated: the claim `auth_time`.
    pub fn at(&self) -> UnixTime {
        self.at
    }

    /// The methods, separated by spaces: the claim `amr` as the session stores it.
    pub fn amr(&self) -> String {
        self.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::password::{HashPolicy, Password};

    #[test]
    fn only_a_matching_password_is_a_proof() {
        let (user, at) = (UserId::from_random([1; 16]), UnixTime(1_000));
        let policy = HashPolicy { memory_kib: 64, iterations: 1, parallelism: 1 };
        let password = |text: &str| Password::new(text.to_owned());
        let hash = policy.hash(&password("plum"), &[1; 16]).unwrap();
        let proof = |text, stored| {
            let verification = policy.verify(&password(text), stored).unwrap();
            Proof::by_password(user, 3, verification, at)
        };
        assert_eq!(proof("peach", Some(&hash)), None);
        assert_eq!(proof("plum", None), None);
        let proof = proof("plum", Some(&hash)).unwrap();
        assert_eq!((proof.user(), proof.credential_version(), proof.at()), (user, 3, at));
        assert_eq!(proof.amr(), "pwd");
    }
}
