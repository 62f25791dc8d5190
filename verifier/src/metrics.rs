//! Figures for the `metrics` facade, under names that begin with `verifier_`.
//!
//! Tokens are counted in two numbers of our own and handed over every few seconds, so that checking a token
//! costs the same whatever the recorder does.

use std::sync::Weak;
use std::time::Duration;

use metrics::Label;

use crate::core::error::Reason;
use crate::core::verify::Expected;
use crate::outcomes::Outcomes;
use crate::parts::Parts;
use crate::status::{FeedState, Status};

const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Hands the figures over for as long as the verifier exists.
pub(crate) async fn report(parts: Weak<Parts>) {
    describe();
    while let Some(parts) = parts.upgrade() {
        publish(&parts.expected, &parts.outcomes, &parts.status());
        drop(parts);
        tokio::time::sleep(REPORT_INTERVAL).await;
    }
}

/// Counts a token that no verifier was chosen for: its issuer is none of ours, or it is no token.
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
    // What was never there has no age.
    if let Some(age) = keys.age {
        gauge("verifier_keys_age_seconds", age.as_secs_f64());
    }
    counter("verifier_jwks_fetches_total", keys.fetches);
    counter("verifier_jwks_fetch_failures_total", keys.failures);
    let feed = &status.feed;
    // One that was not to be found is a loss, too; only a verifier that looks for none has no figures.
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
