//! The built-in client against a real socket.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::{AUDIENCE, ISSUER, NOW, eventually, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use verifier::testing::TestIssuer;
use verifier::{
    BuildError, FetchError, Fetched, HttpSource, JwksError, JwksRequest, JwksSource, ManualClock, NoExtra,
    Seconds, Verifier, VerifyError,
};

/// A server that gives every connection the same answer and keeps what it was asked.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::talking(move |mut socket| {
            let answer = Arc::clone(&answer);
            async move {
                // The client may hang up early: that is what some tests are about.
                let _ = socket.write_all(&answer).await;
                let _ = socket.shutdown().await;
            }
        })
        .await
    }

    async fn talking<F: Future<Output = ()> + Send>(talk: impl Fn(TcpStream) -> F + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => break,
                    }
                }
                seen.lock().unwrap().push(String::from_utf8(request).unwrap().to_lowercase());
                talk(socket).await;
            }
        });
        Self { url, requests }
    }

    async fn fetch(&self, request: &JwksRequest) -> Result<Fetched, FetchError> {
        let source = HttpSource::new(&self.url).unwrap();
        in_time("an answer", source.fetch(request)).await
    }

    fn verifier(&self) -> Verifier {
        let clock = Arc::new(ManualClock::new(NOW));
        Verifier::builder(ISSUER).audience(AUDIENCE).jwks_url(&self.url).clock(clock).build().unwrap()
    }
}

fn ok(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

fn forced(etag: &str) -> JwksRequest {
    let mut request = JwksRequest::default();
    (request.etag, request.no_cache) = (Some(etag.to_owned()), true);
    request
}

#[tokio::test]
async fn answer_is_handed_on_with_its_caching_headers() {
    let server =
        Server::answering(ok("cache-control: public, max-age=60\r\nage: 7\r\netag: \"a\"\r\n", "{}")).await;
    let fetched = server.fetch(&JwksRequest::default()).await.unwrap();
    assert_eq!(fetched.document.as_deref(), Some(&b"{}"[..]));
    assert_eq!((fetched.max_age, fetched.age), (Some(Seconds(60)), Some(Seconds(7))));
    assert_eq!(fetched.etag.as_deref(), Some("\"a\""));
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.starts_with("get /jwks.json http/1.1\r\n"), "{request}");
    assert!(!request.contains("no-cache") && !request.contains("if-none-match"), "{request}");
}

#[tokio::test]
async fn forced_fetch_goes_past_the_caches_and_may_be_confirmed() {
    let server = Server::answering("HTTP/1.1 304 Not Modified\r\ncache-control: max-age=9\r\n\r\n").await;
    let fetched = server.fetch(&forced("\"a\"")).await.unwrap();
    assert_eq!((fetched.document, fetched.max_age), (None, Some(Seconds(9))));
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.contains("\r\ncache-control: no-cache\r\n"), "{request}");
    assert!(request.contains("\r\nif-none-match: \"a\"\r\n"), "{request}");
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let target = Server::answering(ok("", "{\"keys\":[]}")).await;
    for status in [301, 302, 303, 307, 308] {
        let redirect =
            format!("HTTP/1.1 {status} Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", target.url);
        let server = Server::answering(redirect).await;
        assert_eq!(server.fetch(&JwksRequest::default()).await, Err(FetchError::Status(status)));
    }
    assert!(target.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn status_other_than_ok_is_an_error() {
    for status in [201, 204, 304, 401, 404, 429, 500, 503] {
        let server = Server::answering(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(server.fetch(&JwksRequest::default()).await, Err(FetchError::Status(status)));
    }
}

#[tokio::test]
async fn answer_larger_than_256_kib_is_not_read() {
    let too_large = Err(FetchError::Jwks(JwksError::TooLarge));
    let server = Server::answering(ok("", &" ".repeat(256 * 1024 + 1))).await;
    assert_eq!(server.fetch(&JwksRequest::default()).await, too_large);
    let server = Server::answering(ok("", &" ".repeat(256 * 1024))).await;
    assert!(server.fetch(&JwksRequest::default()).await.is_ok());

    let endless = Server::talking(async |mut socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while socket.write_all(format!("400\r\n{}\r\n", " ".repeat(0x400)).as_bytes()).await.is_ok() {}
    })
    .await;
    assert_eq!(endless.fetch(&JwksRequest::default()).await, too_large);
}

#[tokio::test]
async fn nothing_is_unpacked() {
    let server = Server::answering(ok("content-encoding: gzip\r\n", "bomb")).await;
    assert_eq!(server.fetch(&JwksRequest::default()).await, Err(FetchError::Unexpected));
    assert!(!server.requests.lock().unwrap()[0].contains("accept-encoding"));
}

#[tokio::test]
async fn truncated_answer_is_an_error() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":").await;
    assert!(matches!(server.fetch(&JwksRequest::default()).await, Err(FetchError::Transport(_))));
}

#[tokio::test]
async fn refused_connection_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = HttpSource::new(&url).unwrap().fetch(&JwksRequest::default()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn trickling_server_is_given_up_on() {
    let server = Server::talking(async |mut socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while socket.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let issuer = TestIssuer::new(ISSUER, AUDIENCE);
    let token = issuer.sign(&issuer.claims(NOW));
    let verifier = server.verifier();
    let started = tokio::time::Instant::now();
    let refused = verifier.verify::<NoExtra>(&token).await.unwrap_err();
    assert_eq!(refused, VerifyError::Unavailable(FetchError::NotFetched));
    assert!((1900..4500).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    let timed_out = VerifyError::Unavailable(FetchError::TimedOut);
    eventually("the end of the fetch", || verifier.verify_now::<NoExtra>(&token).unwrap_err() == timed_out)
        .await;
    assert!((4900..9500).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn token_is_verified_with_fetched_keys() {
    let issuer = TestIssuer::es256(ISSUER, AUDIENCE);
    let server = Server::answering(ok("", &serde_json::to_string(&issuer.jwks()).unwrap())).await;
    let verifier = server.verifier();
    let token = issuer.sign(&issuer.claims(NOW));
    assert_eq!(in_time("an answer", verifier.verify::<NoExtra>(&token)).await.unwrap().subject(), "alice");
    assert_eq!(verifier.verify_now::<NoExtra>(&token).unwrap().subject(), "alice");
}

#[test]
fn plain_http_to_another_machine_is_refused_before_anything_is_sent() {
    let build = |issuer: &str| Verifier::builder(issuer).audience(AUDIENCE).build().map(|_| ());
    assert!(matches!(build("http://auth.example.com"), Err(BuildError::BadUrl { .. })));
    assert!(matches!(build("not a url"), Err(BuildError::BadUrl { .. })));
    assert_eq!(build("https://auth.example.com"), Ok(()));
    assert_eq!(build("https://auth.example.com/"), Ok(()));
    assert_eq!(build("http://127.0.0.1:8080"), Ok(()));
    let explicit =
        Verifier::builder("urn:issuer").audience(AUDIENCE).jwks_url("http://auth.example.com/jwks").build();
    assert!(matches!(explicit, Err(BuildError::BadUrl { url, .. }) if url == "http://auth.example.com/jwks"));
}

#[test]
fn password_in_the_url_is_refused_and_not_repeated() {
    let error = HttpSource::new("https://user:secret@auth.example.com/jwks").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
}

#[test]
fn verifier_without_issuer_or_audience_is_not_built() {
    assert_eq!(Verifier::builder("").audience("a").build().unwrap_err(), BuildError::NoIssuer);
    assert_eq!(Verifier::builder(ISSUER).build().unwrap_err(), BuildError::NoAudience);
    assert_eq!(
        Verifier::builder(ISSUER).audience("a").audience("").build().unwrap_err(),
        BuildError::NoAudience
    );
}
