//! A key set fetched by a client of your own, here one that speaks just enough HTTP. With it the crate needs
//! no feature `http`, and keys can come through a proxy, from a private authority or from a file.
//!
//! ```text
//! cargo run -p access-token-verifier --example own_client --features testing
//! ```

use std::error::Error;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use verifier::testing::MockIssuer;
use verifier::{FetchError, FetchFuture, Fetched, JwksRequest, JwksSource, Seconds, Verified};

#[derive(Debug)]
struct PlainHttp {
    address: String,
}

impl PlainHttp {
    async fn get(&self, path: &str, no_cache: bool) -> io::Result<String> {
        let mut connection = TcpStream::connect(&self.address).await?;
        let caching = if no_cache { "cache-control: no-cache\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n{caching}\r\n", self.address);
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        // The peer is not trusted, so the size is bounded. The caller bounds the time.
        connection.take(300 * 1024).read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl JwksSource for PlainHttp {
    fn fetch<'a>(&'a self, request: &'a JwksRequest) -> FetchFuture<'a> {
        Box::pin(async move {
            let answer = self.get("/.well-known/jwks.json", request.no_cache).await;
            let answer = answer.map_err(FetchError::transport)?;
            let (head, body) = answer.split_once("\r\n\r\n").ok_or(FetchError::Unexpected)?;
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            if status != 200 {
                return Err(FetchError::Status(status));
            }
            let mut fetched = Fetched::new(body);
            let max_age = head.lines().find_map(|line| line.strip_prefix("cache-control: max-age="));
            fetched.max_age = max_age.and_then(|seconds| seconds.parse().ok()).map(Seconds);
            Ok(fetched)
        })
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let issuer = MockIssuer::start("orders-api").await?;
    let address = issuer.url().trim_start_matches("http://").to_owned();
    let verifier = issuer.verifier().source(PlainHttp { address }).build()?;

    let user: Verified = verifier.verify(&issuer.token().sign()).await?;
    println!("hello, {}", user.subject());
    // A new key is fetched when its first token arrives.
    issuer.rotate();
    let user: Verified = verifier.verify(&issuer.token().subject("bob").sign()).await?;
    println!("hello, {}", user.subject());
    assert_eq!(issuer.requests("/.well-known/jwks.json"), 2);
    Ok(())
}
