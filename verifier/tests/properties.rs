//! Whatever is done to a good token, or to the text of a key set, nothing unsigned is accepted and nothing
//! panics.

mod common;

use common::{AUDIENCE, ISSUER, NOW};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use verifier::testing::TestIssuer;
use verifier::{Expected, KeySet, NoExtra};

/// One thing that can happen to the bytes of a text.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
    Truncate(Index),
    Swap(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || any::<Index>();
    prop_oneof![
        (at(), 0..7_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), 0..0x7f_u8).prop_map(|(at, byte)| Change::Insert(at, byte)),
        at().prop_map(Change::Remove),
        (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        at().prop_map(Change::Truncate),
        (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
    ]
}

fn apply(text: &str, changes: &[Change]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match change {
            Change::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Change::Insert(at, byte) => bytes.insert(at.index(length), *byte),
            Change::Remove(at) => drop(bytes.remove(at.index(length))),
            Change::Repeat(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend(piece);
            }
            Change::Truncate(at) => bytes.truncate(at.index(length)),
            Change::Swap(one, other) => bytes.swap(one.index(length), other.index(length)),
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_token_is_never_accepted(changes in vec(change(), 1..4), es256 in any::<bool>()) {
        let issuer = if es256 { TestIssuer::es256(ISSUER, AUDIENCE) } else { TestIssuer::new(ISSUER, AUDIENCE) };
        let keys = KeySet::from_jwks(&issuer.jwks()).unwrap();
        let good = issuer.sign(&issuer.claims(NOW));
        let changed = apply(&good, &changes);
        let answer = Expected::new(ISSUER, [AUDIENCE]).verify::<NoExtra>(&changed, &keys, NOW);
        prop_assert_eq!(answer.is_ok(), changed == good);
    }

    #[test]
    fn parts_of_two_tokens_make_no_third(choice in vec(any::<bool>(), 3)) {
        let issuer = TestIssuer::new(ISSUER, AUDIENCE);
        let keys = KeySet::from_jwks(&issuer.jwks()).unwrap();
        let mut other = issuer.claims(NOW);
        other.sub = "mallory".into();
        let tokens = [issuer.sign(&issuer.claims(NOW)), issuer.sign(&other)];
        let part = |index: usize| tokens[usize::from(choice[index])].split('.').nth(index).unwrap();
        let spliced = [part(0), part(1), part(2)].join(".");
        let answer = Expected::new(ISSUER, [AUDIENCE]).verify::<NoExtra>(&spliced, &keys, NOW);
        prop_assert_eq!(answer.is_ok(), choice[1] == choice[2]);
    }

    #[test]
    fn any_text_is_refused_without_a_panic(token in "[A-Za-z0-9_.=+/ \\-]{0,300}", header in ".*", claims in ".*") {
        let issuer = TestIssuer::new(ISSUER, AUDIENCE);
        let keys = KeySet::from_jwks(&issuer.jwks()).unwrap();
        let expected = Expected::new(ISSUER, [AUDIENCE]);
        prop_assert!(expected.verify::<NoExtra>(&token, &keys, NOW).is_err());
        prop_assert!(expected.verify::<NoExtra>(&issuer.sign_bytes(header, claims), &keys, NOW).is_err());
    }

    #[test]
    fn changed_key_set_never_lends_a_name_to_another_key(changes in vec(change(), 1..6)) {
        let issuer = TestIssuer::new(ISSUER, AUDIENCE);
        let document = serde_json::to_string(&issuer.jwks()).unwrap();
        let token = issuer.sign(&issuer.claims(NOW));
        if let Ok(keys) = KeySet::parse(apply(&document, &changes).as_bytes()) {
            let stranger = TestIssuer::new(ISSUER, AUDIENCE);
            let header = serde_json::json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": issuer.jwk().kid() });
            let claims = serde_json::to_string(&issuer.claims(NOW)).unwrap();
            let forged = stranger.sign_bytes(header.to_string(), claims);
            let expected = Expected::new(ISSUER, [AUDIENCE]);
            let _ = expected.verify::<NoExtra>(&token, &keys, NOW);
            prop_assert!(expected.verify::<NoExtra>(&forged, &keys, NOW).is_err());
        }
    }
}
