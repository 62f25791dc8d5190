//! R5: keys change every few seconds, and fifty verifiers with key sets of different ages must never miss
//! one.

use std::sync::Arc;
use std::time::Duration;

use verifier::Verifier;

use super::traffic::{Clients, Rates, Traffic, hurried, plan, verifiers};
use super::{Run, Size};
use crate::clock;
use crate::cluster::Cluster;
use crate::keys;
use crate::postgres::Postgres;
use crate::wait;

const VERIFIERS: usize = 50;
/// The duration of a rotation: `publish_ahead`, plus a moment until a replica detects that the next one is
/// due.
const ROTATION: Duration = Duration::from_millis(5500);
/// `jwks_max_age` of the plan.
const MAX_AGE: Duration = Duration::from_secs(1);

pub(super) async fn play(run: &mut Run) {
    let (rotations, rates) = figures(run.size);
    // ¾ of 5 s: the maximum for caches.
    run.bounds.lead = Duration::from_millis(3750);
    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(hurried(plan(database.url()))).await);
    let clients = Clients::start(run, &cluster, rates).await;
    // They fetch one after the other, so their key sets are of all ages.
    let verifiers = verifiers(VERIFIERS, &cluster).await;
    let mut traffic = Traffic::start(run, &clients, &verifiers, rates);
    run.watch(&cluster);
    traffic.watch_keys(&cluster, &run.ledger, &[0, 1, 2]);

    let (began, fetches_before) = (clock::instant(), fetches(&verifiers));
    wait::let_pass(ROTATION * rotations).await;
    let (span, fetched) = (began.elapsed(), fetches(&verifiers) - fetches_before);
    traffic.stop().await;
    let keys = keys::all(&cluster.admin_at(0).await).await;
    run.close(&cluster).await;
    run.few_failures(0.0);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    {
        run.at_least("rotations", keys.len() as f64 - 2.0, f64::from(rotations) * 0.8, "");
        let ages = VERIFIERS as f64 * span.as_secs_f64() / MAX_AGE.as_secs_f64();
        run.at_most("key sets fetched, for each verifier and max-age", fetched as f64 / ages, 1.2, "");
    }
}

fn fetches(verifiers: &[Arc<Verifier>]) -> u64 {
    verifiers.iter().map(|verifier| verifier.status().keys.fetches).sum()
}

fn figures(size: Size) -> (u32, Rates) {
    let short = Rates { logins: 2, refreshes: 30, verifies: 1000, logouts: 1 };
    let full = Rates { verifies: 2000, ..short };
    (size.pick(3, 100), size.pick(short, full))
}
