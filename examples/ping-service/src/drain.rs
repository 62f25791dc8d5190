//! A stop that no client notices: first the balancer learns of it, then the last requests are answered.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Requests in flight are waited for no longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end of a replica, from the signal on.
pub(crate) struct Drain {
    delay: Duration,
    has_begun: AtomicBool,
}

impl Drain {
    /// After SIGTERM, requests are accepted for `delay` more; after Ctrl-C, nobody waits for a balancer.
    pub(crate) fn new(delay: Duration) -> Arc<Self> {
        Arc::new(Self { delay, has_begun: AtomicBool::new(false) })
    }

    /// Whether the balancer should look elsewhere.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Serves until a signal, then drains. From this call on, a signal no longer ends the process by itself.
    pub(crate) fn serve(
        &self,
        listener: TcpListener,
        app: Router,
    ) -> io::Result<impl Future<Output = io::Result<()>>> {
        let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            let (close, closed) = oneshot::channel::<()>();
            let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(closed.await) });
            let mut server = pin!(server.into_future());
            tokio::select! {
                ended = &mut server => return ended,
                () = self.wait(signals) => drop(close),
            }
            // Whoever is not done by then is cut off.
            timeout(PATIENCE, server).await.unwrap_or(Ok(()))
        })
    }

    async fn wait(&self, (mut terminate, mut interrupt): (Signal, Signal)) {
        let delay = tokio::select! {
            _ = terminate.recv() => self.delay,
            _ = interrupt.recv() => Duration::ZERO,
        };
        self.has_begun.store(true, Ordering::Relaxed);
        sleep(delay).await;
    }
}
