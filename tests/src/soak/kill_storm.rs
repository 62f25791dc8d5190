//! R1: `kill -9` for one replica after the other, under load, while keys rotate.

use std::sync::Arc;
use std::time::Duration;

use super::confirmed::Confirmed;
use super::run::{note_deaths, number};
use super::traffic::{Clients, REACH_WHEN_CUT, Rates, SIGNS_FOR, Traffic, plan, verifiers};
use super::{Run, Size};
use crate::checkers::Volume;
use crate::clock;
use crate::cluster::Cluster;
use crate::histogram::Histogram;
use crate::postgres::Postgres;
use crate::wait;

const REPLICAS: usize = 3;
const LONGEST_START: Duration = Duration::from_secs(1);

pub(super) async fn play(run: &mut Run) {
    let Figures { rates, kills, period } = Figures::of(run.size);
    run.bounds.reach = REACH_WHEN_CUT;
    // Processes of some seconds are still in warm-up: each hashing thread keeps the 19 MiB of its last
    // password.
    run.bounds.rss_growth_kib = 64 * 1024;
    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(plan(database.url())).await);
    let clients = Clients::start(run, &cluster, rates).await;
    let verifiers = verifiers(3, &cluster).await;
    let mut traffic = Traffic::start(run, &clients, &verifiers, rates);
    run.watch(&cluster);
    traffic.watch_keys(&cluster, &run.ledger, &[0, 1, 2]);

    let mut starts = Histogram::default();
    let (mut confirmed, mut logouts) = (Confirmed::default(), 0);
    let began = clock::instant();
    for kill in 0..kills {
        let next_kill = tokio::time::Instant::now() + period;
        let victim = kill % REPLICAS;
        // The other replicas must have the victim's last acknowledged writes.
        confirmed.make_at(run, &cluster, victim).await;
        let logout = clients.log_out_at(&cluster.client().at_replica(victim)).await;
        logouts += usize::from(logout.is_ok());
        note_deaths(&cluster, &run.ledger);
        run.ledger.deed(format!("kill replica {victim}"));
        cluster.kill(victim);
        wait::let_pass(period / 5).await;
        starts.record(cluster.restart(victim).await);
        tokio::time::sleep_until(next_kill).await;
    }
    let passed = began.elapsed();
    traffic.stop().await;
    confirmed.find(run, &cluster).await;
    run.close(&cluster).await;
    run.few_failures(2.0);
    run.rotations(passed, SIGNS_FOR);
    let lives = Volume::of(&run.ledger.entries()).processes;
    run.at_least("processes seen", number(lives), number(REPLICAS + kills), "");
    run.at_least("logouts at the victim just before", number(logouts), number(kills) * 0.9, "");
    run.within("slowest start, from exec to ready", starts.max(), LONGEST_START);
}

struct Figures {
    rates: Rates,
    kills: usize,
    period: Duration,
}

impl Figures {
    fn of(size: Size) -> Self {
        let short = Rates { logins: 5, refreshes: 30, verifies: 400, logouts: 3 };
        let full = Rates { logins: 20, refreshes: 100, verifies: 1000, logouts: 5 };
        Self {
            rates: size.pick(short, full),
            kills: size.pick(5, 120),
            period: Duration::from_secs(size.pick(3, 5)),
        }
    }
}
