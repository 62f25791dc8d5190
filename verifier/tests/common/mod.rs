//! What several test files need.

use std::future::Future;
use std::time::Duration;

use verifier::UnixTime;

#[allow(dead_code, clippy::allow_attributes, reason = "not every test file has one issuer")]
pub(crate) const ISSUER: &str = "https://auth.example.com";
pub(crate) const AUDIENCE: &str = "orders-api";
pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

/// Waits, in real time, for what a background task is about to do.
#[allow(dead_code, clippy::allow_attributes, reason = "not every test file waits")]
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    in_time(what, wait).await;
}

#[allow(dead_code, clippy::allow_attributes, reason = "not every test file waits")]
pub(crate) async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"))
}
