//! The network between the replicas and a server, which can turn into a black hole.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Forwards bytes to a port of this machine, or drops them.
#[derive(Debug)]
pub struct Passage {
    port: u16,
    weather: Weather,
    listening: AbortHandle,
}

/// Counts how often it changed. Odd: everything is swallowed. A connection works only as long as nothing has
/// changed since it was opened.
#[derive(Clone, Debug, Default)]
struct Weather(Arc<AtomicU64>);

impl Passage {
    /// Opens a passage to `port`.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let own_port = listener.local_addr().expect("it is bound").port();
        let weather = Weather::default();
        let listening = tokio::spawn(listen(listener, port, weather.clone())).abort_handle();
        Self { port: own_port, weather, listening }
    }

    /// The port of this end.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Drops all traffic from now on, without refusing connections. Open connections stay silent forever,
    /// without a reset.
    pub fn swallow(&self) {
        assert!(self.weather.change() % 2 == 1, "it swallows already");
    }

    /// New connections work again.
    pub fn let_through(&self) {
        assert!(self.weather.change().is_multiple_of(2), "it does not swallow");
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Weather {
    fn change(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

async fn listen(listener: TcpListener, port: u16, weather: Weather) {
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        tokio::spawn(connect(client, port, weather.clone()));
    }
}

async fn connect(client: TcpStream, port: u16, weather: Weather) {
    let opened_in = weather.now();
    if opened_in % 2 == 1 {
        return vanish(client).await;
    }
    // If the server is down, this end closes, too.
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::join!(
        pass(from_client, to_server, &weather, opened_in),
        pass(from_server, to_client, &weather, opened_in),
    );
}

/// Forwards one direction until it is closed; stays silent forever once the state has changed.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, weather: &Weather, opened_in: u64) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if weather.now() != opened_in {
            return vanish((from, to)).await;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Keeps a socket open and silent: closing a connection would send a packet.
async fn vanish<T>(socket: T) {
    std::future::pending::<()>().await;
    drop(socket);
}
