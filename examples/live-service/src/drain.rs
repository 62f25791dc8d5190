//! A stop that sends clients elsewhere: first the balancer learns of it, then the sockets close, a few at a time.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Sockets close in so many steps.
const STEPS: u32 = 100;
/// After the last step, sockets that have not closed are waited for no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// The end of a replica, from the signal on.
#[derive(Default)]
pub(crate) struct Drain {
    has_begun: AtomicBool,
    /// `None` while sockets stay open, then over how long they close.
    closing: watch::Sender<Option<Duration>>,
    sockets: AtomicU32,
}

impl Drain {
    /// Whether the balancer should look elsewhere.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Whether no socket may be opened any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// Waits until it is this socket's turn to close. The turns of sockets follow each other at even distances.
    pub(crate) async fn turn(&self) {
        let step = self.sockets.fetch_add(1, Ordering::Relaxed) % STEPS;
        let mut closing = self.closing.subscribe();
        // The sender is in `self`.
        let Ok(Some(spread)) = closing.wait_for(Option::is_some).await.map(|spread| *spread) else { return };
        sleep(spread * step / STEPS).await;
    }

    /// Runs the drain until all sockets are closed: when all `places` are back in `room`.
    pub(crate) async fn run(&self, delay: Duration, spread: Duration, room: &Semaphore, places: usize) {
        self.has_begun.store(true, Ordering::Relaxed);
        let sockets = places - room.available_permits();
        tracing::info!(sockets, "draining: readiness says no, sockets stay open for now");
        sleep(delay).await;
        self.closing.send_replace(Some(spread));
        let all = u32::try_from(places).unwrap_or(u32::MAX);
        if timeout(spread + PATIENCE, room.acquire_many(all)).await.is_err() {
            tracing::warn!(left = places - room.available_permits(), "sockets were cut off");
        }
        tracing::info!("drained");
    }
}

/// The signals that end a replica. From here on they no longer end the process by themselves.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(crate) fn expect() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one; answers how long to go on: not at all when a person pressed Ctrl-C.
    pub(crate) async fn asked(mut self, delay: Duration) -> Duration {
        tokio::select! {
            _ = self.terminate.recv() => delay,
            _ = self.interrupt.recv() => Duration::ZERO,
        }
    }
}
