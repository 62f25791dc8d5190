//! Reports to the `metrics` facade, under names that begin with `verifier_`.
//!
//! Tokens are counted internally and reported every few seconds, so that the recorder does not slow down
//! checks.

use std::sync::Weak;
use std::time::Duration;

use metrics::Label;

use crate::core::error::Reason;
use crate::core::verify::Expected;
use crate::outcomes::Outcomes;
use crate::parts::Parts;
use crate::status::{FeedState, Status};

const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Reports until the verifier is dropped.
pub(crate) async fn report(parts: Weak<Parts>) {
    describe();
    while let Some(parts) = parts.upgrade() {
        publish(&parts.expected, &parts.outcomes, &parts.status());
        drop(parts);
        tokio::time::sleep(REPORT_INTERVAL).await;
    }
}

/// Counts a token for which there is no verifier: it has another issuer, or is malformed.
pub(crate) fn count_unchosen(reason: &Reason) {
    metrics::counter!("verifier_tokens_total", "issuer" => "", "audience" => "", "outcome" => reason.label())
        .increment(1);
}

fn publish(expected: &Expected, outcomes: &Outcomes, status: &Status) {
    // Two verifiers of one issuer, for different audiences, are two series.
    let (issuer, audience) = (expected.issuer().to_owned(), expected.audiences().join(" "));
    let labels = [Label::new("issuer", issuer), Label::new("audience", audience)];
    for (outcome, count) in outcomes.read() {
        let labels: Vec<Label> = labels.iter().cloned().chain([Label::new("outcome", outcome)]).collect();
        metrics::counter!("verifier_tokens_total", labels).absolute(count);
    }
    let gauge = |name: &'static str, value: f64| metrics::gauge!(name, labels.iter()).set(value);
    let counter = |name: &'static str, count: u64| metrics::counter!(name, labels.iter()).absolute(count);
    let keys = &status.keys;
    gauge("verifier_keys_usable", f64::from(u8::from(keys.state.is_usable())));
    gauge("verifier_keys", number(keys.count));
    // Keys that never arrived have no age.
    if let Some(age) = keys.age {
        gauge("verifier_keys_age_seconds", age.as_secs_f64());
    }
    counter("verifier_jwks_fetches_total", keys.fetches);
    counter("verifier_jwks_fetch_failures_total", keys.failures);
    let feed = &status.feed;
    // A feed that was not found counts as lost; a verifier without a feed reports nothing.
    if feed.state != FeedState::Off || feed.losses > 0 {
        gauge("verifier_feed_live", f64::from(u8::from(feed.state == FeedState::Live)));
        counter("verifier_feed_losses_total", feed.losses);
    }
    if let Some(staleness) = feed.staleness {
        gauge("verifier_feed_staleness_seconds", staleness.as_secs_f64());
    }
    gauge("verifier_revoked_sessions", number(feed.sessions));
    gauge("verifier_revoked_keys", number(feed.keys));
}

#[expect(clippy::cast_precision_loss, reason = "less than 2^53")]
fn number(count: usize) -> f64 {
    count as f64
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_counter!(
        "verifier_tokens_total",
        "Tokens checked, by outcome: accepted, or the label of the refusal"
    );
    describe_gauge!("verifier_keys_usable", "1 while there are usable keys");
    describe_gauge!("verifier_keys", "Keys in the key set");
    describe_gauge!(
        "verifier_keys_age_seconds",
        Unit::Seconds,
        "Time since the issuer last confirmed the keys"
    );
    describe_counter!("verifier_jwks_fetches_total", "Fetches of the key set that have ended");
    describe_counter!("verifier_jwks_fetch_failures_total", "Fetches of the key set that failed");
    describe_gauge!("verifier_feed_live", "1 while documents of the revocation feed arrive");
    describe_counter!(
        "verifier_feed_losses_total",
        "Times that the revocation feed was lost or could not be opened"
    );
    describe_gauge!(
        "verifier_feed_staleness_seconds",
        Unit::Seconds,
        "How long ago all revocations were known"
    );
    describe_gauge!("verifier_revoked_sessions", "Revoked sessions in memory");
    describe_gauge!("verifier_revoked_keys", "Revoked keys in memory");
}
