//! Passwords: their form, hashing, and limits on the cost of stored hashes. `strength.rs` has the rules for new ones.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash::phc};
use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use zeroize::Zeroizing;

/// A typed password in NFC, so that it is the same from every keyboard. Wiped from memory when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Normalises a typed password of any length.
    pub fn new(typed: String) -> Self {
        let typed = Zeroizing::new(typed);
        if is_nfc_quick(typed.chars()) == IsNormalized::Yes {
            return Self(typed);
        }
        // NFC at most triples the bytes (Unicode UAX #15). Growing the string would leave copies in memory.
        let mut composed = Zeroizing::new(String::with_capacity(typed.len() * 3));
        composed.extend(typed.nfc());
        Self(composed)
    }

    /// As it is compared and hashed.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// The cost of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashPolicy {
    /// Memory in KiB (`m`).
    pub memory_kib: u32,
    /// Passes over the memory (`t`).
    pub iterations: u32,
    /// Lanes (`p`).
    pub parallelism: u32,
}

/// Why a hash was not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashFailure {
    /// There is not enough memory.
    #[error("not enough memory for a password hash")]
    OutOfMemory,
    /// The stored text is not an argon2id hash.
    #[error("the stored password hash is malformed")]
    Malformed,
    /// The stored hash costs more than [`HashPolicy::MOST`].
    #[error("the stored password hash costs more than is allowed")]
    TooExpensive,
}

impl HashPolicy {
    /// The maximum cost of a stored hash, so that write access to a row is not enough to overload the
    /// machine.
    pub const MOST: Self = Self { memory_kib: 256 * 1024, iterations: 16, parallelism: 16 };

    const OUTPUT_LEN: usize = 32;

    /// The minimum number of iterations for `memory_kib`; `None` if the memory is too small for any number.
    ///
    /// Source: OWASP password storage cheat sheet, Argon2id.
    pub fn fewest_iterations(&self) -> Option<u32> {
        match self.memory_kib {
            47_104.. => Some(1),
            19_456.. => Some(2),
            12_288.. => Some(3),
            9_216.. => Some(4),
            7_168.. => Some(5),
            _ => None,
        }
    }

    /// Hashes a password at this cost; `salt` is 16 random bytes.
    pub fn hash(
        &self,
        password: &Password,
        salt: &[u8; 16],
        workspace: &mut Workspace,
    ) -> Result<PasswordHash, HashFailure> {
        let output = self.compute(password, salt, Self::OUTPUT_LEN, workspace)?;
        Ok(self.write(salt, &output))
    }

    /// A hash that matches no password but costs the same to check. A login without a user is checked against
    /// it, so that it takes the same time. No hash is computed to make it.
    pub fn dummy(&self) -> PasswordHash {
        self.write(&[0; 16], &[0; Self::OUTPUT_LEN])
    }

    /// Compares a password with the stored hash, at the cost of that hash. Without a stored hash, it computes
    /// one at the cost of this policy, so that the time does not reveal whether a hash is stored.
    pub fn verify(
        &self,
        password: &Password,
        stored: Option<&PasswordHash>,
        workspace: &mut Workspace,
    ) -> Result<Verification, HashFailure> {
        let Some(hash) = stored else {
            self.dummy().verify(password, workspace)?;
            return Ok(Verification { matches: false, needs_rehash: false });
        };
        Ok(Verification { matches: hash.verify(password, workspace)?, needs_rehash: hash.needs_rehash(self) })
    }

    fn compute(
        &self,
        password: &Password,
        salt: &[u8],
        length: usize,
        Workspace(workspace): &mut Workspace,
    ) -> Result<Vec<u8>, HashFailure> {
        let params = Params::new(self.memory_kib, self.iterations, self.parallelism, Some(length))
            .map_err(|_| HashFailure::Malformed)?;
        let (blocks, mut output) = (params.block_count(), vec![0; length]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        if workspace.len() != blocks {
            *workspace = Vec::new();
            workspace.try_reserve_exact(blocks).map_err(|_| HashFailure::OutOfMemory)?;
            workspace.resize(blocks, Block::default());
        }
        argon2
            .hash_password_into_with_memory(password.as_bytes(), salt, &mut output, workspace)
            .map_err(|_| HashFailure::Malformed)?;
        Ok(output)
    }

    fn write(&self, salt: &[u8], output: &[u8]) -> PasswordHash {
        use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
        let Self { memory_kib: m, iterations: t, parallelism: p } = self;
        let (salt, output) = (BASE64.encode(salt), BASE64.encode(output));
        PasswordHash(format!("$argon2id$v=19$m={m},t={t},p={p}${salt}${output}"))
    }
}

/// The memory in which hashes are computed. Whoever computes many keeps it: allocating 19 MiB for every hash fragments the heap, and a
/// replica with two hashing threads grows by 200 MiB.
#[derive(Default)]
pub struct Workspace(Vec<Block>);

impl Workspace {
    /// Releases the memory if it is larger than `policy` needs: a stored hash with another policy may have needed 256 MiB.
    pub fn release_beyond(&mut self, policy: &HashPolicy) {
        // A block is 1 KiB.
        if self.0.len() > policy.memory_kib as usize {
            self.0 = Vec::new();
        }
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workspace").field("kib", &self.0.len()).finish()
    }
}

/// A stored password hash: a PHC string. `Debug` does not show it, because it can be attacked offline.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// The result of comparing a password with a stored hash; only [`HashPolicy::verify`] creates one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    matches: bool,
    needs_rehash: bool,
}

impl Verification {
    /// Whether the password matches. Never true without a stored hash.
    pub fn matches(self) -> bool {
        self.matches
    }

    /// Whether the stored hash should be replaced with one of the current policy.
    pub fn needs_rehash(self) -> bool {
        self.needs_rehash
    }
}

impl PasswordHash {
    /// Wraps a stored hash; its form is checked on use.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The PHC string, for the database only.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the password matches the hash. Compares in constant time; the cost is that of the stored hash,
    /// at most [`HashPolicy::MOST`].
    pub fn verify(&self, password: &Password, workspace: &mut Workspace) -> Result<bool, HashFailure> {
        let stored = self.parse()?;
        let computed = stored.policy.compute(password, &stored.salt, stored.output.len(), workspace)?;
        Ok(computed.ct_eq(&stored.output).into())
    }

    /// Checks that the hash is well-formed and costs at most [`HashPolicy::MOST`].
    pub fn check(&self) -> Result<(), HashFailure> {
        self.parse().map(drop)
    }

    /// Whether the next login should replace the hash with one of `policy`.
    pub fn needs_rehash(&self, policy: &HashPolicy) -> bool {
        self.parse().map_or(true, |stored| {
            stored.policy != *policy || stored.output.len() < HashPolicy::OUTPUT_LEN || stored.salt.len() < 16
        })
    }

    fn parse(&self) -> Result<Stored, HashFailure> {
        let hash = phc::PasswordHash::new(&self.0).map_err(|_| HashFailure::Malformed)?;
        let is_argon2id = hash.algorithm == argon2::ARGON2ID_IDENT && hash.version == Some(19);
        let (true, Some(salt), Some(output)) = (is_argon2id, hash.salt, hash.hash) else {
            return Err(HashFailure::Malformed);
        };
        let params = Params::try_from(&hash).map_err(|_| HashFailure::Malformed)?;
        let policy = HashPolicy {
            memory_kib: params.m_cost(),
            iterations: params.t_cost(),
            parallelism: params.p_cost(),
        };
        let most = HashPolicy::MOST;
        if policy.memory_kib > most.memory_kib
            || policy.iterations > most.iterations
            || policy.parallelism > most.parallelism
        {
            return Err(HashFailure::TooExpensive);
        }
        if output.as_bytes().len() < 16 {
            return Err(HashFailure::Malformed);
        }
        Ok(Stored { policy, salt: salt.to_vec(), output: output.as_bytes().to_vec() })
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

struct Stored {
    policy: HashPolicy,
    salt: Vec<u8>,
    output: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: HashPolicy = HashPolicy { memory_kib: 64, iterations: 1, parallelism: 1 };

    fn password(text: &str) -> Password {
        Password::new(text.to_owned())
    }

    fn stored(text: &str) -> PasswordHash {
        PasswordHash::from_stored(text.to_owned())
    }

    #[test]
    fn only_the_password_that_was_hashed_matches() {
        let hash = CHEAP.hash(&password("plum tractor"), &[9; 16], &mut Workspace::default()).unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=64,t=1,p=1$CQkJCQkJCQkJCQkJCQkJCQ$"));
        assert_eq!(hash.verify(&password("plum tractor"), &mut Workspace::default()), Ok(true));
        for other in ["plum tractoR", "plum tractor ", "", "plum"] {
            assert_eq!(hash.verify(&password(other), &mut Workspace::default()), Ok(false), "{other:?}");
        }
    }

    #[test]
    fn hash_of_the_reference_implementation_verifies() {
        // `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 24`, from the README of
        // phc-winner-argon2.
        let hash =
            stored("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc");
        assert_eq!(hash.verify(&password("password"), &mut Workspace::default()), Ok(true));
    }

    #[test]
    fn composed_and_decomposed_input_is_one_password() {
        let hash = CHEAP
            .hash(&password("cre\u{300}me bru\u{302}le\u{301}e"), &[1; 16], &mut Workspace::default())
            .unwrap();
        assert_eq!(hash.verify(&password("crème brûlée"), &mut Workspace::default()), Ok(true));
        // NFC, not NFKC: a ligature is another character.
        assert_ne!(password("ﬁ").as_bytes(), password("fi").as_bytes());
    }

    #[test]
    fn dummy_costs_the_same_and_matches_nothing() {
        let policy = HashPolicy { memory_kib: 64, iterations: 3, parallelism: 2 };
        assert!(!policy.dummy().needs_rehash(&policy));
        assert_eq!(policy.dummy().verify(&password(""), &mut Workspace::default()), Ok(false));
        assert_eq!(
            policy.dummy().as_str().len(),
            policy.hash(&password("x"), &[0; 16], &mut Workspace::default()).unwrap().as_str().len()
        );
    }

    #[test]
    fn excessive_parameters_are_refused_without_hashing() {
        for parameters in
            ["m=262145,t=1,p=1", "m=64,t=17,p=1", "m=1024,t=1,p=17", "m=4294967295,t=4294967295,p=1"]
        {
            let hash =
                stored(&format!("$argon2id$v=19${parameters}$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8"));
            assert_eq!(
                hash.verify(&password("password"), &mut Workspace::default()),
                Err(HashFailure::TooExpensive),
                "{parameters}"
            );
            assert!(hash.needs_rehash(&CHEAP));
        }
    }

    #[test]
    fn memory_beyond_the_policy_is_released() {
        let mut workspace = Workspace::default();
        HashPolicy { memory_kib: 128, ..CHEAP }.dummy().verify(&password("x"), &mut workspace).unwrap();
        workspace.release_beyond(&CHEAP);
        assert_eq!(workspace.0.len(), 0);
        CHEAP.dummy().verify(&password("x"), &mut workspace).unwrap();
        workspace.release_beyond(&CHEAP);
        assert_eq!(workspace.0.len(), 64);
    }

    #[test]
    fn other_text_than_argon2id_is_malformed() {
        for text in [
            "",
            "!",
            "plaintext",
            "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
            "$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
            "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO0",
            "$argon2id$v=19$m=0,t=0,p=0$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8",
        ] {
            assert_eq!(
                stored(text).verify(&password("x"), &mut Workspace::default()),
                Err(HashFailure::Malformed),
                "{text}"
            );
        }
    }

    #[test]
    fn changed_policy_needs_a_rehash() {
        let hash = CHEAP.hash(&password("x"), &[0; 16], &mut Workspace::default()).unwrap();
        assert!(!hash.needs_rehash(&CHEAP));
        for other in [
            HashPolicy { memory_kib: 128, ..CHEAP },
            HashPolicy { iterations: 2, ..CHEAP },
            HashPolicy { parallelism: 2, ..CHEAP },
        ] {
            assert!(hash.needs_rehash(&other), "{other:?}");
        }
    }

    #[test]
    fn debug_shows_neither_password_nor_hash() {
        let shown = format!("{:?} {:?}", password("s3cret"), CHEAP.dummy());
        assert_eq!(shown, "Password(..) PasswordHash(..)");
    }
}
