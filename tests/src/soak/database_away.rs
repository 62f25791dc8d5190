//! R3: the database fails under load, in several ways in sequence, and returns.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, header};
use tokio::task::JoinSet;

use super::Run;
use super::confirmed::Confirmed;
use super::traffic::{Clients, REACH_WHEN_CUT, Rates, Traffic, plan, verifiers};
use crate::arrivals::Tally;
use crate::client::{Answer, Lost};
use crate::clock;
use crate::cluster::Cluster;
use crate::histogram::Histogram;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::passage::Passage;
use crate::postgres::{Postgres, Standby, Stop};
use crate::wait;

const LONGEST_REFUSAL: Duration = Duration::from_secs(2);
const LONGEST_RECOVERY: Duration = Duration::from_secs(5);

/// The failures of the database.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// An operator stops it.
    Stopped,
    /// Its machine crashes: no process runs any further code.
    Killed,
    /// Its processes are suspended, and connections stay open.
    Frozen,
    /// Every commit waits for a standby that does not respond.
    Stalled,
    /// The network drops all packets, and open connections stay silent forever.
    Swallowed,
}

pub(super) async fn play(run: &mut Run) {
    // Only here outages follow one another within 30 s. In the short form they end before 4.5 s, so that only
    // statements dropped by the network are abandoned: the last calls are sent before 3 s are over, and wait
    // for at most 1.5 s.
    let away = Duration::from_secs(run.size.pick(3, 60));
    let rates =
        Rates { logins: 5, refreshes: run.size.pick(25, 45), verifies: run.size.pick(400, 1000), logouts: 2 };
    // During an outage, no write succeeds.
    run.least_ok_percent = 3.0;
    run.bounds.reach = REACH_WHEN_CUT;
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let passage = Passage::to(database.port()).await;
    // Caches of 5 s, so that key sets are refetched during an outage; no rotation is due then.
    let plan = plan(database.url_at(passage.port()))
        .set("key_publish_ahead", "5m")
        .set("key_rotation_period", "30d")
        .set("jwks_max_age", "5s")
        .set("access_token_ttl", "5m");
    let cluster = Arc::new(Cluster::start(plan).await);
    let clients = Clients::start(run, &cluster, rates).await;
    let verifiers = verifiers(3, &cluster).await;
    let traffic = Traffic::start(run, &clients, &verifiers, rates);
    run.watch(&cluster);
    let key_sets = watch_key_sets(&cluster, &run.tally("key set"), &run.ledger);

    let mut refusals = Histogram::default();
    let (mut standby, mut confirmed) = (None, Confirmed::default());
    for way in [Way::Stopped, Way::Killed, Way::Frozen, Way::Swallowed, Way::Stalled] {
        wait::let_pass(Duration::from_secs(1)).await;
        if matches!(way, Way::Stalled) {
            // Not earlier: a standby takes seconds to follow a restarted primary, and commits would wait for
            // it.
            standby = Some(tokio::task::block_in_place(|| postgres.start_synchronous_standby()));
        }
        let standby = standby.as_ref();
        confirmed.make_at(run, &cluster, 0).await;
        run.ledger.deed(format!("the database is {way:?}"));
        tokio::task::block_in_place(|| way.begin(&postgres, standby, &passage));
        refusals.merge(&all_are_told_to_wait(&cluster, &clients, &run.ledger, away).await);
        tokio::task::block_in_place(|| way.end(&postgres, standby, &passage));
        run.ledger.deed("the database is back");
        let ended = clock::instant();
        cluster.everything_works_again(&clients.users()[1]).await;
        run.within(&format!("{way:?}: normal again"), ended.elapsed(), LONGEST_RECOVERY);
    }
    key_sets.stop().await;
    traffic.stop().await;
    confirmed.find(run, &cluster).await;
    run.close(&cluster).await;
    // Nearly all of them fail, but only in these ways. L1 judges whether a session ended because its logout
    // took effect in spite of the 503.
    run.only_harmless_failures(&["401"]);
    run.within("slowest refusal while it was away", refusals.max(), LONGEST_REFUSAL);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    run.at_least("refusals looked at", refusals.count() as f64, away.as_secs_f64() * 5.0, "");
}

impl Way {
    fn begin(self, postgres: &Postgres, standby: Option<&Standby>, passage: &Passage) {
        match self {
            Self::Stopped => postgres.stop(Stop::Fast),
            Self::Killed => postgres.stop(Stop::Kill),
            Self::Frozen => postgres.freeze(),
            Self::Stalled => standby.expect("it was started").stall(),
            Self::Swallowed => passage.swallow(),
        }
    }

    fn end(self, postgres: &Postgres, standby: Option<&Standby>, passage: &Passage) {
        match self {
            Self::Stopped | Self::Killed => postgres.start_again(),
            Self::Frozen => postgres.thaw(),
            Self::Stalled => standby.expect("it was started").resume(),
            Self::Swallowed => passage.let_through(),
        }
    }
}

/// Fetches the key set from all replicas in turn, as a new resource server would: it must always be there.
fn watch_key_sets(cluster: &Cluster, tally: &Arc<Tally>, ledger: &Arc<Ledger>) -> Load {
    let (client, ledger, mut load) = (cluster.client(), Arc::clone(ledger), Load::default());
    load.arrive(crate::arrivals::Schedule::per_second(10), tally, move || {
        let (client, ledger) = (client.clone(), Arc::clone(&ledger));
        async move {
            match client.jwks().await {
                Ok(answer) if has_keys(&answer) => {
                    ledger.key_set(answer.served_by().unwrap_or_default(), &answer.json());
                    Ok(())
                }
                other => {
                    ledger.failed(format!("key set: {other:?}"));
                    Err("no key set".to_owned())
                }
            }
        }
    });
    load
}

fn has_keys(answer: &Answer) -> bool {
    answer.status == StatusCode::OK && answer.json()["keys"].as_array().is_some_and(|keys| !keys.is_empty())
}

/// Logs in, refreshes and logs out for as long as `away`. Each call must get a response of the service in
/// time that requests a retry.
async fn all_are_told_to_wait(
    cluster: &Cluster,
    clients: &Clients,
    ledger: &Arc<Ledger>,
    away: Duration,
) -> Histogram {
    let (began, mut refusals) = (clock::instant(), Histogram::default());
    while began.elapsed() < away {
        let mut calls = JoinSet::new();
        let (client, user, password) =
            (cluster.client(), clients.users()[0].clone(), cluster.user_password());
        calls.spawn(async move { client.login(&user, password).await });
        for shown in clients.some_living(4) {
            let client = cluster.client();
            calls.spawn(async move { client.refresh(&shown.refresh).await });
        }
        for shown in clients.some_living(1) {
            // Recorded in the ledger: it is unknown whether that session is still alive.
            let (client, ledger) = (cluster.client(), Arc::clone(ledger));
            calls.spawn(async move { ledger.logout(&client, &shown).await });
        }
        for answer in calls.join_all().await {
            match told_to_wait(&answer) {
                Ok(took) => refusals.record(took),
                Err(why) => ledger.failed(why),
            }
        }
        wait::let_pass(Duration::from_millis(200)).await;
    }
    refusals
}

fn told_to_wait(answer: &Result<Answer, Lost>) -> Result<Duration, String> {
    let answer = answer.as_ref().map_err(|lost| format!("no answer: {}", lost.why))?;
    let seconds: u32 = answer.header(header::RETRY_AFTER).parse().unwrap_or_default();
    let is_told = answer.status == StatusCode::SERVICE_UNAVAILABLE
        && answer.served_by().is_some()
        && (1..=60).contains(&seconds)
        && answer.code() == "unavailable";
    if is_told { Ok(answer.took) } else { Err(format!("while the database was away: {answer}")) }
}
