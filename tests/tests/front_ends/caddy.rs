//! Caddy.

use tests::front_end::{Kind, Program};

use crate::load;

/// Caddy 2.6 cannot repeat a POST that it has sent.
#[tokio::test(flavor = "multi_thread")]
async fn caddy_loses_only_refreshes_that_a_dying_node_had_in_hand() {
    let figures = load::measure(Program::Caddy).await;
    for outcome in [figures.killed, figures.frozen] {
        assert_eq!(outcome.failed(), outcome.failed_of(Kind::Refresh));
    }
}
