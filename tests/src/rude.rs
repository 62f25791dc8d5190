//! A client without HTTP: writes raw bytes to a socket, and reads until the other side closes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code; `None` if the connection closed without a status line.
    pub status: Option<u16>,
    /// Header and body as received.
    pub text: String,
}

impl Reply {
    /// The body.
    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// Sends `bytes` and reads until the other side closes or stops sending.
pub async fn send(to: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(to).await.expect("the service listens");
    // The service may respond and close before it has read everything.
    let written = tokio::time::timeout(TIMEOUT, stream.write_all(bytes)).await;
    drop(written);
    let mut received = Vec::new();
    let read = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut received)).await;
    drop(read);
    let text = String::from_utf8_lossy(&received).into_owned();
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    Reply { status, text }
}
