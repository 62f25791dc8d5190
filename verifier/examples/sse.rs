//! Server-sent events that end with the token of the request that opened the stream.
//!
//! ```text
//! cargo run -p access-token-verifier --example sse --features testing
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use verifier::testing::MockIssuer;
use verifier::{Guard, ManualClock, RequirePermission, Seconds, UnixTime};

async fn ticker(guard: Guard) -> Sse<ReceiverStream<Result<Event, Infallible>>> {
    let (events, stream) = mpsc::channel(16);
    tokio::spawn(async move {
        let work = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(200));
            loop {
                ticks.tick().await;
                if events.send(Ok(Event::default().data("tick"))).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = work => {}
            // An `EventSource` would connect again by itself; this tells it to get a token first.
            reason = guard.ended() => {
                let _ = events.send(Ok(Event::default().event("end").data(reason.label()))).await;
            }
        }
    });
    Sse::new(ReceiverStream::new(stream))
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
    let issuer = MockIssuer::start_at("ticker", clock.clone()).await?;
    let verifier = issuer.verifier().build()?;
    let app = Router::new()
        .route("/ticks", get(ticker).layer(RequirePermission::all(["ticks:read"])))
        .layer(verifier.layer());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let token = issuer.token().permission("ticks:read").sign();
    let mut client = tokio::net::TcpStream::connect(address).await?;
    let request = format!(
        "GET /ticks HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 1000];
    let length = client.read(&mut answer).await?;
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"));
    // Noticed within 5 s, since clocks do not jump as a rule.
    clock.advance(Seconds(330));
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    assert!(answer.contains("data: tick"));
    assert!(answer.contains("event: end\ndata: expired"));
    println!("the stream ended with its token");
    Ok(())
}
