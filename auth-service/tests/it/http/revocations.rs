//! The revocation feed as a resource server sees it.

use auth_service::config::Database;
use auth_service::domain::audit::{AuditEvent, EventKind};
use auth_service::domain::session::{EndReason, SessionId};
use auth_service::http::Listener;
use auth_service::jobs;
use auth_service::runtime::feed;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use http_body_util::BodyExt as _;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use verifier::{Expected, KeySet, Reason, Seconds, VerifyError};

use super::contract::Contract;
use super::replica::{Call, PASSWORD, Replica, admin_post, get, post};

const SNAPSHOT: &str = "/v1/revocations";
const STREAM: &str = "/v1/revocations/stream";

/// A stream being read.
struct Events(Body);

impl Events {
    async fn open(replica: &Replica) -> Self {
        Self(replica.open(get(STREAM)).await.1)
    }

    /// Name and data of the next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, String)> {
        let frame = self.0.frame().await?.unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&frame).unwrap();
        let lines: Vec<&str> = text.split('\n').collect();
        let [name, data, "", ""] = lines[..] else { panic!("not one event of one line: {text:?}") };
        let (name, data) = (name.strip_prefix("event: ").unwrap(), data.strip_prefix("data: ").unwrap());
        Some((name.to_owned(), data.to_owned()))
    }

    async fn next_named(&mut self, expected: &str) -> String {
        let (name, data) = self.next().await.expect("the stream goes on");
        assert_eq!(name, expected);
        data
    }
}

fn part(document: &str, index: usize) -> Value {
    let part = document.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The claims of a document, checked against the contract.
fn claims(document: &str) -> Value {
    let claims = part(document, 1);
    let contract = Contract::shared();
    let schema = &contract.document()["components"]["schemas"]["RevocationClaims"];
    assert_eq!(contract.violations(schema, &claims, ""), Vec::<String>::new(), "{claims:#}");
    claims
}

fn sids(claims: &Value) -> Vec<String> {
    let bytes = URL_SAFE_NO_PAD.decode(claims["sids"].as_str().unwrap()).unwrap();
    bytes.chunks(16).map(|id| SessionId::from_bytes(id.try_into().unwrap()).to_string()).collect()
}

async fn snapshot(replica: &Replica) -> Value {
    claims(&replica.send(get(SNAPSHOT)).await.text())
}

/// Whether the signature is valid under the key that the header names. Checked without `verifier`, which accepts only tokens.
async fn is_signed(replica: &Replica, document: &str) -> bool {
    let (signed, signature) = document.rsplit_once('.').unwrap();
    let set = replica.send(get("/.well-known/jwks.json")).await.json();
    let kid = &part(document, 0)["kid"];
    let key = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == *kid).expect("a published key");
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).is_ok()
}

async fn log_out(replica: &Replica, tokens: &Value) {
    let body = json!({"refresh_token": tokens["refresh_token"]});
    assert_eq!(replica.send(post("/v1/logout").json(&body)).await.status, 204);
}

async fn with_alice() -> (Replica, String) {
    let replica = Replica::start().await;
    let admin = replica.admin_token().await;
    replica.create_user(&admin, "alice", &[]).await;
    (replica, admin)
}

#[tokio::test]
async fn a_snapshot_is_signed_by_a_published_key_and_names_the_retention() {
    let (replica, _) = with_alice().await;
    let tokens = replica.login("alice", PASSWORD, "api").await;
    log_out(&replica, &tokens).await;
    replica.app.feed.poll().await.unwrap();
    let answer = replica.send(get(SNAPSHOT)).await;
    assert_eq!(answer.header("content-type"), Some("application/revocations+jwt"));
    let document = answer.text();
    assert!(is_signed(&replica, &document).await);
    let header = part(&document, 0);
    let kid = replica.app.keyring.snapshot().keys()[0].row.key.kid.to_string();
    assert_eq!(header, json!({"typ": "revocations+jwt", "alg": "ES256", "kid": kid}));
    let now = 1_772_366_400_i64;
    let sid: SessionId = SessionId::parse(tokens["session_id"].as_str().unwrap()).unwrap();
    assert_eq!(
        claims(&document),
        json!({
            "iss": "http://127.0.0.1:8080",
            "iat": now,
            "exp": now + 86_400,
            "as_of": now * 1000 + 1,
            "keep_for": 3_600 + 120 + 10,
            "sids": URL_SAFE_NO_PAD.encode(sid.as_bytes()),
            "kids": [],
        })
    );
    let head = replica.send(Call::new(Listener::Public, Method::HEAD, SNAPSHOT)).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_document_is_not_accepted_as_a_token_nor_a_token_as_a_document() {
    let (replica, _) = with_alice().await;
    let document = replica.send(get(SNAPSHOT)).await.text();
    let token = replica.login("alice", PASSWORD, "api").await["access_token"].as_str().unwrap().to_owned();
    assert_eq!(
        (&part(&document, 0)["typ"], &part(&token, 0)["typ"]),
        (&json!("revocations+jwt"), &json!("at+jwt"))
    );
    assert_eq!(part(&document, 0)["kid"], part(&token, 0)["kid"], "both are signed by one key");
    let keys = KeySet::parse(&replica.send(get("/.well-known/jwks.json")).await.body).unwrap();
    let expected = Expected::new("http://127.0.0.1:8080", ["api"]);
    let now = replica.app.clock.now();
    expected.verify::<Value>(&token, &keys, now).expect("the keys are the right ones");
    let refused = expected.verify::<Value>(&document, &keys, now).unwrap_err();
    assert_eq!(refused, VerifyError::Invalid(Reason::WrongType));
    replica.send(get("/v1/me").bearer(&document)).await.assert_problem(401, "invalid_token");
    replica.send(post("/v1/logout").bearer(&document)).await.assert_problem(401, "invalid_token");
}

#[tokio::test]
async fn a_stream_starts_with_a_snapshot_and_continues_with_deltas() {
    let (replica, _) = with_alice().await;
    let [first, second] =
        [replica.login("alice", PASSWORD, "api").await, replica.login("alice", PASSWORD, "api").await];
    log_out(&replica, &first).await;
    replica.app.feed.poll().await.unwrap();
    let (headers, body) = replica.open(get(STREAM)).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(headers.get(name).unwrap(), value);
    }
    assert!(!headers.contains_key("content-encoding") && !headers.contains_key("content-length"));
    let mut events = Events(body);
    let snapshot = events.next_named("snapshot").await;
    assert_eq!(sids(&claims(&snapshot)), [first["session_id"].as_str().unwrap()]);
    assert_eq!(claims(&snapshot).get("since"), None);

    replica.clock.advance(Seconds(1));
    log_out(&replica, &second).await;
    replica.app.feed.poll().await.unwrap();
    let delta = events.next_named("delta").await;
    assert!(is_signed(&replica, &delta).await);
    assert_eq!(sids(&claims(&delta)), [second["session_id"].as_str().unwrap()], "only what is new");
    assert!(
        claims(&delta)["since"].as_i64() <= claims(&snapshot)["as_of"].as_i64(),
        "it continues the snapshot"
    );
}

#[tokio::test]
async fn a_heartbeat_advances_only_while_the_database_is_read() {
    let (replica, _) = with_alice().await;
    let mut events = Events::open(&replica).await;
    events.next_named("snapshot").await;
    replica.advance(1).await;
    replica.app.feed.heartbeat().await;
    let first = events.next_named("delta").await;
    assert_eq!(sids(&claims(&first)), Vec::<String>::new());
    replica.advance(1).await;
    replica.app.feed.heartbeat().await;
    let second = events.next_named("delta").await;
    assert_eq!(claims(&second)["as_of"], claims(&first)["as_of"].as_i64().unwrap() + 1000);
    assert_eq!(claims(&second)["since"], claims(&first)["since"], "nothing was added");
    // Nothing was read since.
    replica.clock.advance(Seconds(1));
    replica.app.feed.heartbeat().await;
    assert_eq!(events.next_named("delta").await, second, "to the byte");
}

#[tokio::test]
async fn every_way_to_end_a_session_is_on_the_feed() {
    let (replica, admin) = with_alice().await;
    let alice = replica.create_user(&admin, "bob", &[]).await;
    let login = async || replica.login("bob", PASSWORD, "api").await;
    let id = |tokens: &Value| tokens["session_id"].as_str().unwrap().to_owned();
    let bearer = |tokens: &Value| tokens["access_token"].as_str().unwrap().to_owned();
    let delete = |listener, path: &str| Call::new(listener, Method::DELETE, path);
    let mut expected = Vec::new();

    let own = login().await;
    let call = delete(Listener::Public, &format!("/v1/me/sessions/{}", id(&own))).bearer(&bearer(&own));
    assert_eq!(replica.send(call).await.status, 204);
    expected.push(("ended by the user", id(&own)));

    let other = login().await;
    let this = login().await;
    let call = delete(Listener::Public, "/v1/me/sessions").bearer(&bearer(&this));
    assert_eq!(replica.send(call).await.status, 204);
    expected.push(("all others ended", id(&other)));

    let call = delete(Listener::Admin, &format!("/admin/v1/sessions/{}", id(&this))).bearer(&admin);
    assert_eq!(replica.send(call).await.status, 204);
    expected.push(("ended by an operator", id(&this)));

    let stolen = login().await;
    let refresh =
        |tokens: &Value| post("/v1/refresh").json(&json!({"refresh_token": tokens["refresh_token"]}));
    let next = replica.send(refresh(&stolen)).await.json();
    assert_eq!(replica.send(refresh(&next)).await.status, 200);
    replica.advance(11).await;
    replica.send(refresh(&stolen)).await.assert_problem(401, "invalid_refresh_token");
    expected.push(("a refresh token used twice", id(&stolen)));

    let changed = login().await;
    let path = format!("/admin/v1/users/{alice}/password");
    let call = admin_post(&path).bearer(&admin).json(&json!({"password": "quiet-lantern-meadow-71"}));
    assert!(replica.send(call).await.status.is_success());
    expected.push(("password set", id(&changed)));

    let disabled = replica.login("bob", "quiet-lantern-meadow-71", "api").await;
    let call = Call::new(Listener::Admin, Method::PATCH, &format!("/admin/v1/users/{alice}")).bearer(&admin);
    assert!(replica.send(call.json(&json!({"disabled": true}))).await.status.is_success());
    expected.push(("user disabled", id(&disabled)));

    let deleted = replica.login("alice", PASSWORD, "api").await;
    let users =
        replica.send(Call::new(Listener::Admin, Method::GET, "/admin/v1/users").bearer(&admin)).await.json();
    let user = users["users"].as_array().unwrap().iter().find(|user| user["username"] == "alice").unwrap();
    let path = format!("/admin/v1/users/{}", user["id"].as_str().unwrap());
    assert_eq!(replica.send(delete(Listener::Admin, &path).bearer(&admin)).await.status, 204);
    expected.push(("user deleted", id(&deleted)));

    replica.app.feed.poll().await.unwrap();
    let mut known = sids(&snapshot(&replica).await);
    for (what, id) in &expected {
        assert!(known.contains(id), "{what}");
    }
    known.sort();
    let mut expected: Vec<String> = expected.into_iter().map(|(_, id)| id).collect();
    expected.sort();
    assert_eq!(known, expected, "and nothing else");
}

#[tokio::test]
async fn a_compromised_key_is_announced_stays_listed_and_stops_signing() {
    let (replica, admin) = with_alice().await;
    let mut events = Events::open(&replica).await;
    let old = part(&events.next_named("snapshot").await, 0)["kid"].clone();
    let path = format!("/admin/v1/keys/{}/compromise", old.as_str().unwrap());
    assert_eq!(replica.send(admin_post(&path).bearer(&admin)).await.status, 200);
    replica.app.feed.poll().await.unwrap();
    let ring = replica.send(get("/.well-known/jwks.json")).await.json()["auth_ring"].to_string();
    assert_eq!(events.next_named("jwks").await, ring, "first the new key");
    let delta = events.next_named("delta").await;
    assert_eq!(claims(&delta)["kids"], json!([old]));
    assert_ne!(part(&delta, 0)["kid"], old);
    assert!(is_signed(&replica, &delta).await);

    for _ in 0..3 {
        replica.advance(40 * 86_400).await;
        auth_service::jobs::tidy::Tidy::of(&replica.app).once().await.unwrap();
        replica.app.feed.poll().await.unwrap();
        assert_eq!(snapshot(&replica).await["kids"], json!([old]));
    }
}

#[tokio::test]
async fn a_rotation_is_announced_before_the_next_document() {
    let (replica, admin) = with_alice().await;
    let mut events = Events::open(&replica).await;
    events.next_named("snapshot").await;
    assert_eq!(replica.send(admin_post("/admin/v1/keys/rotate").bearer(&admin)).await.status, 201);
    replica.advance(1).await;
    replica.app.feed.heartbeat().await;
    events.next_named("jwks").await;
    events.next_named("delta").await;
    replica.advance(1).await;
    replica.app.feed.heartbeat().await;
    events.next_named("delta").await;
}

#[tokio::test]
async fn entries_are_removed_when_their_tokens_have_expired() {
    let (replica, _) = with_alice().await;
    // Our own tokens live for 5 min. One from a replica that was started with a longer life may live for an hour.
    assert_eq!(replica.app.settings().access_token_ttl, Seconds(300));
    log_out(&replica, &replica.login("alice", PASSWORD, "api").await).await;
    replica.advance(3_729).await;
    assert_eq!(sids(&snapshot(&replica).await).len(), 1);
    replica.advance(1).await;
    // A removal publishes nothing: the existing snapshot stays valid for two more seconds.
    replica.advance(2).await;
    assert_eq!(sids(&snapshot(&replica).await).len(), 0);
    assert_eq!(replica.app.feed.entries(), 0);
}

#[tokio::test]
async fn a_slow_reader_gets_a_snapshot_instead_of_missed_deltas() {
    let (replica, _) = with_alice().await;
    let mut slow = Events::open(&replica).await;
    slow.next_named("snapshot").await;
    let tokens = replica.login("alice", PASSWORD, "api").await;
    log_out(&replica, &tokens).await;
    replica.app.feed.poll().await.unwrap();
    for _ in 0..100 {
        replica.app.feed.heartbeat().await;
    }
    slow.next_named("jwks").await;
    let snapshot = slow.next_named("snapshot").await;
    assert_eq!(sids(&claims(&snapshot)), [tokens["session_id"].as_str().unwrap()]);
    replica.advance(1).await;
    replica.app.feed.heartbeat().await;
    let delta = slow.next_named("delta").await;
    assert!(claims(&delta)["since"].as_i64() <= claims(&snapshot)["as_of"].as_i64());
}

#[tokio::test]
async fn a_replica_without_the_right_to_sign_repeats_itself() {
    let (replica, _) = with_alice().await;
    let mut events = Events::open(&replica).await;
    events.next_named("snapshot").await;
    replica.app.feed.heartbeat().await;
    let last = events.next_named("delta").await;
    let before = replica.send(get(SNAPSHOT)).await.text();
    // Without reads, the lease of 15 min runs out.
    replica.clock.advance(Seconds(900));
    replica.app.feed.heartbeat().await;
    assert_eq!(events.next_named("delta").await, last);
    assert_eq!(replica.send(get(SNAPSHOT)).await.text(), before);
    let mut late = Events::open(&replica).await;
    assert_eq!(late.next_named("snapshot").await, before);
    replica.advance(0).await;
    replica.app.feed.heartbeat().await;
    assert!(claims(&events.next_named("delta").await)["as_of"].as_i64() > claims(&last)["as_of"].as_i64());
}

/// Reads events until one contains this session; a document every 2 s limits the wait.
async fn wait_for(events: &mut Events, session: &str) {
    let found = async {
        loop {
            let (name, document) = events.next().await.expect("the stream goes on");
            if name != "jwks" && sids(&claims(&document)).iter().any(|id| id == session) {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), found)
        .await
        .expect("it is on the feed within 5 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_this_and_of_other_processes_reach_a_stream() {
    let (replica, _) = with_alice().await;
    let mut events = Events::open(&replica).await;
    let app = replica.app.clone();
    let job = tokio::spawn(jobs::feed::run(app.feed.clone(), app.store.clone()));
    let [here, elsewhere] =
        [replica.login("alice", PASSWORD, "api").await, replica.login("alice", PASSWORD, "api").await];
    log_out(&replica, &here).await;
    wait_for(&mut events, here["session_id"].as_str().unwrap()).await;
    // As the command line does, without notifying this process.
    let config = &replica.app.config;
    let Database::Sqlite { path } = config.database() else { panic!("a file") };
    let other = auth_service::store::SqlStore::open_sqlite(
        &path,
        replica.clock.clone(),
        "cli",
        config.keep_revocations_for(),
    );
    let event = AuditEvent::new(EventKind::SessionEnded);
    let id = SessionId::parse(elsewhere["session_id"].as_str().unwrap()).unwrap();
    assert!(other.await.unwrap().end_session(id, EndReason::EndedByAdmin, event).await.unwrap());
    wait_for(&mut events, elsewhere["session_id"].as_str().unwrap()).await;
    job.abort();
}

#[tokio::test]
async fn a_failed_full_read_delays_no_revocation_and_is_retried_after_a_minute() {
    let (replica, _) = with_alice().await;
    // So old that only a full read returns it.
    replica
        .execute("INSERT INTO revocations (kind, subject, revoked_at) VALUES ('session', 'unreadable', 0)")
        .await;
    replica.clock.advance(Seconds(60));
    replica.app.feed.poll().await.unwrap_err();
    let tokens = replica.login("alice", PASSWORD, "api").await;
    log_out(&replica, &tokens).await;
    replica.app.feed.poll().await.unwrap();
    let known = snapshot(&replica).await;
    assert_eq!(sids(&known), [tokens["session_id"].as_str().unwrap()]);
    assert_eq!(known["as_of"], (1_772_366_400_i64 + 60) * 1000);
    replica.clock.advance(Seconds(60));
    replica.app.feed.poll().await.unwrap_err();
    replica.app.feed.poll().await.unwrap();
}

#[tokio::test]
async fn nothing_is_published_before_the_first_full_read() {
    let (replica, _) = with_alice().await;
    replica
        .execute("INSERT INTO revocations (kind, subject, revoked_at) VALUES ('session', 'unreadable', 0)")
        .await;
    let mut fresh = replica.app.clone();
    fresh.feed = replica.fresh_feed();
    for _ in 0..3 {
        fresh.feed.poll().await.unwrap_err();
        assert_eq!(fresh.feed.as_of(), None);
    }
    replica.execute("DELETE FROM revocations").await;
    fresh.feed.poll().await.unwrap();
    assert!(fresh.feed.as_of().is_some());
}

#[tokio::test]
async fn a_key_that_a_replica_of_the_release_before_compromised_is_found_by_tidying() {
    let (replica, admin) = with_alice().await;
    let kid = part(&admin, 0)["kid"].clone();
    let path = format!("/admin/v1/keys/{}/compromise", kid.as_str().unwrap());
    assert_eq!(replica.send(admin_post(&path).bearer(&admin)).await.status, 200);
    // That release would have written no such row.
    replica.execute("DELETE FROM revocations").await;
    replica.app.feed.poll().await.unwrap();
    assert_eq!(snapshot(&replica).await["kids"], json!([]));
    auth_service::jobs::tidy::Tidy::of(&replica.app).once().await.unwrap();
    replica.app.feed.poll().await.unwrap();
    assert_eq!(snapshot(&replica).await["kids"], json!([kid]));
}

#[tokio::test]
async fn unknown_kinds_of_revocation_from_a_newer_release_are_skipped() {
    let (replica, _) = with_alice().await;
    replica.execute("INSERT INTO revocations VALUES ('planet', 'pluto', 1772366400, NULL)").await;
    replica.app.feed.poll().await.unwrap();
    assert_eq!(replica.app.feed.entries(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_ended_sessions_fit_into_one_document() {
    let (replica, _) = with_alice().await;
    let mut events = Events::open(&replica).await;
    events.next_named("snapshot").await;
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO revocations SELECT 'session', printf('00000000-0000-4000-8000-%012x', i), 1772366400, 1772366800 FROM n";
    replica.execute(many).await;
    replica.app.feed.poll().await.unwrap();
    let delta = events.next_named("delta").await;
    let document = replica.send(get(SNAPSHOT)).await.text();
    for document in [delta, document] {
        let sids = sids(&claims(&document));
        assert_eq!(sids.len(), 100_000);
        assert!(sids.is_sorted_by(|a, b| a < b), "ascending, and each once");
        assert!(document.len() < 3_000_000, "{} bytes; verifiers take 16 MiB", document.len());
        assert!(is_signed(&replica, &document).await);
    }
}

#[tokio::test]
async fn at_most_2048_streams_are_open_and_a_closed_one_frees_its_place() {
    let (replica, _) = with_alice().await;
    let mut streams = Vec::new();
    for _ in 0..2048 {
        streams.push(replica.open(get(STREAM)).await.1);
    }
    replica.send(get(STREAM)).await.assert_problem(503, "unavailable");
    assert_eq!(replica.send(get(SNAPSHOT)).await.status, 200);
    streams.pop();
    assert_eq!(replica.app.feed.streams(), 2047);
    let mut last = Events::open(&replica).await;
    last.next_named("snapshot").await;
}

#[tokio::test]
async fn a_head_request_for_a_stream_keeps_none_open() {
    let (replica, _) = with_alice().await;
    let head = replica.send(Call::new(Listener::Public, Method::HEAD, STREAM)).await;
    assert_eq!((head.status.as_u16(), head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(replica.app.feed.streams(), 0);
}

#[tokio::test]
async fn a_replica_that_has_not_read_revocations_returns_503() {
    let (replica, _) = with_alice().await;
    let app = auth_service::runtime::app::App { feed: replica.fresh_feed(), ..replica.app.clone() };
    assert!(matches!(app.feed.snapshot().await, Err(feed::FeedError::NotRead)));
    assert!(matches!(app.feed.subscribe().await, Err(feed::FeedError::NotRead)));
    assert_eq!((app.feed.streams(), app.feed.as_of()), (0, None));
    app.feed.heartbeat().await;
    app.feed.poll().await.unwrap();
    assert!(app.feed.snapshot().await.is_ok());
}

#[tokio::test]
async fn a_draining_replica_ends_its_streams_and_refuses_new_ones() {
    let (replica, _) = with_alice().await;
    let mut events = Events::open(&replica).await;
    assert_eq!(replica.app.feed.streams(), 1);
    events.next_named("snapshot").await;
    replica.app.drain.stop();
    assert_eq!(events.next().await, None);
    drop(events);
    assert_eq!(replica.app.feed.streams(), 0);
    let refused = replica.send(get(STREAM)).await;
    refused.assert_problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(replica.send(get(SNAPSHOT)).await.status, 200, "requests are still served");
}
