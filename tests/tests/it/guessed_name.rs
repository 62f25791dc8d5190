//! Two hundred networks guess the password of one user at two replicas. The user still logs in, and the guesses are few.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use e2e::arrivals::{Counts, Schedule, Tally};
use e2e::client::Client;
use e2e::cluster::{Cluster, Plan, Replica};
use e2e::ledger::Outcome;
use e2e::load::Load;
use e2e::postgres::Postgres;
use e2e::wait;
use serde_json::json;

use crate::TURN;

const FLOOD: Schedule = Schedule::per_second(50);
/// Slow enough for the limit on the logins of one user.
const OWNER: Schedule = Schedule::per_second(2);
const SPAN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn owner_logs_in_while_two_hundred_networks_guess_the_password() {
    let _turn = TURN.lock().await;
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(2, database.url())).await;
    let bases: Vec<String> = cluster.replicas().iter().map(Replica::public_url).collect();
    let owner = cluster.create_users("owner", 1, &[]).await.remove(0);
    let password = cluster.user_password();
    let known = Ipv4Addr::new(127, 0, 4, 1);
    let first = Client::new_from(known, &bases[0]).login(&owner, password).await.expect("an answer");
    let device = first.json()["device"].as_str().expect("a device value").to_owned();

    let mut load = Load::default();
    let networks = (1..=200).map(|last| Ipv4Addr::new(127, 0, 5, last));
    let guess = json!({ "username": owner, "password": "not the password" });
    let guesses = attempts(&mut load, FLOOD, bases.clone(), networks, guess);
    // Elsewhere each time.
    let networks = (1..=250).map(|last| Ipv4Addr::new(127, 0, 6, last));
    let with_device = json!({ "username": owner, "password": password, "device": device });
    let by_device = attempts(&mut load, OWNER, bases.clone(), networks, with_device);
    let right = json!({ "username": owner, "password": password });
    let by_network = attempts(&mut load, OWNER, bases.clone(), std::iter::once(known), right);
    wait::let_pass(SPAN).await;
    load.stop().await;

    let (guesses, by_device, by_network) = (guesses.counts(), by_device.counts(), by_network.counts());
    println!("guesses\n{guesses}\nfrom a known device\n{by_device}\nfrom a known network\n{by_network}");
    let checked = guesses.failures.get("401").copied().unwrap_or_default();
    // One in each second, of which the span touches one more; the last ones may end after it.
    assert!((3..=SPAN.as_secs() + 3).contains(&checked), "{checked} guesses were checked");
    assert!(share(&by_device) >= 99, "from a known device");
    assert!(share(&by_network) >= 95, "from a known network");
}

/// The share of attempts that succeeded, in hundredths.
fn share(counts: &Counts) -> u64 {
    100 * counts.ok.count() / counts.due().max(1)
}

/// Logs in by `schedule`, from one address after the other, at one replica after the other.
fn attempts(
    load: &mut Load,
    schedule: Schedule,
    bases: Vec<String>,
    addresses: impl Iterator<Item = Ipv4Addr> + Clone + Send + 'static,
    body: serde_json::Value,
) -> Arc<Tally> {
    let tally = Tally::new("login");
    let mut bases = bases.into_iter().cycle();
    let mut addresses = addresses.cycle();
    load.arrive(schedule, &tally, move || {
        let (from, base) = (addresses.next().expect("a cycle"), bases.next().expect("a cycle"));
        let (client, body) = (Client::new_from(from, &base), body.clone());
        async move { Outcome::kind(&client.post("/v1/login", &body).await) }
    });
    tally
}
