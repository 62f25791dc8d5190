//! What the verifier's tests and fuzz targets share.
#![expect(missing_docs, reason = "helpers of tests; what is not plain from the name says so")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

pub mod corpus;
pub mod feed;
pub mod lab;
pub mod mutate;
pub mod pairs;
pub mod targets;

use std::future::Future;
use std::time::Duration;

use verifier::UnixTime;

pub const ISSUER: &str = "https://auth.example.com";
pub const AUDIENCE: &str = "orders-api";
pub const NOW: UnixTime = UnixTime(1_800_000_000);

/// Waits, in real time, for what a background task is about to do.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    in_time(what, wait).await;
}

pub async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"))
}
