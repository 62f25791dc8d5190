//! Nginx.

use tests::front_end::Program;

use crate::load;

#[tokio::test(flavor = "multi_thread")]
async fn nginx_loses_no_request_when_nodes_die_or_drain() {
    let figures = load::measure(Program::Nginx).await;
    assert_eq!(figures.killed.failed(), 0);
    assert_eq!(figures.frozen.failed(), 0);
}
