//! Nginx.

use e2e::front_end::Program;
use http::StatusCode;

use super::guarded::Guarded;
use super::{load, routes};
#[tokio::test(flavor = "multi_thread")]
async fn nginx_loses_no_request_when_nodes_die_or_drain() {
    let figures = load::measure(Program::Nginx).await;
    assert_eq!(figures.killed.failed(), 0);
    assert_eq!(figures.frozen.failed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_routes_by_path_strips_claims_and_passes_streams() {
    routes::check(Program::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_guards_an_application_without_token_support() {
    let guarded = Guarded::start(Program::Nginx).await;
    guarded.check("", (StatusCode::UNAUTHORIZED, "invalid_token")).await;
    guarded.check_that_logout_counts().await;
}
