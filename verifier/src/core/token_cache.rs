//! A cache of tokens whose signature was verified.
//!
//! A hit saves verifying the signature and parsing the claims, and nothing else: it needs the same bytes and
//! the signing key in the key set, and times and revocations are checked as for a new token. A lookup neither
//! locks nor allocates.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::core::claims::AccessClaims;
use crate::core::jwk::Kid;
use crate::core::key_set::{KeySet, VerifyingKey};

/// Longer tokens are not cached, so the number of entries bounds the memory: 1 to 4 KiB for each.
const MAX_TOKEN: usize = 2 * 1024;
/// A token may be in either of two sets of this many slots. So hardly any token is displaced while half of
/// the slots are free.
const WAYS: usize = 4;

/// A cache of bounded size.
pub(crate) struct TokenCache {
    /// A power of two of sets, of `WAYS` slots each.
    slots: Box<[Slot]>,
    /// Selects the slot to overwrite when all are occupied.
    turn: AtomicUsize,
}

/// Holds at most one token.
#[derive(Default)]
struct Slot {
    /// Part of the signature of the token that is or was here. A comparison with it avoids most reads of the
    /// entry, which is elsewhere in memory.
    letters: AtomicU64,
    entry: ArcSwapOption<Entry>,
}

/// The facts about a token that do not change.
pub(crate) struct Entry {
    token: Box<str>,
    pub(crate) registered: Arc<AccessClaims>,
    pub(crate) kid: Kid,
    thumbprint: Kid,
}

impl TokenCache {
    /// A cache for `capacity` tokens, rounded up to a power of two and to four.
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = capacity.clamp(WAYS, 1 << 24).next_power_of_two();
        Self {
            slots: std::iter::repeat_with(Slot::default).take(slots).collect(),
            turn: AtomicUsize::default(),
        }
    }

    /// The entry of exactly this token, if the key that signed it is still one of `keys`.
    pub(crate) fn find(&self, token: &str, keys: &KeySet) -> Option<Guard<Option<Arc<Entry>>>> {
        let letters = letters(token)?;
        let found = self.sets(letters).into_iter().flatten().find_map(|slot| {
            let may_be_it = slot.letters.load(Ordering::Relaxed) == letters;
            // Compares the whole token: an attacker could craft a token that shares a part with another
            // (CVE-2026-35039).
            may_be_it.then(|| slot.entry.load()).filter(|entry| holds(entry.as_ref(), token))
        })?;
        let entry = found.as_ref()?;
        // The issuer may have replaced the key under this `kid`.
        keys.find(entry.kid.as_str())
            .is_some_and(|key| *key.thumbprint() == entry.thumbprint)
            .then_some(found)
    }

    /// Stores that `key` signed `token`. One of two concurrent calls may have no effect.
    pub(crate) fn insert(&self, token: &str, registered: &Arc<AccessClaims>, key: &VerifyingKey) {
        let Some(letters) = letters(token) else { return };
        let entry = Entry {
            token: token.into(),
            registered: Arc::clone(registered),
            kid: key.kid().clone(),
            thumbprint: key.thumbprint().clone(),
        };
        let slot = self.slot_for(token, letters);
        slot.entry.store(Some(Arc::new(entry)));
        slot.letters.store(letters, Ordering::Relaxed);
    }

    /// The slot for a token: the one it already has, or one in the set with more free slots.
    fn slot_for(&self, token: &str, letters: u64) -> &Slot {
        let sets = self.sets(letters);
        if let Some(own) = sets.into_iter().flatten().find(|slot| holds(slot.entry.load().as_ref(), token)) {
            return own;
        }
        let is_free = |slot: &&Slot| slot.entry.load().is_none();
        let free = |set: &[Slot]| set.iter().filter(is_free).count();
        let [one, other] = sets;
        let set = if free(one) >= free(other) { one } else { other };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % WAYS;
        set.iter().find(is_free).unwrap_or(&set[turn])
    }

    /// The two sets that may hold a token with this signature part.
    fn sets(&self, letters: u64) -> [&[Slot]; 2] {
        let sets = self.slots.len() / WAYS;
        [0x9E37_79B9_7F4A_7C15_u64, 0xC2B2_AE3D_27D4_EB4F].map(|factor| {
            // The values differ in their low bits; the multiplication carries them into the high ones.
            let mixed = usize::try_from(letters.wrapping_mul(factor) >> 40).unwrap_or_default();
            let set = mixed & (sets - 1);
            &self.slots[set * WAYS..(set + 1) * WAYS]
        })
    }
}

fn holds(entry: Option<&Arc<Entry>>, token: &str) -> bool {
    entry.is_some_and(|entry| *entry.token == *token)
}

/// Eight characters of the signature, which are practically random. `None`: tokens of this length are not
/// cached.
fn letters(token: &str) -> Option<u64> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    // Not the last characters: an Ed25519 signature ends in bits that are always zero.
    token.as_bytes().last_chunk::<32>()?.first_chunk::<8>().map(|letters| u64::from_le_bytes(*letters))
}

/// Does not print tokens.
impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("capacity", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Entry {
    /// The encoded claims.
    pub(crate) fn claims(&self) -> &str {
        self.token.split('.').nth(1).unwrap_or_default()
    }
}

/// A `C` that does not read its input, such as `NoExtra`; `None` for any other. With it a hit, the hot path
/// of the cache, does not decode the claims for nothing.
pub(crate) fn without_input<C: DeserializeOwned>() -> Option<C> {
    let was_asked = Cell::new(false);
    let made = C::deserialize(Untouched(&was_asked)).ok()?;
    (!was_asked.get()).then_some(made)
}

/// An empty input that records whether it was read.
struct Untouched<'a>(&'a Cell<bool>);

impl<'de> Deserializer<'de> for Untouched<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        self.0.set(true);
        Err(serde::de::Error::custom("asked"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::claims::NoExtra;
    use crate::core::time::UnixTime;
    use crate::testing::TestIssuer;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    #[derive(serde::Deserialize)]
    struct Wanting {
        #[expect(dead_code, reason = "only its being read matters")]
        tenant: Option<u32>,
    }

    /// Swallows every error, so that it can always be made.
    struct Lenient;

    impl<'de> serde::Deserialize<'de> for Lenient {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let _ = Wanting::deserialize(deserializer);
            Ok(Self)
        }
    }

    fn keys(issuer: &TestIssuer) -> KeySet {
        KeySet::from_jwks(&issuer.jwks()).unwrap()
    }

    #[test]
    fn only_types_that_do_not_read_are_made_without_input() {
        assert_eq!(without_input::<NoExtra>(), Some(NoExtra));
        assert!(without_input::<Wanting>().is_none());
        assert!(without_input::<Lenient>().is_none());
        assert!(without_input::<Option<u32>>().is_none());
    }

    #[test]
    fn ten_times_its_capacity_does_not_grow_it() {
        let issuer = TestIssuer::new("https://auth.example.com", "api");
        let keys = keys(&issuer);
        let key = keys.find(issuer.jwk().kid().as_str()).unwrap();
        let cache = TokenCache::new(256);
        let registered = Arc::new(issuer.claims(NOW));
        let tokens: Vec<_> =
            (0..2560_u32).map(|number| issuer.sign_bytes(number.to_le_bytes(), "claims")).collect();
        for token in &tokens {
            cache.insert(token, &registered, key);
            assert!(cache.find(token, &keys).is_some(), "the newest is always cached");
        }
        let held = tokens.iter().filter(|token| cache.find(token, &keys).is_some()).count();
        assert_eq!(cache.slots.len(), 256);
        // Every set was chosen often enough to be full.
        assert_eq!(held, 256);
        assert_eq!(Arc::strong_count(&registered), 257);
    }

    #[test]
    fn half_full_cache_displaces_hardly_any_token() {
        let issuer = TestIssuer::new("https://auth.example.com", "api");
        let keys = keys(&issuer);
        let key = keys.find(issuer.jwk().kid().as_str()).unwrap();
        let cache = TokenCache::new(4096);
        let registered = Arc::new(issuer.claims(NOW));
        let tokens: Vec<_> =
            (0..2048_u32).map(|number| issuer.sign_bytes(number.to_le_bytes(), "claims")).collect();
        for token in &tokens {
            cache.insert(token, &registered, key);
        }
        let held = tokens.iter().filter(|token| cache.find(token, &keys).is_some()).count();
        assert!(held >= 2038, "{held} of 2048");
    }

    #[test]
    fn token_takes_one_slot() {
        let issuer = TestIssuer::new("https://auth.example.com", "api");
        let keys = keys(&issuer);
        let key = keys.find(issuer.jwk().kid().as_str()).unwrap();
        let cache = TokenCache::new(1);
        let registered = Arc::new(issuer.claims(NOW));
        let tokens: Vec<_> =
            (0..4_u32).map(|number| issuer.sign_bytes(number.to_le_bytes(), "claims")).collect();
        for token in tokens.iter().chain(&tokens).chain(&tokens[..1]) {
            cache.insert(token, &registered, key);
        }
        assert!(tokens.iter().all(|token| cache.find(token, &keys).is_some()));
    }

    #[test]
    fn very_long_and_very_short_tokens_are_not_cached() {
        let issuer = TestIssuer::new("https://auth.example.com", "api");
        let keys = keys(&issuer);
        let key = keys.find(issuer.jwk().kid().as_str()).unwrap();
        let cache = TokenCache::new(64);
        let registered = Arc::new(issuer.claims(NOW));
        for (length, is_held) in [(31, false), (32, true), (2048, true), (2049, false)] {
            let token = "a".repeat(length);
            cache.insert(&token, &registered, key);
            assert_eq!(cache.find(&token, &keys).is_some(), is_held, "{length}");
        }
    }
}
