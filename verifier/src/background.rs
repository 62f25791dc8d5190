//! A background task that ends with its owner, and can be restarted when its runtime is gone.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// A handle to at most one task. Dropping it aborts the task.
#[derive(Debug, Default)]
pub(crate) struct Background {
    is_running: Arc<AtomicBool>,
    task: Mutex<Option<AbortHandle>>,
}

impl Background {
    /// Starts the task unless it is running, if called inside a runtime. If it is running, this costs one
    /// atomic read.
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

/// Held by the task. When the task ends, also because its runtime shuts down, the next caller can start
/// another.
#[derive(Debug)]
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
