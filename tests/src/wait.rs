//! Waiting for a fact with a deadline. Nothing in these tests sleeps and hopes.

use std::time::Duration;

use crate::clock;

const POLL: Duration = Duration::from_millis(20);

/// Calls `probe` until it returns `Some`; panics with `what` if this takes longer than `within`.
pub async fn until<T>(what: &str, within: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let start = clock::instant();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < within, "waited {within:?} in vain: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// [`until`] for code without a runtime.
pub fn until_blocking<T>(what: &str, within: Duration, probe: impl FnMut() -> Option<T>) -> T {
    find_blocking(within, probe).unwrap_or_else(|| panic!("waited {within:?} in vain: {what}"))
}

/// Calls `probe` until it returns `Some`; `None` if this takes longer than `within`.
pub fn find_blocking<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = clock::instant();
    loop {
        let found = probe();
        if found.is_some() || start.elapsed() >= within {
            return found;
        }
        std::thread::sleep(POLL);
    }
}

/// Waits for `span` in tests of elapsed time. Use [`until`] to wait for a condition.
pub async fn let_pass(span: Duration) {
    tokio::time::sleep(span).await;
}
