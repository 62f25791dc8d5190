//! Haproxy.

use tests::front_end::Program;

use crate::{load, routes};

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_loses_no_request_when_nodes_die_or_drain() {
    let figures = load::measure(Program::Haproxy).await;
    assert_eq!(figures.killed.failed(), 0);
    assert_eq!(figures.frozen.failed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_routes_by_path_strips_claims_and_passes_streams() {
    routes::check(Program::Haproxy).await;
}
