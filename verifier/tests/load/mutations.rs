//! Whatever is done to good tokens and to key sets, nothing unsigned is accepted, nothing weak is trusted and
//! nothing panics. A million tokens and a hundred thousand key sets, other ones in every run; the fuzz
//! targets in `fuzz/` ask the same questions with a guided search.

use std::collections::HashSet;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use ring::rand::SecureRandom;
use serde_json::{Value, json};
use testkit::lab::{Lab, Signer, claims, encode, with};
use testkit::mutate::Dice;
use testkit::{AUDIENCE, ISSUER, NOW};
use testkit::{lab, mutate, targets};
use verifier::{Expected, KeySet, NoExtra, Seconds};

use crate::all_cpus;

const TOKENS: usize = 1_000_000;
const KEY_SETS: usize = 100_000;
const CLAIMS: usize = 100_000;
const DOCUMENTS: usize = 20_000;

/// What parsers of tokens and keys have stumbled over.
const WORDS: [&[u8]; 40] = [
    b".",
    b"..",
    b"=",
    b"==",
    b"-",
    b"_",
    b"+",
    b"/",
    b"\0",
    b"\n",
    b" ",
    b"\"",
    b"\\",
    b"\\u0061",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"-1",
    b"1e400",
    b"0",
    b"AAAA",
    b"AQAB",
    b"e30",
    b"none",
    b"HS256",
    b"RS256",
    b"ES256",
    b"EdDSA",
    b"Ed25519",
    b"\"crit\":[\"b64\"],",
    b"\"alg\":\"none\",",
    b"\"kid\":\"x\",",
    b"\"d\":\"AA\",",
    b"\"use\":\"enc\",",
    b"\xff",
];

/// Prints what was being looked at when something panics.
struct Shown<'d>(u64, &'d [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("seed {}: {}", self.0, self.1.escape_ascii());
        }
    }
}

/// `work(dice, seed)` `count` times, spread over the processors: how often it said yes.
fn spread(count: usize, work: impl Fn(&mut Dice, u64) -> bool + Sync) -> usize {
    let threads = thread::available_parallelism().unwrap().get();
    let mut seed = [0; 8];
    lab::random().fill(&mut seed).unwrap();
    let seed = u64::from_le_bytes(seed);
    println!("seed {seed}");
    let work = &work;
    thread::scope(|scope| {
        let share = |thread: usize| {
            move || {
                let mut dice = Dice::new(seed ^ thread as u64);
                (thread..count).step_by(threads).filter(|_| work(&mut dice, seed)).count()
            }
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(share(thread))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// Good tokens of one key that differ in everything that may differ.
fn tokens(signer: &Signer) -> Vec<String> {
    let other_header = with(signer.header(), "typ", "application/at+jwt".into());
    vec![
        signer.good(),
        signer.with_claims(with(claims(), "sub", "mallory".into()).to_string()),
        signer.with_claims(with(claims(), "scope", "admin".into()).to_string()),
        signer.with_header(&other_header),
    ]
}

/// Another text than `good`, mostly.
fn mutated(dice: &mut Dice, good: &str, others: &[String]) -> String {
    let other = &others[dice.below(others.len())];
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    let at = dice.below(3);
    match dice.below(10) {
        // Parts of two tokens.
        0 => other.split('.').nth(at).unwrap().clone_into(&mut parts[at]),
        1 => other.split('.').nth(dice.below(3)).unwrap().clone_into(&mut parts[at]),
        2 => drop(parts.remove(at)),
        3 => parts.insert(at, parts[dice.below(3)].clone()),
        // The same bytes, spelt otherwise.
        4 => {
            let bytes = URL_SAFE_NO_PAD.decode(&parts[at]).unwrap();
            parts[at] = match dice.below(3) {
                0 => URL_SAFE.encode(bytes),
                1 => STANDARD.encode(bytes),
                _ => encode(encode(bytes)),
            };
        }
        // Other bytes in one part, spelt well.
        5 | 6 => {
            let mut bytes = URL_SAFE_NO_PAD.decode(&parts[at]).unwrap();
            let lent = URL_SAFE_NO_PAD.decode(other.split('.').nth(at).unwrap()).unwrap();
            mutate::bytes(dice, &mut bytes, &lent, &WORDS);
            parts[at] = encode(bytes);
        }
        // Another member in the header or the claims.
        7 => {
            let part = at % 2;
            let mut object: Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&parts[part]).unwrap()).unwrap();
            let name =
                dice.pick(&["alg", "kid", "typ", "crit", "jwk", "sub", "exp", "iss", "aud", "scope", "b64"]);
            object[name] = [
                Value::Null,
                json!("none"),
                json!("HS256"),
                json!("RS256"),
                json!("ES256"),
                json!(["exp"]),
                json!(i64::MAX),
                json!("admin"),
                json!({}),
            ][dice.below(9)]
            .clone();
            parts[part] = encode(object.to_string());
            if dice.below(4) == 0 {
                parts[2].clear();
            }
        }
        // Any change to the text.
        _ => {
            let mut bytes = good.as_bytes().to_vec();
            mutate::bytes(dice, &mut bytes, other.as_bytes(), &WORDS);
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    parts.join(".")
}

#[test]
fn no_changed_token_is_accepted() {
    let _cpus = all_cpus();
    let lab = Lab::new();
    let keys = lab.keys();
    let expected = Expected::new(ISSUER, [AUDIENCE]).with_leeway(Seconds(0));
    let families: Vec<Vec<String>> = lab.signers.iter().map(tokens).collect();
    let good: HashSet<&str> = families.iter().flatten().map(String::as_str).collect();
    assert!(good.iter().all(|token| expected.verify::<NoExtra>(token, &keys, NOW).is_ok()));
    let checked = spread(TOKENS, |dice, seed| {
        // Ed25519 is the cheapest to check; one in eight for each of the others.
        let family = &families[[0, 0, 0, 0, 0, 0, 1, 2][dice.below(8)]];
        let lenders = [family, family, family, &families[dice.below(3)]][dice.below(4)];
        let good_one = &family[dice.below(family.len())];
        let token = mutated(dice, good_one, lenders);
        let _shown = Shown(seed, token.as_bytes());
        let answer = expected.verify::<NoExtra>(&token, &keys, NOW);
        assert_eq!(answer.is_ok(), good.contains(token.as_str()), "keys: {:?}", lab.jwks());
        answer.is_err_and(|error| error.label() == "bad_signature")
    });
    assert!(
        checked > TOKENS / 4,
        "only {checked} of {TOKENS} were good enough to have their signature checked"
    );
}

/// A key set as an issuer might publish it, with what else may stand in one.
fn key_sets(lab: &Lab) -> Vec<Vec<u8>> {
    let jwk = |signer: &Signer| serde_json::to_value(&signer.jwk).unwrap();
    let [one, two, three] = [0, 1, 2].map(|index| jwk(&lab.signers[index]));
    let [four, five, six] = [0, 1, 2].map(|index| jwk(&lab.strangers[index]));
    let secret = json!({ "kid": "secret", "kty": "oct", "alg": "HS256", "k": "AAAA" });
    let future = json!({ "kid": "future", "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" });
    let neutral =
        with(with(one.clone(), "x", encode([&[1][..], &[0; 31]].concat()).into()), "kid", "neutral".into());
    [
        json!({ "keys": [one] }),
        json!({ "keys": [one, two, three], "keys_version": 7 }),
        json!({ "keys": [four, secret, five, future, six, neutral] }),
        json!({ "keys": [with(with(one, "key_ops", json!(["verify"])), "x5c", json!(["AA"])), secret] }),
    ]
    .iter()
    .map(|set| set.to_string().into_bytes())
    .collect()
}

/// Moves, takes away and repeats members among the keys.
fn shuffled(dice: &mut Dice, set: &[u8]) -> Vec<u8> {
    let mut set: Value = serde_json::from_slice(set).unwrap();
    let keys = set["keys"].as_array_mut().unwrap();
    for _ in 0..=dice.below(3) {
        let (from, to) = (dice.below(keys.len()), dice.below(keys.len()));
        let name = dice.pick(&["kid", "kty", "alg", "crv", "x", "y", "n", "e", "use", "key_ops", "d", "k"]);
        match dice.below(4) {
            0 => keys[to][name] = keys[from][name].clone(),
            1 => drop(keys[to].as_object_mut().unwrap().remove(name)),
            2 => keys.push(keys[from].clone()),
            _ => {
                let mut bytes = keys[from][name].as_str().unwrap_or_default().as_bytes().to_vec();
                mutate::bytes(dice, &mut bytes, b"AQAB", &WORDS);
                keys[to][name] = String::from_utf8_lossy(&bytes).into();
            }
        }
    }
    set.to_string().into_bytes()
}

#[test]
fn no_changed_key_set_yields_a_key_that_must_not_be_used() {
    let _cpus = all_cpus();
    let sets = key_sets(&Lab::new());
    assert!(sets.iter().all(|set| KeySet::parse(set).is_ok_and(|keys| !keys.is_empty())));
    let usable = spread(KEY_SETS, |dice, seed| {
        let (set, other) = (&sets[dice.below(sets.len())], &sets[dice.below(sets.len())]);
        let mut data = if dice.below(2) == 0 { shuffled(dice, set) } else { set.clone() };
        if dice.below(3) > 0 {
            mutate::bytes(dice, &mut data, other, &WORDS);
        }
        let _shown = Shown(seed, &data);
        targets::parse_jwks(&data)
    });
    assert!(usable > KEY_SETS / 4, "only {usable} of {KEY_SETS} had a usable key left");
}

/// The same, with a good signature over what was changed: read to the end, and accepted only if it says all
/// it must.
#[test]
fn no_changed_claims_are_accepted_unless_they_are_complete() {
    let _cpus = all_cpus();
    let header = |index: usize| {
        let issuer = &targets::Bench::get().issuers[index];
        json!({ "typ": "at+jwt", "alg": issuer.algorithm(), "kid": issuer.jwk().kid() }).to_string()
    };
    let more = with(with(claims(), "roles", json!(["a"])), "note", json!({ "a": [1, 2.5, null] }));
    let texts = [
        format!("{}\n{}", header(0), claims()).into_bytes(),
        format!("{}\n{more}", header(1)).into_bytes(),
        claims().to_string().into_bytes(),
        more.to_string().into_bytes(),
    ];
    let accepted = spread(CLAIMS, |dice, seed| {
        let mut data = texts[dice.below(4)].clone();
        let other = &texts[dice.below(4)];
        mutate::bytes(dice, &mut data, other, &WORDS);
        let _shown = Shown(seed, &data);
        targets::parse_token(&data)
    });
    assert!(accepted > CLAIMS / 50, "only {accepted} of {CLAIMS} were still accepted");
}

/// With a good signature, too. What happens to documents of which the signature is not good,
/// `feed_properties.rs` asks.
#[test]
fn changed_revocations_revoke_what_they_list_or_nothing() {
    let _cpus = all_cpus();
    let document = |sessions: &[u8], kids: Value| {
        let (sids, as_of) = (encode(sessions), NOW.0 * 1000);
        let document = json!({
            "iss": ISSUER, "iat": NOW, "exp": NOW + Seconds(86_400), "as_of": as_of, "keep_for": 430, "sids": sids, "kids": kids,
        });
        document.to_string().into_bytes()
    };
    let documents =
        [document(b"", json!([])), document(&[7; 32], json!(["a"])), document(&[9; 160], json!(["a", "b"]))];
    assert!(documents.iter().all(|document| targets::parse_feed(document)));
    let accepted = spread(DOCUMENTS, |dice, seed| {
        let (mut data, other) =
            (documents[dice.below(documents.len())].clone(), &documents[dice.below(documents.len())]);
        mutate::bytes(dice, &mut data, other, &WORDS);
        let _shown = Shown(seed, &data);
        targets::parse_feed(&data)
    });
    assert!(accepted > DOCUMENTS / 100, "only {accepted} of {DOCUMENTS} were taken in");
}
