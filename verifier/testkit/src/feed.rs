//! Documents of the revocation feed, and a stream that says what it is told to.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use verifier::testing::TestIssuer;
use verifier::{AccessClaims, ChunkFuture, ConnectFuture, FeedBody, FeedError, FeedSource, UnixTime};

/// The `number`-th session: its 16 bytes and the UUID they spell.
pub fn session(number: u64) -> [u8; 16] {
    let mixed = u128::from(number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    mixed.to_be_bytes()
}

pub fn sid(number: u64) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(session(number)));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Claims of a token that belongs to the `number`-th session.
pub fn claims_of(issuer: &TestIssuer, number: u64, now: UnixTime) -> AccessClaims {
    AccessClaims { sid: Some(sid(number)), ..issuer.claims(now) }
}

pub fn sids(numbers: impl IntoIterator<Item = u64>) -> String {
    URL_SAFE_NO_PAD.encode(numbers.into_iter().flat_map(session).collect::<Vec<_>>())
}

/// The claims of a snapshot that is good at `now`; change what the test is about.
pub fn snapshot(now: UnixTime, revoked: impl IntoIterator<Item = u64>) -> Value {
    json!({
        "iss": crate::ISSUER,
        "iat": now.0,
        "exp": now.0 + 86_400,
        "as_of": now.0 * 1000,
        "keep_for": 430,
        "sids": sids(revoked),
        "kids": [],
    })
}

/// The claims of a delta from `since` to `as_of`, both in milliseconds.
pub fn delta(since: i64, as_of: i64, revoked: impl IntoIterator<Item = u64>) -> Value {
    let mut claims = snapshot(UnixTime(as_of / 1000), revoked);
    claims["as_of"] = as_of.into();
    claims["since"] = since.into();
    claims
}

pub fn header(issuer: &TestIssuer) -> Value {
    let jwk = issuer.jwk();
    json!({ "typ": "revocations+jwt", "alg": jwk.algorithm(), "kid": jwk.kid() })
}

pub fn signed(issuer: &TestIssuer, claims: &Value) -> String {
    issuer.sign_bytes(header(issuer).to_string(), claims.to_string())
}

pub fn event(name: &str, data: &str) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

/// A source whose connections the test answers, each when it likes.
#[derive(Debug)]
pub struct Script {
    waiting: mpsc::UnboundedSender<Attempt>,
    attempts: Mutex<Vec<Instant>>,
}

/// A connection that someone waits for.
#[derive(Debug)]
pub struct Attempt(oneshot::Sender<Result<Stream, FeedError>>);

type Chunk = Result<Vec<u8>, FeedError>;

#[derive(Debug)]
struct Stream(mpsc::UnboundedReceiver<Chunk>);

/// The sending end of a stream. Dropping it ends the stream.
#[derive(Debug)]
pub struct Server(mpsc::UnboundedSender<Chunk>);

impl Script {
    pub fn new() -> (Arc<Self>, Attempts) {
        let (waiting, attempts) = mpsc::unbounded_channel();
        (Arc::new(Self { waiting, attempts: Mutex::default() }), Attempts(attempts))
    }

    /// When each attempt was made.
    pub fn attempts(&self) -> Vec<Instant> {
        self.attempts.lock().unwrap().clone()
    }
}

impl FeedSource for Script {
    fn connect(&self) -> ConnectFuture<'_> {
        self.attempts.lock().unwrap().push(Instant::now());
        let (answer, answered) = oneshot::channel();
        self.waiting.send(Attempt(answer)).ok();
        Box::pin(async {
            let stream = answered.await.unwrap_or(Err(FeedError::transport("refused")))?;
            Ok(Box::new(stream) as Box<dyn FeedBody>)
        })
    }
}

impl FeedBody for Stream {
    fn next_chunk(&mut self) -> ChunkFuture<'_> {
        Box::pin(async { self.0.recv().await.transpose() })
    }
}

/// The connections as they are asked for.
#[derive(Debug)]
pub struct Attempts(mpsc::UnboundedReceiver<Attempt>);

impl Attempts {
    /// The next one that has not been given up on.
    pub async fn next(&mut self) -> Attempt {
        loop {
            let attempt = tokio::time::timeout(Duration::from_mins(10), self.0.recv()).await;
            let attempt = attempt.expect("an attempt").unwrap();
            if !attempt.0.is_closed() {
                return attempt;
            }
        }
    }

    pub async fn accept(&mut self) -> Server {
        self.next().await.accept()
    }

    /// `true` if nobody tried to connect yet.
    pub fn is_idle(&mut self) -> bool {
        self.0.is_empty()
    }
}

impl Attempt {
    pub fn accept(self) -> Server {
        let (sender, receiver) = mpsc::unbounded_channel();
        assert!(self.0.send(Ok(Stream(receiver))).is_ok(), "nobody waits any more");
        Server(sender)
    }

    pub fn refuse(self, error: FeedError) {
        drop(self.0.send(Err(error)));
    }
}

impl Server {
    pub fn send(&self, name: &str, data: &str) {
        self.send_bytes(event(name, data));
    }

    pub fn send_bytes(&self, bytes: impl Into<Vec<u8>>) {
        // The client may have hung up: some tests are about that.
        let _ = self.0.send(Ok(bytes.into()));
    }

    pub fn fail(&self, error: FeedError) {
        let _ = self.0.send(Err(error));
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Bytes that are handed out piece by piece.
pub fn pieces(bytes: &[u8], sizes: impl IntoIterator<Item = usize>) -> VecDeque<Vec<u8>> {
    let (mut rest, mut cut) = (bytes, VecDeque::new());
    for size in sizes {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        cut.push_back(piece.to_vec());
        rest = after;
    }
    cut.push_back(rest.to_vec());
    cut
}
