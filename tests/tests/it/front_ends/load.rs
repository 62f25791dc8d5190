//! 200 requests a second while nodes are killed, suspended and drained.

use std::time::Duration;

use e2e::client::Client;
use e2e::clock;
use e2e::front_end::{Death, Kind, NODES, Outcome, Program, Site, Traffic};
use e2e::postgres::Postgres;
use e2e::wait;

use crate::TURN;

/// A recovered node gets requests again within this time.
const LONGEST_ABSENCE: Duration = Duration::from_secs(10);

/// The results of one front end, besides those common to all.
pub(crate) struct Figures {
    pub(crate) killed: Outcome,
    pub(crate) frozen: Outcome,
}

/// Runs all phases, and checks what every front end must do: spread requests evenly, lose none during a
/// drain, lose only requests in flight at a killed node, and use nodes again after they recover.
pub(crate) async fn measure(program: Program) -> Figures {
    let _turn = TURN.lock().await;
    let database = Postgres::shared().create_database();
    let site =
        Site::start(program, &database.url(), NODES, |plan| plan.set("max_sessions_per_user", "0")).await;
    let traffic = Traffic::prepare(&site).await;
    let name = program.name();

    let before = served(&site).await;
    let steady = traffic.run(span(3), async { None }).await;
    let after = served(&site).await;
    println!("{name}, nothing happens: {steady}");
    assert_eq!(steady.failed(), 0);
    assert_even("the application", &steady.answered_by());
    let served: [usize; NODES] = std::array::from_fn(|number| after[number] - before[number]);
    assert_even("auth-service", &served);

    let killed = traffic.run(span(4), kill(&site, 0)).await;
    println!("{name}, node 0 is killed: {killed}");
    let frozen = traffic.run(span(3), freeze_and_kill(&site, 1)).await;
    println!("{name}, node 1 freezes for 200 ms and is killed: {frozen}");
    let drained = traffic.run(span(4), drain(&site, 2)).await;
    println!("{name}, node 2 is drained: {drained}");
    assert_eq!(drained.failed(), 0);
    for outcome in [&killed, &frozen] {
        for kind in [Kind::Ping, Kind::Jwks, Kind::Refresh] {
            assert_eq!(outcome.failed_without_need(kind), 0, "{kind:?}");
        }
    }

    // A front end without health checks retries a node after a pause.
    let started = clock::instant();
    loop {
        let after = traffic.run(span(1), async { None }).await;
        assert_eq!(after.failed(), 0, "{after}");
        let answered_by = after.answered_by();
        if answered_by.iter().all(|&count| count > 0) {
            return Figures { killed, frozen };
        }
        assert!(started.elapsed() < LONGEST_ABSENCE, "not all nodes are back: {answered_by:?}");
    }
}

/// The length of a phase: `seconds`, or longer on demand.
fn span(seconds: u64) -> Duration {
    let wanted = std::env::var_os("FRONT_ENDS_SECONDS").and_then(|text| text.to_str()?.parse().ok());
    Duration::from_secs(wanted.unwrap_or(seconds).max(seconds))
}

async fn kill(site: &Site, number: usize) -> Option<Death> {
    wait::let_pass(Duration::from_secs(1)).await;
    let death = site.kill(number);
    wait::let_pass(Duration::from_secs(1)).await;
    site.restart(number).await;
    Some(death)
}

/// The worst case of a kill: requests that were sent and never get a response.
async fn freeze_and_kill(site: &Site, number: usize) -> Option<Death> {
    wait::let_pass(Duration::from_secs(1)).await;
    site.pause(number);
    wait::let_pass(Duration::from_millis(200)).await;
    let death = site.kill(number);
    wait::let_pass(Duration::from_secs(1)).await;
    site.restart(number).await;
    Some(death)
}

async fn drain(site: &Site, number: usize) -> Option<Death> {
    site.drain(number).await;
    site.restart(number).await;
    None
}

/// The number of calls of the mix that each replica of `auth-service` served, from its metrics.
async fn served(site: &Site) -> [usize; NODES] {
    let mut served = [0; NODES];
    for (count, replica) in served.iter_mut().zip(site.cluster().replicas()) {
        let metrics = Client::new(&replica.admin_url()).get("/metrics").await.expect("an answer");
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let ours = text.lines().filter(|line| {
            line.starts_with("auth_http_requests_total{")
                && line.contains(r#"listener="public""#)
                && [r#"route="/v1/refresh""#, r#"route="/.well-known/jwks.json""#]
                    .iter()
                    .any(|route| line.contains(route))
        });
        let values = ours.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        *count = values.sum();
    }
    served
}

/// Checks that each share is within 5 % of an equal one.
#[track_caller]
fn assert_even(what: &str, counts: &[usize; NODES]) {
    let total: usize = counts.iter().sum();
    println!("  {what}: {counts:?}");
    assert!(total > 100, "{what} was called: {counts:?}");
    for count in counts {
        let deviation = (count * NODES).abs_diff(total);
        assert!(deviation * 20 <= total, "{what} is called evenly: {counts:?}");
    }
}
