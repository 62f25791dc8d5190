//! What users prove about who they are. Only a [`Proof`] starts a session.

use verifier::UnixTime;

use super::password::Verification;
use super::user::UserId;

/// A way to prove who one is, in the words of RFC 8176.
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

/// A user who proved who they are, how, and when. Each method has its own constructor, and there is no other way to get one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    user: UserId,
    credential_version: i64,
    methods: Vec<Method>,
    at: UnixTime,
}

impl Proof {
    /// The proof of a password, if it matched the stored hash of this credential version. `at` is the time on the shared clock.
    pub fn by_password(
        user: UserId,
        credential_version: i64,
        verification: Verification,
        at: UnixTime,
    ) -> Option<Self> {
        let methods = vec![Method::Password];
        verification.matches().then_some(Self { user, credential_version, methods, at })
    }

    /// Who proved it.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The version of the credentials that were checked. If they changed since, the proof is void.
    pub fn credential_version(&self) -> i64 {
        self.credential_version
    }

    /// When it was proved: the claim `auth_time`.
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
