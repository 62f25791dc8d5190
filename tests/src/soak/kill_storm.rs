//! R1: `kill -9` for one replica after the other, under load, while keys rotate.

use std::sync::Arc;
use std::time::Duration;

use super::run::note_deaths;
use super::traffic::{Clients, REACH_WHEN_CUT, Rates, Traffic, plan, verifiers};
use super::{Run, Size};
use crate::clock;
use crate::cluster::Cluster;
use crate::histogram::Histogram;
use crate::ledger::{Call, Outcome};
use crate::postgres::Postgres;
use crate::wait;

const REPLICAS: usize = 3;
const LONGEST_START: Duration = Duration::from_secs(1);

pub(super) async fn play(run: &mut Run) {
    let Figures { rates, kills, period } = Figures::of(run.size);
    run.bounds.reach = REACH_WHEN_CUT;
    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(plan(database.url())).await);
    let clients = Clients::start(run, &cluster, 60).await;
    let verifiers = verifiers(3, &cluster).await;
    let mut traffic = Traffic::start(run, &clients, &verifiers, rates);
    traffic.watch(&cluster, &run.ledger, &[0, 1, 2]);

    let mut starts = Histogram::default();
    let mut made = Vec::new();
    for kill in 0..kills {
        let next_kill = tokio::time::Instant::now() + period;
        let victim = kill % REPLICAS;
        // What the victim acknowledged just before must be known to the others.
        made.extend(make_user(run, &cluster, victim).await);
        note_deaths(&cluster, &run.ledger);
        run.ledger.deed(format!("kill replica {victim}"));
        cluster.kill(victim);
        wait::let_pass(period / 5).await;
        starts.record(cluster.restart(victim).await);
        tokio::time::sleep_until(next_kill).await;
    }
    traffic.stop().await;
    for name in made {
        let (sent, found) = wait::until("a user is looked for", Duration::from_secs(20), async || {
            let sent = clock::since_epoch();
            let found = Outcome::of(&cluster.client().login(&name, cluster.user_password()).await);
            (!matches!(found, Outcome::Info(_))).then_some((sent, found))
        })
        .await;
        run.ledger.write(sent, found, Call::Find { thing: name });
    }
    run.close(&cluster).await;
    run.few_failures(2.0);
    run.within("slowest start, from exec to ready", starts.max(), LONGEST_START);
}

/// The name of a new user, if the replica acknowledged it.
async fn make_user(run: &Run, cluster: &Cluster, replica: usize) -> Option<String> {
    let name = format!("late-{}", run.random.word(12));
    let admin = cluster.admin_at(replica).await;
    let sent = clock::since_epoch();
    let made = admin.post_user(&name, cluster.user_password(), &[]).await;
    run.ledger.write(sent, Outcome::of(&made), Call::Make { thing: name.clone() });
    (Outcome::of(&made) == Outcome::Ok).then_some(name)
}

struct Figures {
    rates: Rates,
    kills: usize,
    period: Duration,
}

impl Figures {
    fn of(size: Size) -> Self {
        let short = Rates { logins: 5, refreshes: 50, verifies: 400, logouts: 3 };
        let full = Rates { logins: 20, refreshes: 100, verifies: 1000, logouts: 5 };
        Self {
            rates: size.pick(short, full),
            kills: size.pick(6, 120),
            period: Duration::from_secs(size.pick(3, 5)),
        }
    }
}
