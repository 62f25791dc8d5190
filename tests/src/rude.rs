//! A rude client: writes bytes on a socket, and reads what comes until the other side closes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code; `None` when the connection closed without a status line.
    pub status: Option<u16>,
    /// Header and body as sent.
    pub text: String,
}

impl Reply {
    /// What follows the header.
    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// Sends `bytes` and reads until the other side closes or stops talking.
pub async fn send(to: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(to).await.expect("the service listens");
    // The service may answer and close before it has read everything.
    let written = tokio::time::timeout(TIMEOUT, stream.write_all(bytes)).await;
    drop(written);
    let mut received = Vec::new();
    let read = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut received)).await;
    drop(read);
    let text = String::from_utf8_lossy(&received).into_owned();
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    Reply { status, text }
}
