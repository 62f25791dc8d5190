//! Whatever is done to a document or to the stream that carries it, the set of revocations gains nothing but
//! what was signed, and nothing panics.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use testkit::feed::{Script, claims_of, delta, event, header, pieces, signed, snapshot};
use testkit::{AUDIENCE, ISSUER, NOW, eventually};
use verifier::testing::TestIssuer;
use verifier::{FeedState, ManualClock, NoExtra, Verifier};

/// One thing that can happen to bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
    Cut(Index, Index),
    Truncate(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || any::<Index>();
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        (at(), prop::sample::select(b".=\n\r: A".to_vec())).prop_map(|(at, byte)| Change::Insert(at, byte)),
        at().prop_map(Change::Remove),
        (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (at(), at()).prop_map(|(from, to)| Change::Cut(from, to)),
        at().prop_map(Change::Truncate),
    ]
}

fn apply(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        let range = |one: &Index, other: &Index| {
            let (one, other) = (one.index(length), other.index(length));
            one.min(other)..one.max(other)
        };
        match change {
            Change::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Change::Insert(at, byte) => bytes.insert(at.index(length), *byte),
            Change::Remove(at) => drop(bytes.remove(at.index(length))),
            Change::Repeat(from, to) => bytes.extend_from_within(range(from, to)),
            Change::Cut(from, to) => drop(bytes.drain(range(from, to))),
            Change::Truncate(at) => bytes.truncate(at.index(length)),
        }
    }
    bytes
}

fn verifier(issuer: &TestIssuer) -> Verifier {
    let clock = Arc::new(ManualClock::new(NOW));
    let builder = Verifier::builder(ISSUER).audience(AUDIENCE).static_jwks(&issuer.jwks()).clock(clock);
    builder.build().unwrap()
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn changed_document_is_never_believed() {
    for issuer in [TestIssuer::new(ISSUER, AUDIENCE), TestIssuer::es256(ISSUER, AUDIENCE)] {
        let verifier = verifier(&issuer);
        let good = signed(&issuer, &snapshot(NOW, 0..5));
        let outcome = runner(50_000).run(&vec(change(), 1..4), |changes| {
            let changed = apply(good.as_bytes(), &changes);
            let Ok(changed) = String::from_utf8(changed) else { return Ok(()) };
            prop_assert_eq!(verifier.merge_revocations(&changed).is_ok(), changed == good);
            Ok(())
        });
        outcome.unwrap();
        verifier.merge_revocations(&good).unwrap();
        let feed = verifier.status().feed;
        assert_eq!((feed.sessions, feed.keys), (5, 0));
    }
}

#[test]
fn signed_nonsense_is_refused_or_means_what_it_says() {
    let issuer = TestIssuer::new(ISSUER, AUDIENCE);
    let good = snapshot(NOW, 0..5).to_string();
    let outcome = runner(10_000).run(&vec(change(), 1..4), |changes| {
        let verifier = verifier(&issuer);
        let claims = apply(good.as_bytes(), &changes);
        let document = issuer.sign_bytes(header(&issuer).to_string(), &claims);
        let answer = verifier.merge_revocations(&document);
        let feed = verifier.status().feed;
        match serde_json::from_slice::<Value>(&claims) {
            Ok(read) if answer.is_ok() => {
                let ids = read["sids"].as_str().unwrap().len() * 3 / 4 / 16;
                prop_assert!(feed.sessions <= ids && read["iss"] == ISSUER);
                prop_assert_eq!(feed.keys, read["kids"].as_array().unwrap().len());
            }
            _ => prop_assert_eq!((feed.sessions, feed.keys, feed.staleness), (0, 0, None), "{:?}", answer),
        }
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test(start_paused = true)]
async fn changed_stream_adds_nothing_that_was_not_signed() {
    let issuer = TestIssuer::new(ISSUER, AUDIENCE);
    let (script, mut attempts) = Script::new();
    let verifier = Verifier::builder(ISSUER)
        .audience(AUDIENCE)
        .static_jwks(&issuer.jwks())
        .feed_source(Arc::clone(&script))
        .clock(Arc::new(ManualClock::new(NOW)))
        .build()
        .unwrap();
    let now = NOW.0 * 1000;
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    let good = [
        b": hello\n\n".to_vec(),
        event("snapshot", &signed(&issuer, &snapshot(NOW, 0..2))),
        event("jwks", "7"),
        event("delta", &signed(&issuer, &delta(now, now, 2..4))),
        event("delta", &issuer.sign_bytes(header(&stranger).to_string(), snapshot(NOW, 4..6).to_string())),
        event("delta", &issuer.sign(&json!({ "sids": testkit::feed::sids(6..8) }))),
    ]
    .concat();
    let strategy = (vec(change(), 0..4), vec(1..400_usize, 0..20));
    let mut runner = runner(1);
    for case in 0..3000 {
        let (changes, sizes) = strategy.new_tree(&mut runner).unwrap().current();
        let token = issuer.sign(&claims_of(&issuer, 0, NOW));
        let _ = verifier.verify_now::<NoExtra>(&token);
        let server = attempts.accept().await;
        for piece in pieces(&apply(&good, &changes), sizes) {
            server.send_bytes(piece);
        }
        drop(server);
        let lost = || verifier.status().feed.losses > case;
        eventually("the end of the stream", lost).await;
        let feed = verifier.status().feed;
        assert!(feed.sessions <= 4 && feed.keys == 0, "{changes:?}");
        assert!(!matches!(feed.state, FeedState::Off | FeedState::Live));
    }
    for number in 0..8 {
        let token = issuer.sign(&claims_of(&issuer, number, NOW));
        assert_eq!(verifier.verify_now::<NoExtra>(&token).is_err(), number < 4, "{number}");
    }
}
