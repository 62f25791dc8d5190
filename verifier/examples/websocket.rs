//! A WebSocket that ends with its token, and goes on with a new one: axum, a browser's way to send the token,
//! and a client that shows all of it.
//!
//! ```text
//! cargo run -p access-token-verifier --example websocket --features testing
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, protocol};
use verifier::testing::MockIssuer;
use verifier::{Auth, Guard, ManualClock, NoExtra, Seconds, UnixTime, Verified};

/// Ours, from the range for applications (RFC 6455 §7.4.2): get a token and come back.
const TOKEN_ENDED: u16 = 4401;
const FAREWELL: Duration = Duration::from_secs(1);

async fn open(upgrade: WebSocketUpgrade, Auth(user): Auth, guard: Guard) -> Response {
    // The token was removed from the offered subprotocols.
    upgrade.protocols(["chat"]).on_upgrade(move |socket| talk(socket, user, guard))
}

/// The end of the token ends everything, also an answer that the client does not read.
async fn talk(mut socket: WebSocket, user: Arc<Verified<NoExtra>>, guard: Guard) {
    let reason = tokio::select! {
        reason = guard.ended() => reason,
        () = converse(&mut socket, user, &guard) => return,
    };
    let farewell = CloseFrame { code: TOKEN_ENDED, reason: reason.label().into() };
    // A client that reads nothing will not read this either.
    let _ = tokio::time::timeout(FAREWELL, socket.send(Message::Close(Some(farewell)))).await;
}

async fn converse(socket: &mut WebSocket, mut user: Arc<Verified<NoExtra>>, guard: &Guard) {
    while let Some(Ok(Message::Text(text))) = socket.recv().await {
        let answer = match text.strip_prefix("renew ") {
            // A bad token changes nothing: the connection goes on with the one it had.
            Some(token) => match guard.renew(token).await {
                Ok(renewed) => {
                    user = Arc::new(renewed);
                    "renewed".to_owned()
                }
                Err(error) => format!("not renewed: {error}"),
            },
            None if user.has_permission("chat:write") => format!("{}: {text}", user.subject()),
            None => "you may only listen".to_owned(),
        };
        if socket.send(Message::text(answer)).await.is_err() {
            return;
        }
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
    let issuer = MockIssuer::start_at("chat", clock.clone()).await?;
    let verifier = issuer.verifier().build()?;
    let app = Router::new().route("/chat", any(open)).layer(verifier.layer().with_websocket_token());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let token = issuer.token().sign();
    let mut client = Client::connect(&format!("ws://{address}/chat"), &token).await?;
    assert_eq!(client.ask("hello").await?, "you may only listen");
    let others = issuer.token().subject("bob").permission("chat:write").sign();
    assert_eq!(client.ask(&format!("renew {others}")).await?, "not renewed: token has another subject");
    clock.advance(Seconds(200));
    let renewed = issuer.token().permission("chat:write").sign();
    assert_eq!(client.ask(&format!("renew {renewed}")).await?, "renewed");
    clock.advance(Seconds(200));
    assert_eq!(client.ask("hello").await?, "alice: hello");
    clock.advance(Seconds(200));
    assert_eq!(client.closed().await?, (TOKEN_ENDED, "expired".to_owned()));
    println!("the connection ended with its token");
    Ok(())
}

struct Client(tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>);

impl Client {
    /// As a browser does: `new WebSocket(url, ["chat", "base64url.bearer…"])`.
    async fn connect(url: &str, token: &str) -> Result<Self, Box<dyn Error>> {
        use base64::Engine as _;
        let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
        let mut request = url.into_client_request()?;
        let offer = format!("chat, base64url.bearer.authorization.k8s.io.{token}");
        request.headers_mut().insert("sec-websocket-protocol", offer.parse()?);
        let (socket, answer) = tokio_tungstenite::connect_async(request).await?;
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
        Ok(Self(socket))
    }

    async fn ask(&mut self, text: &str) -> Result<String, Box<dyn Error>> {
        self.send(protocol::Message::text(text)).await?;
        Ok(self.receive().await?.into_text()?.to_string())
    }

    async fn closed(&mut self) -> Result<(u16, String), Box<dyn Error>> {
        match self.receive().await? {
            protocol::Message::Close(Some(frame)) => Ok((frame.code.into(), frame.reason.to_string())),
            other => Err(format!("not a farewell: {other:?}").into()),
        }
    }

    async fn send(&mut self, message: protocol::Message) -> Result<(), tungstenite::Error> {
        use futures_util::SinkExt as _;
        self.0.send(message).await
    }

    async fn receive(&mut self) -> Result<protocol::Message, Box<dyn Error>> {
        use tokio_stream::StreamExt as _;
        Ok(self.0.next().await.ok_or("the connection broke")??)
    }
}
