//! A balancer for connections, as one is set up for sockets that stay open: a new connection goes to the ready replica that has the
//! fewest, whoever the client is, and stays there.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::client::Client;

const HEALTH_PERIOD: Duration = Duration::from_millis(100);

/// A running proxy. It ends when dropped.
#[derive(Debug)]
pub struct Relay {
    backends: Arc<Backends>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Backends(Mutex<Vec<Backend>>);

#[derive(Debug)]
struct Backend {
    address: SocketAddr,
    is_ready: bool,
    /// Each connection holds a clone.
    connections: Arc<()>,
}

impl Relay {
    /// Listens on a free port in front of replicas that are ready.
    pub async fn start(replicas: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let backend = |&address| Backend { address, is_ready: true, connections: Arc::default() };
        let backends = Arc::new(Backends(Mutex::new(replicas.iter().map(backend).collect())));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&backends)));
        tasks.spawn(watch_health(Arc::clone(&backends)));
        Self { backends, address, _tasks: tasks }
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections each replica has.
    pub fn connections(&self) -> Vec<usize> {
        self.backends.lock().iter().map(Backend::connections).collect()
    }
}

impl Backend {
    fn connections(&self) -> usize {
        Arc::strong_count(&self.connections) - 1
    }
}

impl Backends {
    /// The ready replicas, the one with the fewest connections first. Taking a connection and counting it is one step.
    async fn connect(&self) -> io::Result<(TcpStream, Arc<()>)> {
        let mut tried = Vec::new();
        loop {
            let (address, place) = {
                let backends = self.lock();
                let open =
                    backends.iter().filter(|backend| backend.is_ready && !tried.contains(&backend.address));
                let best = open.min_by_key(|backend| backend.connections()).ok_or(io::ErrorKind::NotFound)?;
                (best.address, Arc::clone(&best.connections))
            };
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok((stream, place)),
                Err(_) => tried.push(address),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Backend>> {
        self.0.lock().expect("nobody panics with this lock")
    }
}

async fn accept(listener: TcpListener, backends: Arc<Backends>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(relay(stream, Arc::clone(&backends)));
        while connections.try_join_next().is_some() {}
    }
}

/// Without a replica that takes it, the connection is closed.
async fn relay(mut client: TcpStream, backends: Arc<Backends>) {
    let Ok((mut server, _place)) = backends.connect().await else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    // An error is one of the two that went away.
    drop(copy_bidirectional(&mut client, &mut server).await);
}

async fn watch_health(backends: Arc<Backends>) {
    let addresses: Vec<_> = backends.lock().iter().map(|backend| backend.address).collect();
    let clients: Vec<_> = addresses.iter().map(|address| Client::new(&format!("http://{address}"))).collect();
    loop {
        for (number, client) in clients.iter().enumerate() {
            let answer = client.get("/readyz").await;
            let is_ready = answer.is_ok_and(|answer| answer.status == StatusCode::OK);
            backends.lock()[number].is_ready = is_ready;
        }
        tokio::time::sleep(HEALTH_PERIOD).await;
    }
}
