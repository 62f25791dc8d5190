//! Apache httpd.

use tests::front_end::Program;

use crate::load;

/// httpd repeats nothing that it has sent, so this is all it can do; `measure` checks it.
#[tokio::test(flavor = "multi_thread")]
async fn httpd_loses_only_requests_that_a_dying_node_had_in_hand() {
    load::measure(Program::Httpd).await;
}
