//! One WebSocket to `live-service`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A socket may have to wait for its token to expire.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// An open socket. It responds to pings only while a caller waits for a frame.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    welcome: Value,
    /// Messages that arrived while a response was awaited.
    early: VecDeque<Value>,
}

/// An event of a socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A frame.
    Said(Value),
    /// The service ended the socket, with this code and reason.
    Closed(u16, String),
    /// The connection broke.
    Broken,
}

/// Why a socket was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The service or a proxy refused it.
    Status(u16),
    /// There was no response.
    Broken,
}

impl Socket {
    /// Opens a socket at a balancer or a replica; `after` is the number of the last seen message.
    pub async fn open(address: SocketAddr, token: &str, after: Option<i64>) -> Result<Self, Refused> {
        let bearer = (header::AUTHORIZATION, format!("Bearer {token}"));
        Self::open_with(address, after, &[bearer]).await
    }

    /// The same with these header fields instead of a token.
    pub async fn open_with(
        address: SocketAddr,
        after: Option<i64>,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Self, Refused> {
        let stream = timeout(TIMEOUT, TcpStream::connect(address)).await;
        let Ok(Ok(stream)) = stream else { return Err(Refused::Broken) };
        Self::open_over(stream, after, headers).await
    }

    /// The same over an established connection.
    pub async fn open_over(
        stream: TcpStream,
        after: Option<i64>,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Self, Refused> {
        drop(stream.set_nodelay(true));
        let Ok(address) = stream.peer_addr() else { return Err(Refused::Broken) };
        let query = after.map_or(String::new(), |after| format!("?after={after}"));
        let mut request = format!("ws://{address}/live{query}").into_client_request().expect("a URL");
        for (name, value) in headers {
            request.headers_mut().append(name, HeaderValue::try_from(value).expect("a header value"));
        }
        let handshake = tokio_tungstenite::client_async(request, stream);
        let stream = match timeout(TIMEOUT, handshake).await {
            Ok(Ok((stream, _))) => stream,
            Ok(Err(Error::Http(answer))) => return Err(Refused::Status(answer.status().as_u16())),
            Ok(Err(_)) | Err(_) => return Err(Refused::Broken),
        };
        let mut socket = Self { stream, welcome: Value::Null, early: VecDeque::new() };
        let Event::Said(welcome) = socket.next().await else { return Err(Refused::Broken) };
        socket.welcome = welcome;
        Ok(socket)
    }

    /// The first frame of the service.
    pub const fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// The replica at the other end.
    pub fn replica(&self) -> &str {
        self.welcome["replica"].as_str().unwrap_or_default()
    }

    /// Sends a frame. `false` if the connection is broken.
    pub async fn say(&mut self, frame: &Value) -> bool {
        self.send(Message::text(frame.to_string())).await
    }

    /// Sends any message. `false` if the connection is broken.
    pub async fn send(&mut self, message: Message) -> bool {
        self.stream.send(message).await.is_ok()
    }

    /// Sends raw bytes. `false` if the connection is broken.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).await.is_ok()
    }

    /// Sends a frame and waits for the response. Messages that arrive before it are kept.
    pub async fn ask(&mut self, frame: &Value) -> Value {
        assert!(self.say(frame).await, "the connection is broken");
        within("an answer", async {
            loop {
                match self.receive().await {
                    Event::Said(said) if said["type"] == "message" => self.early.push_back(said),
                    Event::Said(said) => return said,
                    end => panic!("an answer was awaited, not {end:?}"),
                }
            }
        })
        .await
    }

    /// Sends a message to its own inbox, and returns its number once it is acknowledged.
    pub async fn deliver(&mut self, id: &str, body: &str) -> i64 {
        let answer = self.ask(&json!({ "type": "send", "id": id, "body": body })).await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("sent"), &json!(id)), "{answer}");
        answer["seq"].as_i64().expect("a number")
    }

    /// As [`deliver`](Self::deliver), but repeats the message while the service says that it is unavailable, as the protocol asks.
    pub async fn deliver_eventually(&mut self, id: &str, body: &str) {
        let frame = json!({ "type": "send", "id": id, "body": body });
        let mut answer = self.ask(&frame).await;
        for _ in 0..10 {
            if answer["code"] != "unavailable" {
                break;
            }
            answer = self.ask(&frame).await;
        }
        assert_eq!((&answer["type"], &answer["id"]), (&json!("sent"), &json!(id)), "{answer}");
    }

    /// The next frame, which must be a message.
    pub async fn message(&mut self) -> Value {
        match within("a message", self.next()).await {
            Event::Said(said) if said["type"] == "message" => said,
            other => panic!("a message was awaited, not {other:?}"),
        }
    }

    /// Skips frames until the service ends the socket.
    pub async fn closed(&mut self) -> (u16, String) {
        let end = timeout(END_TIMEOUT, async {
            loop {
                match self.next().await {
                    Event::Said(_) => {}
                    Event::Closed(code, reason) => return (code, reason),
                    Event::Broken => panic!("the connection broke without a word"),
                }
            }
        });
        end.await.unwrap_or_else(|_| panic!("waited {END_TIMEOUT:?} in vain: the service ends the socket"))
    }

    /// The next event, without a timeout. The call can be cancelled and repeated without loss.
    pub async fn next(&mut self) -> Event {
        match self.early.pop_front() {
            Some(message) => Event::Said(message),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Event {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Event::Said(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    let end = Event::Closed(frame.code.into(), frame.reason.to_string());
                    // Responds, so that the other side can close.
                    drop(self.stream.close(None).await);
                    return end;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_) | Err(_)) | None => return Event::Broken,
            }
        }
    }
}

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, wait).await.unwrap_or_else(|_| panic!("waited {TIMEOUT:?} in vain: {what}"))
}
