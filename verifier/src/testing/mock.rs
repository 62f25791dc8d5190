//! An issuer on loopback that rotates, revokes and fails on command.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::issuer::TestIssuer;
use super::token::TestToken;
use crate::builder::VerifierBuilder;
use crate::clock::SystemClock;
use crate::core::base64url;
use crate::core::jwk::{Jwk, JwkSet, Kid};
use crate::core::revocation::{SessionId, parse_session};
use crate::core::time::{Clock, Seconds};
use crate::verifier::Verifier;

const JWKS: &str = "/.well-known/jwks.json";
const SNAPSHOT: &str = "/v1/revocations";
const STREAM: &str = "/v1/revocations/stream";

/// The stream sends a document at least this often.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The lifetime of access tokens, 300 s, and the tolerances of the service.
const KEEP_FOR: Seconds = Seconds(300 + 120 + 10);
/// The longest accepted request.
const MAX_REQUEST: usize = 16 * 1024;

/// An issuer for tests: serves key set and revocation feed over HTTP on its own port until it is dropped.
///
/// Instances share nothing, so tests can run in parallel. The endpoints are those of `auth-service`:
/// `/.well-known/jwks.json`, `/v1/revocations` and `/v1/revocations/stream`.
///
/// ```
/// # #[cfg(feature = "http")] {
/// use std::time::Duration;
///
/// use verifier::testing::MockIssuer;
/// use verifier::{NoExtra, Verified};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = MockIssuer::start("orders-api").await?;
/// let verifier = issuer.verifier().build()?;
/// let token = issuer.token().subject("bob").permission("orders:read").sign();
/// let user: Verified = verifier.verify(&token).await?;
/// assert_eq!(user.subject(), "bob");
///
/// issuer.rotate();
/// assert!(verifier.verify::<NoExtra>(&issuer.token().sign()).await.is_ok());
/// issuer.fail(503);
/// assert!(verifier.verify::<NoExtra>(&token).await.is_ok());
/// # Ok(()) }
/// # main().unwrap();
/// # }
/// ```
#[derive(Debug)]
pub struct MockIssuer {
    shared: Arc<Shared>,
    url: String,
    server: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    issuer: String,
    audience: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Wakes streams and hanging requests.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    /// The last key signs. Not empty.
    keys: Vec<TestIssuer>,
    withdrawn: Vec<Kid>,
    keys_version: u64,
    max_age: Seconds,
    sessions: Vec<SessionId>,
    revoked_keys: Vec<Kid>,
    /// When `sessions` or `revoked_keys` last changed, in milliseconds.
    revised_at: i64,
    mode: Mode,
    requests: HashMap<String, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Serving,
    Failing(u16),
    Hanging,
}

impl MockIssuer {
    /// Starts an issuer of `EdDSA` tokens for `audience`, with the clock of the operating system, on the
    /// current runtime.
    ///
    /// # Errors
    /// No port on 127.0.0.1 is available.
    pub async fn start(audience: &str) -> io::Result<Self> {
        Self::start_at(audience, Arc::new(SystemClock::new())).await
    }

    /// As [`start`](Self::start), with this clock, also for tokens and [`verifier`](Self::verifier).
    ///
    /// # Errors
    /// No port on 127.0.0.1 is available.
    pub async fn start_at(audience: &str, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = State {
            keys: vec![TestIssuer::new(&url, audience)],
            withdrawn: Vec::new(),
            keys_version: 1,
            max_age: Seconds(300),
            sessions: Vec::new(),
            revoked_keys: Vec::new(),
            revised_at: clock.unix_millis(),
            mode: Mode::Serving,
            requests: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            issuer: url.clone(),
            audience: audience.to_owned(),
            clock,
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, url, server })
    }

    /// The issuer, `http://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A builder for a verifier of these tokens, with the same clock. It fetches over HTTP; without the
    /// feature `http`, set another source of keys.
    pub fn verifier(&self) -> VerifierBuilder {
        Verifier::builder(&self.url).audience(&self.shared.audience).clock(Arc::clone(&self.shared.clock))
    }

    /// A token of `alice`, issued now and signed by the current key.
    pub fn token(&self) -> TestToken {
        self.signer().token_at(self.shared.clock.now())
    }

    /// The current key, for tokens of any shape.
    pub fn signer(&self) -> TestIssuer {
        self.shared.state().signer().clone()
    }

    /// The id of the current key.
    pub fn kid(&self) -> Kid {
        self.signer().jwk().kid().clone()
    }

    /// The published key set.
    pub fn jwks(&self) -> JwkSet {
        self.shared.state().jwks()
    }

    /// Signs with a new key from now on, and returns its id. The old key stays published.
    pub fn rotate(&self) -> Kid {
        self.change(|state| {
            let fresh = state.signer().with_fresh_key();
            let kid = fresh.jwk().kid().clone();
            state.keys.push(fresh);
            state.keys_version += 1;
            kid
        })
    }

    /// Removes this key from the key set. If it is the current one it still signs, so tests can check what
    /// happens to its tokens.
    pub fn withdraw(&self, kid: &Kid) {
        self.change(|state| {
            state.withdrawn.push(kid.clone());
            state.keys_version += 1;
        });
    }

    /// Sets the `max-age` of the key set instead of 300 s.
    pub fn max_age(&self, max_age: Seconds) {
        self.change(|state| state.max_age = max_age);
    }

    /// Revokes a session.
    ///
    /// # Panics
    /// If `sid` is not a UUID: no other session can be revoked.
    pub fn revoke_session(&self, sid: &str) {
        let session = parse_session(sid).expect("the session id is a UUID");
        let now = self.shared.clock.unix_millis();
        self.change(|state| {
            state.sessions.push(session);
            state.revised_at = now;
        });
    }

    /// Revokes a key, and removes it from the key set. Rotate first: a document that is signed by the revoked
    /// key itself is refused.
    pub fn revoke_key(&self, kid: &Kid) {
        let now = self.shared.clock.unix_millis();
        self.change(|state| {
            state.revoked_keys.push(kid.clone());
            state.withdrawn.push(kid.clone());
            state.keys_version += 1;
            state.revised_at = now;
        });
    }

    /// Responds to every request with this status from now on, and ends the streams.
    pub fn fail(&self, status: u16) {
        self.change(|state| state.mode = Mode::Failing(status));
    }

    /// Accepts connections but sends nothing from now on, not even on open streams.
    pub fn hang(&self) {
        self.change(|state| state.mode = Mode::Hanging);
    }

    /// Responds normally again, also to waiting requests.
    pub fn recover(&self) {
        self.change(|state| state.mode = Mode::Serving);
    }

    /// The number of requests for this path, whatever the response was.
    pub fn requests(&self, path: &str) -> usize {
        self.shared.state().requests.get(path).copied().unwrap_or_default()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.shared.state());
        self.shared.changed.send_replace(());
        result
    }
}

impl Drop for MockIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn signer(&self) -> &TestIssuer {
        self.keys.last().expect("there is always a key")
    }

    fn jwks(&self) -> JwkSet {
        let keys: Vec<Jwk> = self.keys.iter().map(TestIssuer::jwk).collect();
        let keys = keys.into_iter().filter(|key| !self.withdrawn.contains(key.kid())).collect();
        JwkSet { keys, keys_version: Some(self.keys_version) }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the key set, and when the revocations last changed.
    fn revision(&self) -> (u64, i64) {
        let state = self.state();
        (state.keys_version, state.revised_at)
    }

    /// All revocations, signed. With `since` it is a delta, which may contain more than is new.
    fn revocations(&self, since: Option<i64>) -> String {
        let state = self.state();
        let mut sessions = state.sessions.clone();
        sessions.sort_unstable();
        sessions.dedup();
        let now = self.clock.now();
        let mut claims = json!({
            "iss": self.issuer, "iat": now, "exp": now + Seconds(86_400), "as_of": self.clock.unix_millis(),
            "keep_for": KEEP_FOR, "sids": base64url::encode(sessions.concat()), "kids": state.revoked_keys,
        });
        if let Some(since) = since {
            claims["since"] = since.into();
        }
        state.signer().sign_as("revocations+jwt", &claims)
    }

    /// The status to fail with, if any. Waits while requests hang.
    async fn is_failing(&self) -> Option<u16> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            match self.state().mode {
                Mode::Serving => return None,
                Mode::Failing(status) => return Some(status),
                Mode::Hanging => {}
            }
            // The sender is in `self`.
            let _ = changed.changed().await;
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Aborted together with this task.
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // An error means that the client hung up.
            let _ = answer(connection, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Handles one request and closes the connection.
async fn answer(mut connection: TcpStream, shared: &Shared) -> io::Result<()> {
    let path = read_path(&mut connection).await?;
    *shared.state().requests.entry(path.clone()).or_default() += 1;
    let failing = shared.is_failing().await;
    let max_age = shared.state().max_age.0;
    let (status, content_type, caching, body) = match (failing, path.as_str()) {
        (Some(status), _) => (status, "text/plain", "no-store".to_owned(), String::new()),
        (None, JWKS) => {
            let jwks = serde_json::to_string(&shared.state().jwks())?;
            (200, "application/jwk-set+json", format!("max-age={max_age}"), jwks)
        }
        (None, SNAPSHOT) => {
            (200, "application/revocations+jwt", "no-cache".to_owned(), shared.revocations(None))
        }
        (None, STREAM) => return stream(connection, shared).await,
        (None, _) => (404, "text/plain", "no-store".to_owned(), String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status} \r\ncontent-type: {content_type}\r\ncache-control: {caching}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(body.as_bytes()).await?;
    connection.shutdown().await
}

/// Reads the head of the request and returns its path.
async fn read_path(connection: &mut TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if request.len() == MAX_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        request.push(connection.read_u8().await?);
    }
    let request = String::from_utf8_lossy(&request);
    let target = request.split(' ').nth(1).unwrap_or_default();
    Ok(target.split('?').next().unwrap_or_default().to_owned())
}

/// Sends events: a snapshot, then a delta for each change and as a heartbeat.
async fn stream(mut connection: TcpStream, shared: &Shared) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                cache-control: no-cache, no-transform\r\nx-accel-buffering: no\r\nconnection: close\r\n\r\n";
    connection.write_all(head.as_bytes()).await?;
    let mut changed = shared.changed.subscribe();
    let (mut version, mut since) = shared.revision();
    let mut events = format!("event: snapshot\ndata: {}\n\n", shared.revocations(None));
    loop {
        connection.write_all(events.as_bytes()).await?;
        // The client sends nothing, so a read ends when it disconnects.
        tokio::select! {
            () = tokio::time::sleep(HEARTBEAT) => {}
            _ = changed.changed() => {}
            _ = connection.read_u8() => return Ok(()),
        }
        if shared.is_failing().await.is_some() {
            return connection.shutdown().await;
        }
        changed.mark_unchanged();
        let (version_now, revised_at) = shared.revision();
        let delta = shared.revocations(Some(since));
        let delta = format!("event: delta\ndata: {delta}\n\n");
        events = if version_now == version {
            delta
        } else {
            format!("event: jwks\ndata: {version_now}\n\n{delta}")
        };
        (version, since) = (version_now, revised_at);
    }
}
