//! An issuer that means us harm, at the end of a real socket, counted at its side.
//!
//! Each row of the threat list about key sets and the feed, and the test that shows it:
//!
//! | row | what the server does | test |
//! |---|---|---|
//! | J1 | poisoned key set | `jwks_cache::response_that_is_not_a_key_set_replaces_nothing`, `http_source::truncated_answer_is_an_error` |
//! | J2 | oversize, endless, compressed | `http_source::answer_larger_than_256_kib_is_not_read`, `http_source::nothing_is_unpacked`; feed: `endless_event_is_cut_off_at_16_mib`, `response_that_is_not_a_stream_is_not_read` |
//! | J3 | a byte now and then | `http_source::trickling_server_is_given_up_on`; feed: `head_that_does_not_end_is_given_up_on`, `dripping_server_slows_nobody_down` |
//! | J4 | one name twice | `jwks_cache::response_that_is_not_a_key_set_replaces_nothing`, `key_set` |
//! | J5–J8 | keys of other kinds, for other uses, weak, private | `key_set`, unit tests of `weak` |
//! | J9 | redirects | `http_source::redirect_is_not_followed`; feed: `response_that_is_not_a_stream_is_not_read` |
//! | J10 | addresses inside a token | `nothing_in_a_token_makes_us_connect` |
//! | J11, J12 | stampede of unknown keys | `stampede_of_unknown_keys_is_one_connection_in_ten_seconds`, `jwks_cache::unknown_keys_force_one_fetch_in_ten_seconds_whatever_comes_of_it` |
//! | J13 | a rotation within it | `jwks_cache::flood_of_unknown_keys_does_not_delay_the_scheduled_fetch` |
//! | J14 | an old key set replayed | `revoked_key_does_not_come_back_with_an_old_key_set`, `jwks_cache::older_key_set_is_refused` |
//! | J15 | absurd caching headers | `jwks_cache::keys_are_fetched_again_ahead_of_staleness`, `jwks_cache::max_age_of_zero_means_once_a_second`, unit tests of `http_source` |
//! | J16 | a feed that lies | `feed_documents`, `feed::stream_that_makes_no_sense_changes_nothing_and_is_counted`, `feed_properties`; here: all of the feed |

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use serde_json::json;
use testkit::feed::{claims_of, delta, event, signed, snapshot};
use testkit::{AUDIENCE, ISSUER, NOW, eventually, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use verifier::testing::TestIssuer;
use verifier::{
    BuildError, FeedError, FeedState, HttpFeed, ManualClock, NoExtra, Reason, Seconds, Verifier,
    VerifierBuilder, VerifyError,
};

const JWKS: &str = "/.well-known/jwks.json";
const FEED: &str = "/v1/revocations/stream";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// A client of the server, after it has sent its request.
struct Client {
    socket: TcpStream,
    path: String,
    taken: Arc<AtomicU64>,
}

impl Client {
    /// `false` once the client is gone.
    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = self.socket.write_all(bytes.as_ref()).await.is_ok();
        self.taken.fetch_add(bytes.as_ref().len() as u64, Ordering::SeqCst);
        sent
    }

    async fn send_jwks(&mut self, issuer: &TestIssuer) {
        let body = serde_json::to_string(&issuer.jwks()).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        self.send(head + &body).await;
    }

    /// Waits until the client hangs up.
    async fn gone(&mut self) {
        while self.socket.read_u8().await.is_ok() {}
    }
}

type Talk = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Counts what it is asked.
struct Server {
    url: String,
    /// The head of each request, in small letters; one for each connection.
    requests: Arc<Mutex<Vec<String>>>,
    /// Bytes that went into the sockets.
    taken: Arc<AtomicU64>,
}

impl Server {
    async fn new(talk: impl Fn(Client) -> Talk + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, taken) = (Arc::new(Mutex::new(Vec::new())), Arc::<AtomicU64>::default());
        let server = Self { url, requests: Arc::clone(&requests), taken: Arc::clone(&taken) };
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = socket.read_u8().await else { break };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                requests.lock().unwrap().push(head);
                tokio::spawn(talk(Client { socket, path, taken: Arc::clone(&taken) }));
            }
        });
        server
    }

    /// Publishes the keys of `issuer`, and does with the readers of the feed what `talk` says.
    async fn with_feed<F>(
        issuer: &Arc<TestIssuer>,
        talk: impl Fn(Client) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (issuer, talk) = (Arc::clone(issuer), Arc::new(talk));
        Self::new(move |mut client| {
            let (issuer, talk) = (Arc::clone(&issuer), Arc::clone(&talk));
            Box::pin(async move {
                match client.path.as_str() {
                    JWKS => client.send_jwks(&issuer).await,
                    FEED => talk(client).await,
                    other => panic!("asked for {other}"),
                }
            })
        })
        .await
    }

    fn requests(&self, path: &str) -> usize {
        let asks = |head: &&String| head.starts_with(&format!("get {path} "));
        self.requests.lock().unwrap().iter().filter(asks).count()
    }

    fn verifier(&self) -> Verifier {
        let clock = Arc::new(ManualClock::new(NOW));
        let builder = Verifier::builder(ISSUER).audience(AUDIENCE).clock(clock);
        builder.jwks_url(format!("{}{JWKS}", self.url)).build().unwrap()
    }

    /// A verifier that has keys and listens.
    async fn listener(&self, issuer: &TestIssuer) -> Verifier {
        let verifier = self.verifier();
        let token = issuer.sign(&issuer.claims(NOW));
        in_time("keys", verifier.verify::<NoExtra>(&token)).await.unwrap();
        verifier
    }
}

fn issuer() -> Arc<TestIssuer> {
    Arc::new(TestIssuer::new(ISSUER, AUDIENCE))
}

fn is_revoked(verifier: &Verifier, issuer: &TestIssuer, number: u64) -> bool {
    let token = issuer.sign(&claims_of(issuer, number, NOW));
    let answer = verifier.verify_now::<NoExtra>(&token).map(drop);
    answer == Err(VerifyError::Invalid(Reason::RevokedSession))
}

/// Waits, for up to ten seconds, for the first loss and answers its reason.
async fn lost(verifier: &Verifier) -> FeedError {
    eventually("the end of the stream", || verifier.status().feed.losses > 0).await;
    verifier.status().feed.last_error.unwrap()
}

#[tokio::test]
async fn feed_is_followed_beside_the_key_set() {
    let issuer = issuer();
    let signer = Arc::clone(&issuer);
    let server = Server::with_feed(&issuer, move |mut client| {
        let signer = Arc::clone(&signer);
        async move {
            client.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let events = [
                b": welcome\n\n".to_vec(),
                event("snapshot", &signed(&signer, &snapshot(NOW, [1]))),
                event("delta", &signed(&signer, &delta(NOW.0 * 1000, NOW.0 * 1000, [2]))),
            ];
            for bytes in events.concat().chunks(100) {
                client.send(format!("{:x}\r\n", bytes.len())).await;
                client.send(bytes).await;
                client.send("\r\n").await;
            }
            client.gone().await;
        }
    })
    .await;
    let verifier = server.listener(&issuer).await;
    eventually("both documents", || verifier.status().feed.sessions == 2).await;
    assert!(is_revoked(&verifier, &issuer, 1) && is_revoked(&verifier, &issuer, 2));
    assert_eq!(verifier.status().feed.state, FeedState::Live);
    let head = server.requests.lock().unwrap().iter().find(|head| head.contains(FEED)).cloned().unwrap();
    assert!(head.contains("\r\naccept: text/event-stream\r\n"), "{head}");
    assert!(!head.contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn documents_come_from_the_next_replica_when_one_is_lost() {
    let issuer = issuer();
    let (signer, connections) = (Arc::clone(&issuer), Arc::new(AtomicU64::new(0)));
    // Each connection hears of one session more, then its replica goes away.
    let server = Server::with_feed(&issuer, move |mut client| {
        let revoked = snapshot(NOW, 0..connections.fetch_add(1, Ordering::SeqCst));
        let document = signed(&signer, &revoked);
        async move {
            client.send(EVENTS).await;
            client.send(event("snapshot", &document)).await;
        }
    })
    .await;
    let verifier = server.listener(&issuer).await;
    eventually("the first stream", || verifier.status().feed.losses > 0).await;
    let lost_at = Instant::now();
    eventually("the second stream", || is_revoked(&verifier, &issuer, 0)).await;
    // After half a second at most; the rest is for a machine that is busy.
    assert!(lost_at.elapsed() < Duration::from_secs(5), "{:?}", lost_at.elapsed());
    assert!(server.requests(FEED) >= 2, "a connection of its own for each attempt");
}

#[tokio::test]
async fn response_that_is_not_a_stream_is_not_read() {
    let trap = Server::new(|_| Box::pin(async {})).await;
    let issuer = issuer();
    let events = "content-type: text/event-stream\r\n";
    let mut cases: Vec<(String, FeedError)> = [301, 302, 303, 307, 308]
        .map(|status| (format!("{status} Moved\r\nlocation: {}{FEED}", trap.url), FeedError::Status(status)))
        .to_vec();
    cases.extend(
        [
            ("200 OK\r\nx: y", FeedError::NotEvents),
            ("200 OK\r\ncontent-type: text/html", FeedError::NotEvents),
            ("200 OK\r\ncontent-type: text/event-stream-x", FeedError::NotEvents),
            ("200 OK\r\ncontent-encoding: gzip", FeedError::NotEvents),
            ("200 OK\r\ncontent-encoding: identity", FeedError::NotEvents),
            ("204 No Content", FeedError::Status(204)),
            ("401 Unauthorized", FeedError::Status(401)),
            ("503 Service Unavailable", FeedError::Status(503)),
            ("404 Not Found", FeedError::NoFeed),
        ]
        .map(|(head, error)| (head.to_owned(), error)),
    );
    for (head, error) in cases {
        let has_type = head.contains("content-type") || head.contains("x: y");
        let head = format!("HTTP/1.1 {head}\r\n{}\r\n", if has_type { "" } else { events });
        let document = event("snapshot", &signed(&issuer, &snapshot(NOW, [1])));
        let server = Server::with_feed(&issuer, move |mut client| {
            let (head, document) = (head.clone(), document.clone());
            async move {
                client.send(head).await;
                // A bomb, if anyone cares to take it.
                while client.send(&document).await {}
            }
        })
        .await;
        let verifier = server.listener(&issuer).await;
        assert_eq!(lost(&verifier).await, error);
        let is_off = verifier.status().feed.state == FeedState::Off;
        assert_eq!(is_off, error == FeedError::NoFeed);
        assert_eq!(verifier.status().feed.sessions, 0, "{error}");
    }
    assert_eq!(trap.requests.lock().unwrap().len(), 0, "redirects are not followed");
}

#[tokio::test]
async fn head_that_does_not_end_is_given_up_on() {
    let issuer = issuer();
    let server = Server::with_feed(&issuer, async |mut client| {
        client.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx: ").await;
        while client.send("y").await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let start = Instant::now();
    let verifier = server.listener(&issuer).await;
    assert_eq!(lost(&verifier).await, FeedError::TimedOut);
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn dripping_server_slows_nobody_down() {
    let issuer = issuer();
    let (signer, connections) = (Arc::clone(&issuer), Arc::new(AtomicU64::new(0)));
    let server = Server::with_feed(&issuer, move |mut client| {
        let is_first = connections.fetch_add(1, Ordering::SeqCst) == 0;
        let document = event("snapshot", &signed(&signer, &snapshot(NOW, [1])));
        async move {
            client.send(EVENTS).await;
            // Once: the next stream must not be live before we have seen why this one was lost.
            if is_first {
                client.send(document).await;
            }
            client.send("event: delta\ndata: ").await;
            while client.send("x").await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    })
    .await;
    let start = Instant::now();
    let verifier = server.listener(&issuer).await;
    eventually("the snapshot", || verifier.status().feed.sessions == 1).await;
    let (token, drips) = (issuer.sign(&claims_of(&issuer, 2, NOW)), server.taken.load(Ordering::SeqCst));
    while server.taken.load(Ordering::SeqCst) < drips + 50 {
        let mut check = pin!(verifier.verify::<NoExtra>(&token));
        let answer = poll_fn(|context| Poll::Ready(check.as_mut().poll(context))).await;
        assert!(matches!(answer, Poll::Ready(Ok(_))), "a check that waits: {answer:?}");
        tokio::task::yield_now().await;
    }
    assert_eq!(lost(&verifier).await, FeedError::Silent);
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn endless_event_is_cut_off_at_16_mib() {
    let issuer = issuer();
    for line in ["event: snapshot\ndata: ", ":"] {
        let server = Server::with_feed(&issuer, move |mut client| async move {
            client.send(EVENTS).await;
            client.send(line).await;
            let block = vec![b'x'; 1 << 16];
            while client.send(&block).await {}
        })
        .await;
        let verifier = server.listener(&issuer).await;
        assert_eq!(lost(&verifier).await, FeedError::TooLarge, "{line}");
        // What the sockets of both sides hold comes on top, and part of the next attempt.
        let taken = server.taken.load(Ordering::SeqCst) >> 20;
        assert!((16..48).contains(&taken), "{taken} MiB");
    }
}

#[tokio::test]
async fn comments_at_full_speed_are_heard_for_five_seconds() {
    let issuer = issuer();
    let server = Server::with_feed(&issuer, async |mut client| {
        client.send(EVENTS).await;
        let block = ": keep-alive\n\n".repeat(1000);
        while client.send(&block).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let start = Instant::now();
    let verifier = server.listener(&issuer).await;
    assert_eq!(lost(&verifier).await, FeedError::Silent);
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
    // The next attempt may have begun already.
    assert!((1..=2).contains(&server.requests(FEED)), "{}", server.requests(FEED));
}

#[tokio::test]
async fn truncated_document_is_refused() {
    let issuer = issuer();
    let signer = Arc::clone(&issuer);
    let server = Server::with_feed(&issuer, move |mut client| {
        let event = event("snapshot", &signed(&signer, &snapshot(NOW, [1])));
        async move {
            client
                .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n")
                .await;
            client.send(&event[..event.len() - 1]).await;
        }
    })
    .await;
    let verifier = server.listener(&issuer).await;
    assert!(matches!(lost(&verifier).await, FeedError::Transport(_)));
    assert_eq!(verifier.status().feed.sessions, 0, "the empty line is missing");
}

#[tokio::test]
async fn server_that_hangs_up_immediately_is_retried_with_back_off() {
    let issuer = issuer();
    let server = Server::with_feed(&issuer, async |_| {}).await;
    let verifier = server.listener(&issuer).await;
    let fetches = server.requests(JWKS);
    tokio::time::sleep(Duration::from_secs(4)).await;
    // Waits of up to 0.5, 1, 2, 4 s: on average four attempts, and never a dozen.
    let attempts = server.requests(FEED);
    assert!((2..=12).contains(&attempts), "{attempts}");
    assert_eq!(server.requests(JWKS), fetches, "and the keys are left alone");
    let losses = usize::try_from(verifier.status().feed.losses).unwrap();
    assert!(losses.abs_diff(attempts) <= 1, "{losses} {attempts}");
}

#[tokio::test]
async fn nothing_in_a_token_makes_us_connect() {
    let trap = Server::new(|_| Box::pin(async {})).await;
    let issuer = issuer();
    let server = Server::with_feed(&issuer, async |mut client| client.gone().await).await;
    let verifier = server.listener(&issuer).await;
    let jwk = serde_json::to_value(issuer.jwk()).unwrap();
    for kid in [issuer.jwk().kid().as_str(), "unknown", &trap.url] {
        let header = json!({
            "typ": "at+jwt", "alg": "EdDSA", "kid": kid,
            "jku": format!("{}{JWKS}", trap.url), "x5u": trap.url, "jwk": jwk,
        });
        let mut claims = issuer.claims(NOW);
        claims.iss.clone_from(&trap.url);
        let token = issuer.sign_bytes(header.to_string(), serde_json::to_string(&claims).unwrap());
        assert!(matches!(verifier.verify::<NoExtra>(&token).await, Err(VerifyError::Invalid(_))));
    }
    assert_eq!(trap.requests.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn stampede_of_unknown_keys_is_one_connection_in_ten_seconds() {
    for answer in ["HTTP/1.1 500 X\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}", ""]
    {
        let issuer = issuer();
        let (signer, connections) = (Arc::clone(&issuer), Arc::new(AtomicU64::new(0)));
        let server = Server::new(move |mut client| {
            let (signer, first) = (Arc::clone(&signer), connections.fetch_add(1, Ordering::SeqCst) == 0);
            Box::pin(async move {
                if first {
                    client.send_jwks(&signer).await;
                } else {
                    client.send(answer).await;
                }
            })
        })
        .await;
        let clock = Arc::new(ManualClock::new(NOW));
        let verifier = Verifier::builder(ISSUER)
            .audience(AUDIENCE)
            .jwks_url(format!("{}{JWKS}", server.url))
            .without_feed()
            .clock(clock.clone())
            .build()
            .unwrap();
        in_time("keys", verifier.ready(Duration::from_secs(5))).await.unwrap();
        let good = issuer.sign(&issuer.claims(NOW));
        for round in 1..=6 {
            let callers: Vec<_> = (0..8)
                .map(|caller| {
                    let (verifier, issuer) = (verifier.clone(), Arc::clone(&issuer));
                    tokio::spawn(async move {
                        for number in 0..50 {
                            let kid = format!("{round}-{caller}-{number}");
                            let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": kid });
                            let token = issuer.sign_bytes(header.to_string(), "{}");
                            let refused = verifier.verify::<NoExtra>(&token).await.unwrap_err();
                            assert_eq!(refused, VerifyError::Invalid(Reason::UnknownKey));
                        }
                    })
                })
                .collect();
            for caller in callers {
                in_time("answers", caller).await.unwrap();
            }
            verifier.verify::<NoExtra>(&good).await.unwrap();
            assert_eq!(server.requests.lock().unwrap().len(), 1 + round, "{answer:?}");
            clock.advance(Seconds(10));
        }
    }
}

#[tokio::test]
async fn revoked_key_does_not_come_back_with_an_old_key_set() {
    let (issuer, thief) = (issuer(), issuer());
    let mut jwks = issuer.jwks();
    jwks.keys.push(thief.jwk());
    let body = serde_json::to_string(&jwks).unwrap();
    let mut claims = snapshot(NOW, []);
    claims["kids"] = json!([thief.jwk().kid()]);
    let document = event("snapshot", &signed(&issuer, &claims));
    let server = Server::new(move |mut client| {
        let (body, document) = (body.clone(), document.clone());
        Box::pin(async move {
            if client.path == JWKS {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                client.send(head + &body).await;
            } else {
                client.send(EVENTS).await;
                client.send(document).await;
                client.gone().await;
            }
        })
    })
    .await;
    let verifier = server.verifier();
    let token = thief.sign(&thief.claims(NOW));
    in_time("keys", verifier.verify::<NoExtra>(&token)).await.unwrap();
    eventually("the revocation", || verifier.status().feed.keys == 1).await;
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    let unknown = stranger.sign(&stranger.claims(NOW));
    let fetches = server.requests(JWKS);
    assert!(verifier.verify::<NoExtra>(&unknown).await.is_err());
    assert_eq!(server.requests(JWKS), fetches + 1, "the old set was fetched again");
    let refused = verifier.verify::<NoExtra>(&token).await.unwrap_err();
    assert_eq!(refused, VerifyError::Invalid(Reason::RevokedKey));
}

#[test]
fn feed_is_where_convention_or_the_builder_puts_it() {
    let state = |builder: VerifierBuilder| builder.audience(AUDIENCE).build().unwrap().status().feed.state;
    let keys = TestIssuer::new(ISSUER, AUDIENCE).jwks();
    let builder = || Verifier::builder(ISSUER);
    let url = format!("http://127.0.0.1:1{FEED}");
    let (on, off) = (FeedState::Connecting, FeedState::Off);
    assert_eq!(state(builder()), on);
    assert_eq!(state(builder().without_feed()), off);
    assert_eq!(state(builder().jwks_url("http://127.0.0.1:1/a/.well-known/jwks.json")), on);
    assert_eq!(state(builder().jwks_url("http://127.0.0.1:1/jwks.json")), off);
    assert_eq!(state(builder().jwks_url("http://127.0.0.1:1/jwks.json").feed_url(&url)), on);
    assert_eq!(state(builder().static_jwks(&keys)), off);
    assert_eq!(state(builder().static_jwks(&keys).feed_url(&url)), on);
    assert_eq!(state(builder().static_jwks(&keys).feed_source(HttpFeed::new(&url).unwrap())), on);
}

#[test]
fn feed_over_plain_http_to_another_machine_is_refused_before_anything_is_sent() {
    let refused = |url: &str| matches!(HttpFeed::new(url), Err(BuildError::BadUrl { .. }));
    assert!(refused("http://auth.example.com/v1/revocations/stream"));
    assert!(refused("https://user:secret@auth.example.com/") && refused("not a url"));
    assert!(!refused("https://auth.example.com/v1/revocations/stream"));
    let build = |url: &str| Verifier::builder(ISSUER).audience(AUDIENCE).feed_url(url).build().map(drop);
    assert!(matches!(build("http://auth.example.com/"), Err(BuildError::BadUrl { .. })));
    let strict = Verifier::builder(ISSUER).audience(AUDIENCE).without_feed().deny_when_stale(Seconds(10));
    assert_eq!(strict.build().map(drop), Err(BuildError::NoFeed));
}
