//! Signing and checking a token, compared with only the signature of the same bytes by ring.

mod keys;

use std::hint::black_box;
use std::time::Duration;

use auth_service::domain::access::AccessClaims;
use auth_service::keys::signer::Kind;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keys::Key;
use ring::signature::UnparsedPublicKey;
use verifier::{Algorithm, Clock as _, NoExtra, SystemClock, UnixTime, Verifier, VerifierBuilder};

use crate::{head, median, row};

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "orders-api";
/// Rounds of each side. They alternate, so that a change of the machine's speed affects both.
const ROUNDS: usize = 41;
const ROUND: Duration = Duration::from_millis(60);
/// Sessions that ended recently: as on a very busy day.
const REVOKED: u64 = 100_000;
/// Tokens in use at the same time. The cache has space for twice as many.
const CACHED: u64 = 4_096;

/// Prints all tables.
pub(crate) fn run() {
    let keys = Key::all();
    checking(&keys);
    from_the_cache(&keys[0]);
    on_two_threads(&keys[0]);
    loading_revocations(&keys[0]);
    signing(&keys);
}

fn checking(keys: &[Key; 3]) {
    head(&format!(
        "Check a token: claims decoded, {REVOKED} sessions revoked; floor: ring's check of the signature"
    ));
    for (key, aim) in keys.iter().zip(["≤ 1.04", "≤ 1.05", "≤ 1.10"]) {
        let (verifier, token) = (with_revocations(key, |builder| builder), token(key, 0));
        let bare = bare_check(key, &token);
        let result = compare(|| accept(&verifier, &token), || assert!(bare()));
        print(key.algorithm, &result, aim);
        println!("| … outside the signature | {:.2} µs | | | ≤ 1.3 µs |", result.difference);
    }
}

fn from_the_cache(key: &Key) {
    head(&format!(
        "Check a token again with `token_cache`, {CACHED} tokens in use; floor: ring's check of the signature"
    ));
    let verifier = with_revocations(key, |builder| builder.token_cache(2 * 4_096));
    let tokens: Vec<String> = (0..CACHED).map(|number| token(key, number)).collect();
    for token in &tokens {
        accept(&verifier, token);
    }
    let bare = bare_check(key, &tokens[0]);
    let mut next = tokens.iter().cycle();
    let hit = compare(|| accept(&verifier, next.next().expect("it goes round")), || assert!(bare()));
    row("a hit", &format!("{:.3} µs", hit.ours), &format!("{:.2} µs", hit.floor), hit.ratio, "≤ 0.5 µs");
}

fn on_two_threads(key: &Key) {
    head("Tokens per second on two threads; floor: on one thread");
    let (verifier, token) = (with_revocations(key, |builder| builder), token(key, 0));
    let bare = bare_check(key, &token);
    let both = |call: &(dyn Fn() + Sync)| {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| round(&mut || call()));
            let own = round(&mut || call());
            1.0 / own + 1.0 / other.join().expect("it ends")
        })
    };
    let scaling = |call: &(dyn Fn() + Sync)| {
        let ratios: Vec<(f64, f64)> =
            (0..ROUNDS).map(|_| (both(call), 1.0 / round(&mut || call()))).collect();
        let two = median(ratios.iter().map(|(two, _)| *two).collect());
        (two, median(ratios.iter().map(|(_, one)| *one).collect()))
    };
    for (what, aim, (two, one)) in [
        ("verifier, EdDSA", "≥ 1.9", scaling(&|| accept(&verifier, &token))),
        ("ring's check alone", "", scaling(&|| assert!(bare()))),
    ] {
        row(what, &format!("{:.0}/s", two * 1e6), &format!("{:.0}/s", one * 1e6), two / one, aim);
    }
}

fn loading_revocations(key: &Key) {
    head("Load a snapshot of revocations: signature, parsing, merging");
    let document = revocations(key);
    let times = (0..ROUNDS).map(|_| {
        let verifier = builder(key).build().expect("a whole description");
        let clock = SystemClock::new();
        verifier.merge_revocations(&document).expect("a good document");
        assert_eq!(verifier.status().feed.sessions as u64, REVOKED);
        clock.monotonic().as_secs_f64() * 1e3
    });
    let time = median(times.collect());
    println!("| {REVOKED} sessions, {} KiB | {time:.1} ms | | | ≤ 100 ms |", document.len() / 1024);
}

fn signing(keys: &[Key; 3]) {
    head("Sign a token; floor: ring's signature of the same bytes");
    for key in keys {
        let (signer, bare, claims) = (key.signer(), key.bare_signature(), claims(0));
        let token = token(key, 0);
        let (message, _) = token.rsplit_once('.').expect("a JWS has dots");
        let result = compare(
            || drop(black_box(signer.sign(Kind::AccessToken, black_box(&claims)))),
            || bare(black_box(message.as_bytes())),
        );
        print(key.algorithm, &result, "≤ 1.05");
    }
}

fn print(algorithm: Algorithm, result: &Comparison, aim: &str) {
    let Comparison { ours, floor, ratio, .. } = result;
    row(algorithm.as_str(), &format!("{ours:.2} µs"), &format!("{floor:.2} µs"), *ratio, aim);
}

/// Microseconds per call.
struct Comparison {
    ours: f64,
    floor: f64,
    ratio: f64,
    difference: f64,
}

/// Medians of many rounds. Ratio and difference are computed from adjacent rounds, which ran under the same
/// conditions.
fn compare(mut ours: impl FnMut(), mut floor: impl FnMut()) -> Comparison {
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (round(&mut ours), round(&mut floor))).collect();
    let middle = |figure: fn(&(f64, f64)) -> f64| median(rounds.iter().map(figure).collect());
    Comparison {
        ours: middle(|(ours, _)| *ours),
        floor: middle(|(_, floor)| *floor),
        ratio: middle(|(ours, floor)| ours / floor),
        difference: middle(|(ours, floor)| ours - floor),
    }
}

fn round(call: &mut impl FnMut()) -> f64 {
    let clock = SystemClock::new();
    let start = clock.monotonic();
    let mut calls = 0_u32;
    loop {
        for _ in 0..16 {
            call();
        }
        calls += 16;
        let taken = clock.monotonic().saturating_sub(start);
        if taken >= ROUND {
            return taken.as_secs_f64() * 1e6 / f64::from(calls);
        }
    }
}

fn builder(key: &Key) -> VerifierBuilder {
    Verifier::builder(ISSUER).audience(AUDIENCE).static_jwks(&key.jwks())
}

/// A verifier that knows of many ended sessions.
fn with_revocations(key: &Key, describe: impl FnOnce(VerifierBuilder) -> VerifierBuilder) -> Verifier {
    let verifier = describe(builder(key)).build().expect("a whole description");
    verifier.merge_revocations(&revocations(key)).expect("a good document");
    verifier
}

fn accept(verifier: &Verifier, token: &str) {
    black_box(verifier.verify_now::<NoExtra>(black_box(token)).expect("a good token"));
}

/// Returns ring's check of the token's signature, which is decoded in advance.
fn bare_check(key: &Key, token: &str) -> impl Fn() -> bool + Sync + use<> {
    let (signed, signature) = token.rsplit_once('.').expect("a JWS has dots");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let (signed, bare) = (signed.to_owned(), UnparsedPublicKey::new(key.check, key.public.clone()));
    move || bare.verify(black_box(signed.as_bytes()), &signature).is_ok()
}

fn token(key: &Key, number: u64) -> String {
    key.signer().sign(Kind::AccessToken, &claims(number)).expect("the claims are plain")
}

/// A signed snapshot that contains other sessions.
fn revocations(key: &Key) -> String {
    let sessions: Vec<u8> = (1..=REVOKED)
        .flat_map(|number| {
            u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_be_bytes()
        })
        .collect();
    let now = now();
    let claims = serde_json::json!({
        "iss": ISSUER,
        "iat": now,
        "exp": now.0 + 86_400,
        "as_of": now.0 * 1000,
        "keep_for": 86_400,
        "sids": URL_SAFE_NO_PAD.encode(sessions),
        "kids": [],
    });
    key.signer().sign(Kind::Revocations, &claims).expect("the claims are plain")
}

fn now() -> UnixTime {
    SystemClock::new().now()
}

fn claims(number: u64) -> AccessClaims<'static> {
    static EXTRA: std::sync::OnceLock<serde_json::Map<String, serde_json::Value>> =
        std::sync::OnceLock::new();
    static ROLES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let now = now();
    AccessClaims {
        iss: ISSUER,
        sub: format!("0191d1f2-3c4b-4d5e-8f60-{number:012x}"),
        aud: AUDIENCE,
        // The maximum lifetime, so that the token is valid for the whole run.
        exp: UnixTime(now.0 + 3600),
        iat: now,
        nbf: now,
        jti: "Zm9vYmFyYmF6cXV4cXV1eA".to_owned(),
        sid: format!("7b0f1d52-64a8-4f0d-9a0c-{number:012x}"),
        client_id: "first-party",
        scope: "orders:read orders:write",
        roles: ROLES.get_or_init(|| vec!["clerk".to_owned()]),
        auth_time: now,
        amr: vec!["pwd"],
        extra: EXTRA.get_or_init(serde_json::Map::new),
    }
}
