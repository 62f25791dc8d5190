//! A background task that ends with its owner, and starts anew when its runtime is gone.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// At most one task at a time. Dropping this aborts it.
#[derive(Debug, Default)]
pub(crate) struct Background {
    is_running: Arc<AtomicBool>,
    task: Mutex<Option<AbortHandle>>,
}

impl Background {
    /// Starts the task unless it runs already, if called inside a runtime. Costs one atomic read when there is
    /// nothing to do.
    pub(crate) fn start<F>(&self, task: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.is_running.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if self.is_running.swap(true, Ordering::Relaxed) {
            return;
        }
        let (running, task) = (Running(Arc::clone(&self.is_running)), task());
        let spawned = runtime.spawn(async move {
            let _running = running;
            task.await;
        });
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(spawned.abort_handle());
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// Held by the task. When the task ends, be it with its runtime, the next caller may start another.
#[derive(Debug)]
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
