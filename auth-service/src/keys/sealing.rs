//! Secrets encrypted at rest under a master key that the database never sees.
//!
//! A sealed value is `id.base64url(nonce ‖ ciphertext ‖ tag)`, AES-256-GCM with a random 96-bit nonce. `id`
//! names the master key, and the associated data names the row and the purpose, so that rows cannot be
//! swapped (docs/protocols.md, "Storage and sealing").

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use zeroize::Zeroizing;

use crate::domain::hex;
use crate::entropy::{Entropy, EntropyError};

/// The length of a master key in bytes.
pub const MASTER_KEY_LEN: usize = 32;

/// The master keys of a replica: the first one seals, all of them open.
pub struct MasterKeys(Vec<MasterKey>);

struct MasterKey {
    id: String,
    key: LessSafeKey,
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

/// Why a list of master keys is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MasterKeyError {
    /// The list is empty.
    #[error(
        "it contains no key; add a line with 32 random bytes in base64: `head -c 32 /dev/urandom | base64`"
    )]
    Empty,
    /// A line is not a key. The error contains the line number, never the content.
    #[error("line {line} is not 32 bytes in base64")]
    BadLine {
        /// Counted from 1.
        line: usize,
    },
    /// Duplicate key.
    #[error("line {line} repeats an earlier key")]
    Repeated {
        /// Counted from 1.
        line: usize,
    },
}

/// Why a sealed value was not opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// It is sealed under a master key that this replica does not have.
    #[error("sealed under master key {0}, which this replica does not have; add it to the master key file")]
    UnknownMasterKey(String),
    /// It was altered or belongs to another row.
    #[error("the sealed value was altered or belongs to another row")]
    Altered,
}

impl MasterKeys {
    /// Parses keys, one per line, each 32 bytes in base64; empty lines are skipped.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            if line.trim().is_empty() {
                continue;
            }
            let mut bytes = Zeroizing::new([0; MASTER_KEY_LEN + 4]);
            let len = STANDARD.decode_slice(line.trim(), bytes.as_mut_slice()).unwrap_or(0);
            if len != MASTER_KEY_LEN {
                return Err(MasterKeyError::BadLine { line: line_number });
            }
            let key = MasterKey::new(&bytes[..MASTER_KEY_LEN]);
            if keys.iter().any(|known| known.id == key.id) {
                return Err(MasterKeyError::Repeated { line: line_number });
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(MasterKeyError::Empty) } else { Ok(Self(keys)) }
    }

    /// A new random key as text, in the form that [`parse`](Self::parse) accepts.
    pub fn generate(entropy: &dyn Entropy) -> Result<Zeroizing<String>, EntropyError> {
        let mut bytes = Zeroizing::new([0; MASTER_KEY_LEN]);
        entropy.fill(bytes.as_mut_slice())?;
        Ok(Zeroizing::new(format!("{}\n", STANDARD.encode(bytes.as_slice()))))
    }

    /// Seals `secret` under the first key. `row` names the table and the row; `purpose` names the use.
    pub fn seal(
        &self,
        secret: &[u8],
        row: &str,
        purpose: &str,
        entropy: &dyn Entropy,
    ) -> Result<String, EntropyError> {
        let master = &self.0[0];
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + secret.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        let mut text = secret.to_vec();
        master
            .key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated(row, purpose)),
                &mut text,
            )
            .expect("a key is far shorter than the 64 GiB limit of AES-GCM");
        sealed.append(&mut text);
        Ok(format!("{}.{}", master.id, URL_SAFE_NO_PAD.encode(&sealed)))
    }

    /// Opens a value that was [sealed](Self::seal) for the same row and purpose.
    pub fn open(&self, sealed: &str, row: &str, purpose: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (id, encoded) = sealed.split_once('.').ok_or(OpenError::Altered)?;
        let master = self
            .0
            .iter()
            .find(|key| key.id == id)
            .ok_or_else(|| OpenError::UnknownMasterKey(id.chars().take(16).collect()))?;
        let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| OpenError::Altered)?);
        let (nonce, text) = bytes.split_first_chunk_mut::<NONCE_LEN>().ok_or(OpenError::Altered)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = master
            .key
            .open_in_place(nonce, Aad::from(associated(row, purpose)), text)
            .map_err(|_| OpenError::Altered)?;
        Ok(Zeroizing::new(opened.to_vec()))
    }

    /// Whether a value is sealed under the first key and needs no resealing.
    pub fn is_current(&self, sealed: &str) -> bool {
        sealed.split_once('.').is_some_and(|(id, _)| id == self.0[0].id)
    }
}

impl MasterKey {
    fn new(bytes: &[u8]) -> Self {
        let mut input = Zeroizing::new(b"auth-service master key id".to_vec());
        input.extend_from_slice(bytes);
        let id = hex(&digest::digest(&digest::SHA256, &input).as_ref()[..4]);
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("the length was checked by the caller");
        Self { id, key: LessSafeKey::new(key) }
    }
}

fn associated(row: &str, purpose: &str) -> Vec<u8> {
    // Neither part contains NUL, so different pairs give different bytes.
    [row.as_bytes(), b"\0", purpose.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    fn master(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| STANDARD.encode([*byte; MASTER_KEY_LEN]) + "\n").collect()
    }

    #[test]
    fn first_key_seals_and_all_open() {
        let (old, both) =
            (MasterKeys::parse(&master(&[1])).unwrap(), MasterKeys::parse(&master(&[2, 1])).unwrap());
        let sealed = old.seal(b"secret", "keys/a", "sign", &SystemEntropy::new()).unwrap();
        assert_eq!(both.open(&sealed, "keys/a", "sign").unwrap().as_slice(), b"secret");
        assert!(old.is_current(&sealed) && !both.is_current(&sealed));
        let resealed = both.seal(b"secret", "keys/a", "sign", &SystemEntropy::new()).unwrap();
        assert!(matches!(old.open(&resealed, "keys/a", "sign"), Err(OpenError::UnknownMasterKey(_))));
    }

    #[test]
    fn value_of_another_row_or_purpose_does_not_open() {
        let keys = MasterKeys::parse(&master(&[1])).unwrap();
        let sealed = keys.seal(b"secret", "keys/a", "sign", &SystemEntropy::new()).unwrap();
        assert_eq!(keys.open(&sealed, "keys/b", "sign").err(), Some(OpenError::Altered));
        assert_eq!(keys.open(&sealed, "keys/a", "mac").err(), Some(OpenError::Altered));
    }

    #[test]
    fn broken_lists_are_refused_by_line() {
        assert_eq!(MasterKeys::parse("\n").err(), Some(MasterKeyError::Empty));
        assert_eq!(
            MasterKeys::parse(&(master(&[1]) + "c2hvcnQ=\n")).err(),
            Some(MasterKeyError::BadLine { line: 2 })
        );
        assert_eq!(MasterKeys::parse(&master(&[1, 1])).err(), Some(MasterKeyError::Repeated { line: 2 }));
    }
}
