//! A stop that sends clients to other replicas: the balancer learns of it first, then the sockets close, a
//! few at a time.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Number of steps in which sockets close.
const STEPS: u32 = 100;
/// Time limit for sockets that have not closed after the last step.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of a stop, from the signal on.
#[derive(Default)]
pub(crate) struct Drain {
    has_begun: AtomicBool,
    /// `None` while sockets stay open, then the time over which they close.
    closing: watch::Sender<Option<Duration>>,
    sockets: AtomicU32,
}

impl Drain {
    /// Whether the balancer should send new sockets to other replicas.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Whether new sockets are refused.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// Waits until it is this socket's turn to close. The turns are evenly spaced.
    pub(crate) async fn turn(&self) {
        let step = self.sockets.fetch_add(1, Ordering::Relaxed) % STEPS;
        let mut closing = self.closing.subscribe();
        // The sender is in `self`.
        let Ok(Some(spread)) = closing.wait_for(Option::is_some).await.map(|spread| *spread) else { return };
        sleep(spread * step / STEPS).await;
    }

    /// Runs the drain until all sockets are closed, that is, until all `places` are back in `room`.
    pub(crate) async fn run(&self, delay: Duration, spread: Duration, room: &Semaphore, places: usize) {
        self.has_begun.store(true, Ordering::Relaxed);
        let sockets = places - room.available_permits();
        tracing::info!(sockets, "draining: not ready, sockets stay open for now");
        sleep(delay).await;
        self.closing.send_replace(Some(spread));
        let all = u32::try_from(places).unwrap_or(u32::MAX);
        if timeout(spread + CLOSE_TIMEOUT, room.acquire_many(all)).await.is_err() {
            tracing::warn!(left = places - room.available_permits(), "sockets were cut off");
        }
        tracing::info!("drained");
    }
}

/// The signals that stop a replica. From here on, they no longer end the process directly.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(crate) fn expect() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for a signal; returns how long to keep serving: zero after Ctrl-C.
    pub(crate) async fn asked(mut self, delay: Duration) -> Duration {
        tokio::select! {
            _ = self.terminate.recv() => delay,
            _ = self.interrupt.recv() => Duration::ZERO,
        }
    }
}
