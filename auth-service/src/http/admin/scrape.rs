//! The metrics of this replica.

use axum::extract::State;
use axum::routing::{MethodRouter, get};
use http::header;
use verifier::Algorithm;

use crate::domain::key::{Chain, KeyPhase};
use crate::http::base::SharedApp;
use crate::runtime::app::App;
use crate::runtime::telemetry::Metrics;

/// Prometheus text format. Values that change with time alone are measured at each scrape.
pub(in crate::http) fn route(metrics: Metrics) -> MethodRouter<SharedApp> {
    get(async move |State(app): State<SharedApp>| {
        measure(&app);
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
    })
}

fn measure(app: &App) {
    let is_ready = app.reasons_not_ready().is_empty();
    metrics::gauge!("auth_ready").set(if is_ready { 1.0 } else { 0.0 });
    metrics::gauge!("auth_draining").set(if app.drain.is_on() { 1.0 } else { 0.0 });
    let publish_ahead = std::time::Duration::from(app.config.key_publish_ahead);
    let lease_left = publish_ahead.saturating_sub(app.keyring.confirmed_for());
    metrics::gauge!("auth_signing_lease_seconds").set(lease_left.as_secs_f64());
    let (snapshot, now) = (app.keyring.snapshot(), app.clock.now());
    metrics::gauge!("auth_key_changes").set(float(snapshot.keys_version()));
    let settings = app.settings.applied();
    metrics::gauge!("auth_settings_version").set(float(settings.version));
    metrics::gauge!("auth_settings_refused").set(if settings.refused.is_some() { 1.0 } else { 0.0 });
    metrics::gauge!("auth_feed_lag_seconds").set(feed_lag(app));
    metrics::gauge!("auth_feed_entries").set(u32::try_from(app.feed.entries()).unwrap_or(u32::MAX));
    metrics::gauge!("auth_feed_streams").set(u32::try_from(app.feed.streams()).unwrap_or(u32::MAX));
    let (idle, lent) = app.store.connections();
    for (state, count) in [("idle", idle), ("lent", lent)] {
        metrics::gauge!("auth_database_pool_connections", "state" => state)
            .set(u32::try_from(count).unwrap_or(u32::MAX));
    }
    for algorithm in Algorithm::ALL {
        let keys = snapshot.chain_keys(Chain::Signing(algorithm));
        for phase in [KeyPhase::Pending, KeyPhase::Active, KeyPhase::Retiring] {
            let count = keys.iter().filter(|key| key.phase(now) == phase).count();
            metrics::gauge!("auth_keys", "alg" => algorithm.as_str(), "phase" => phase.as_str())
                .set(u32::try_from(count).unwrap_or(u32::MAX));
        }
        if let Some(active) = keys.iter().find(|key| key.phase(now).may_sign()) {
            let age = now - active.schedule.activates_at;
            metrics::gauge!("auth_key_active_age_seconds", "alg" => algorithm.as_str()).set(float(age.0));
        }
    }
}

/// The age of the feed's knowledge in seconds; infinite before the first read.
fn feed_lag(app: &App) -> f64 {
    app.feed.as_of().map_or(f64::INFINITY, |as_of| float((app.clock.unix_millis() - as_of).max(0)) / 1000.0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are floating-point; these numbers are far below 2^53"
)]
fn float(number: i64) -> f64 {
    number as f64
}
