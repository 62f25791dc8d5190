//! A stop that clients do not notice: the balancer learns of it first, then the last requests are served.

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

/// Time limit for requests in flight.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);

/// The state of a stop, from the signal on.
pub(crate) struct Drain {
    delay: Duration,
    has_begun: AtomicBool,
}

impl Drain {
    /// After SIGTERM, requests are accepted for another `delay`. Ctrl-C skips the delay.
    pub(crate) fn new(delay: Duration) -> Arc<Self> {
        Arc::new(Self { delay, has_begun: AtomicBool::new(false) })
    }

    /// Whether the balancer should send requests to other replicas.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Serves until a signal, then drains. From this call on, SIGTERM and SIGINT no longer end the process
    /// directly.
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
            // Requests that are not finished by then are cut off.
            timeout(FINISH_TIMEOUT, server).await.unwrap_or(Ok(()))
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
