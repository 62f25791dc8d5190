//! Caddy.

use e2e::front_end::{Kind, Program};
use http::StatusCode;

use super::guarded::Guarded;
use super::{load, routes};
/// Caddy 2.6 cannot repeat a POST that it has sent.
#[tokio::test(flavor = "multi_thread")]
async fn caddy_loses_only_refreshes_in_flight_at_a_dying_node() {
    let figures = load::measure(Program::Caddy).await;
    for outcome in [figures.killed, figures.frozen] {
        assert_eq!(outcome.failed(), outcome.failed_of(Kind::Refresh));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_routes_by_path_strips_claims_and_passes_streams() {
    routes::check(Program::Caddy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_guards_an_application_without_token_support() {
    let guarded = Guarded::start(Program::Caddy).await;
    guarded.check("", (StatusCode::UNAUTHORIZED, "invalid_token")).await;
    guarded.check_that_logout_counts().await;
}
