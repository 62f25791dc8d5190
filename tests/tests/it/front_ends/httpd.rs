//! Apache httpd.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::front_end::{OPERATOR, Program, Site};
use e2e::postgres::Postgres;
use http::{StatusCode, header};

use super::guarded::Guarded;
use super::{load, routes};
/// httpd never repeats a sent request, so these losses are unavoidable; `measure` checks them.
#[tokio::test(flavor = "multi_thread")]
async fn httpd_loses_only_requests_in_flight_at_a_dying_node() {
    load::measure(Program::Httpd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn httpd_routes_by_path_strips_claims_and_passes_streams() {
    routes::check(Program::Httpd).await;
}

/// It returns 403 whenever a `Require` fails, and adds an error for a missing token.
#[tokio::test(flavor = "multi_thread")]
async fn httpd_guards_an_application_without_token_support() {
    let guarded = Guarded::start(Program::Httpd).await;
    guarded.check("invalid_request", (StatusCode::FORBIDDEN, "insufficient_scope")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn httpd_shows_its_balancers_to_operators_only() {
    let database = Postgres::shared().create_database();
    let site = Site::start(Program::Httpd, &database.url(), 1, |plan| plan).await;
    let manager = "/balancer-manager";
    let refused = site.client().get(manager).await.expect("an answer");
    refused.assert_status(StatusCode::UNAUTHORIZED);
    let (name, password) = OPERATOR;
    let credentials = STANDARD.encode(format!("{name}:{password}"));
    let operator = site.client().with_header(header::AUTHORIZATION, &format!("Basic {credentials}"));
    let shown = operator.get(manager).await.expect("an answer");
    let page = String::from_utf8_lossy(&shown.assert_status(StatusCode::OK).body).into_owned();
    assert!(page.contains(&site.addresses().auth(0).to_string()), "{page}");
}
