//! Haproxy.

use tests::front_end::Program;

use crate::load;

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_loses_no_request_when_nodes_die_or_drain() {
    let figures = load::measure(Program::Haproxy).await;
    assert_eq!(figures.killed.failed(), 0);
    assert_eq!(figures.frozen.failed(), 0);
}
