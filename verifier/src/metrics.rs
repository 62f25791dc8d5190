//! Figures for the `metrics` facade, under names that begin with `verifier_`.
//!
//! Tokens are counted in two numbers of our own and handed over every few seconds, so that checking a token
//! costs the same whatever the recorder does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::error::VerifyError;
use crate::status::{FeedState, Status};
use crate::verifier::Parts;

const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// How the tokens of one verifier were judged.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    accepted: AtomicU64,
    /// By label. Refusals are few, or an attack that the lock slows down.
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Outcomes {
    pub(crate) fn count<T>(&self, answer: &Result<T, VerifyError>) {
        match answer {
            Ok(_) => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                *refused.entry(error.label()).or_default() += 1;
            }
        }
    }

    fn read(&self) -> Vec<(&'static str, u64)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = ("accepted", self.accepted.load(Ordering::Relaxed));
        std::iter::once(accepted).chain(refused.iter().map(|(label, count)| (*label, *count))).collect()
    }
}

/// Hands the figures over for as long as the verifier exists.
pub(crate) async fn report(parts: Weak<Parts>) {
    describe();
    while let Some(parts) = parts.upgrade() {
        publish(parts.expected.issuer(), &parts.outcomes, &parts.status());
        drop(parts);
        tokio::time::sleep(REPORT_INTERVAL).await;
    }
}

fn publish(issuer: &str, outcomes: &Outcomes, status: &Status) {
    let issuer = || issuer.to_owned();
    for (outcome, count) in outcomes.read() {
        metrics::counter!("verifier_tokens_total", "issuer" => issuer(), "outcome" => outcome)
            .absolute(count);
    }
    let gauge = |name: &'static str, value: f64| metrics::gauge!(name, "issuer" => issuer()).set(value);
    let counter =
        |name: &'static str, count: u64| metrics::counter!(name, "issuer" => issuer()).absolute(count);
    let keys = &status.keys;
    gauge("verifier_keys_usable", f64::from(u8::from(keys.state.is_usable())));
    gauge("verifier_keys", number(keys.count));
    // What was never there has no age.
    if let Some(age) = keys.age {
        gauge("verifier_keys_age_seconds", age.as_secs_f64());
    }
    counter("verifier_jwks_fetches_total", keys.fetches);
    counter("verifier_jwks_fetch_failures_total", keys.failures);
    let feed = &status.feed;
    if feed.state != FeedState::Off {
        gauge("verifier_feed_live", f64::from(u8::from(feed.state == FeedState::Live)));
        counter("verifier_feed_losses_total", feed.losses);
    }
    if let Some(staleness) = feed.staleness {
        gauge("verifier_feed_staleness_seconds", staleness.as_secs_f64());
    }
    gauge("verifier_revoked_sessions", number(feed.sessions));
    gauge("verifier_revoked_keys", number(feed.keys));
}

#[expect(clippy::cast_precision_loss, reason = "nobody holds 2^53 of them")]
fn number(count: usize) -> f64 {
    count as f64
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_counter!(
        "verifier_tokens_total",
        "Tokens checked, by outcome: accepted, or the label of the refusal"
    );
    describe_gauge!("verifier_keys_usable", "1 while there are keys that may be used");
    describe_gauge!("verifier_keys", "Keys in hand");
    describe_gauge!("verifier_keys_age_seconds", Unit::Seconds, "Since the issuer last confirmed the keys");
    describe_counter!("verifier_jwks_fetches_total", "Fetches of the key set that ended");
    describe_counter!(
        "verifier_jwks_fetch_failures_total",
        "Fetches of the key set that brought nothing usable"
    );
    describe_gauge!("verifier_feed_live", "1 while news of revocations arrive");
    describe_counter!("verifier_feed_losses_total", "Times that the feed was lost or could not be opened");
    describe_gauge!(
        "verifier_feed_staleness_seconds",
        Unit::Seconds,
        "How long ago everything about revocations was known"
    );
    describe_gauge!("verifier_revoked_sessions", "Revoked sessions remembered");
    describe_gauge!("verifier_revoked_keys", "Revoked keys remembered");
}
