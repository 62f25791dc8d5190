//! Maintenance according to the operator guide: a replica leaves the rotation and returns, and half of the
//! replicas at a time restart, under steady load and without a failed request.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::arrivals::{Schedule, Tally};
use e2e::client::{Answer, Client, Lost};
use e2e::cluster::{Cluster, Plan, service};
use e2e::load::Load;
use e2e::postgres::{Database, Postgres};
use e2e::wait;
use http::StatusCode;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(20);
const SESSIONS: usize = 8;

/// Logins, refreshes, own endpoints, forward authentication and key sets through the balancer, by a schedule:
/// a stall shows as latency, and a refusal as a failure. Requests are not repeated.
async fn steady_load(cluster: &Cluster) -> (Load, Arc<Tally>) {
    let (tally, mut load) = (Tally::new("all"), Load::default());
    let names = cluster.create_users("rolling", SESSIONS, &["ping"]).await;
    let (client, password) = (cluster.client(), cluster.user_password());
    let mut refresh_tokens = Vec::new();
    let mut bearer = String::new();
    for name in &names {
        let tokens = client.login(name, password).await.expect("an answer").tokens();
        refresh_tokens.push(tokio::sync::Mutex::new(tokens.refresh));
        bearer = tokens.access;
    }

    let (sessions, turn) = (Arc::new(refresh_tokens), Arc::new(AtomicUsize::new(0)));
    let refreshing = client.clone();
    load.arrive(Schedule::per_second(50), &tally, move || {
        let (client, sessions) = (refreshing.clone(), Arc::clone(&sessions));
        let place = turn.fetch_add(1, Ordering::Relaxed) % SESSIONS;
        async move {
            let mut token = sessions[place].lock().await;
            let answer = client.refresh(&token).await;
            let outcome = judge("refresh", &answer);
            if let Some(tokens) = answer.ok().and_then(|answer| answer.find_tokens()) {
                *token = tokens.refresh;
            }
            outcome
        }
    });
    let (own, name) = (client.clone(), names[0].clone());
    load.arrive(Schedule::per_second(3), &tally, move || {
        let (client, name) = (own.clone(), name.clone());
        async move { judge("login", &client.login(&name, password).await) }
    });
    for (path, rate) in [("/v1/me", 20), ("/v1/verify?permission=ping", 50), ("/.well-known/jwks.json", 10)] {
        let client = client.with_bearer(&bearer);
        load.arrive(Schedule::per_second(rate), &tally, move || {
            let client = client.clone();
            async move { judge(path, &client.get(path).await) }
        });
    }
    (load, tally)
}

fn judge(what: &str, answer: &Result<Answer, Lost>) -> Result<(), String> {
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => Ok(()),
        Ok(answer) => Err(format!("{what} by {:?}: {answer}", answer.served_by())),
        Err(lost) => Err(format!("{what}: {}", lost.why)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarting_half_of_the_replicas_at_a_time_fails_no_request() {
    let database = Postgres::shared().create_database();
    // Longer than the balancer needs to detect it: it polls every 200 ms.
    let cluster = Cluster::start(Plan::new(4, database.url()).set("drain_delay", "2s")).await;
    let (load, tally) = steady_load(&cluster).await;
    let before: Vec<u32> = cluster.replicas().iter().map(e2e::cluster::Replica::id).collect();
    let answered = || tally.counts().ok.count();
    let some_more = async |what: &str| {
        let start = answered();
        wait::until(what, TIMEOUT, async || (answered() > start + 200).then_some(())).await;
    };
    some_more("the load runs").await;
    for half in [[0, 1], [2, 3]] {
        // All together, like `systemctl restart` on two machines.
        cluster.stop(half).await;
        tokio::join!(cluster.restart(half[0]), cluster.restart(half[1]));
        some_more("it runs on all four").await;
    }
    load.stop().await;
    let counts = tally.counts();
    assert_eq!(counts.ok.count(), counts.due(), "{:#?}", counts.failures);
    for (number, replica) in cluster.replicas().iter().enumerate() {
        assert_ne!(replica.id(), before[number], "replica {number} was restarted");
        assert!(
            cluster.balancer().answers()[number] > 0,
            "and takes its share: {:?}",
            cluster.balancer().answers()
        );
    }
    println!("{} requests, none failed", answered());
}

/// Runs `auth-service replica …` like an operator on a host with the database's URL and the master key. Returns the objects
/// that it prints.
fn replica(cluster: &Cluster, database: &Database<'_>, arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(service())
        .args(["--json", "replica"])
        .args(arguments)
        .current_dir(cluster.dir().path())
        .env("AUTH_DATABASE_URL", database.url())
        .env("AUTH_MASTER_KEY_FILE", cluster.dir().path().join("master.key"))
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// Calls the balancer until the last 20 responses came from exactly these replicas.
async fn served_by(client: &Client, expected: &[usize]) {
    wait::until(&format!("the replicas {expected:?} serve"), TIMEOUT, async || {
        let mut servers = Vec::new();
        for _ in 0..20 {
            let answer = client.me().await.expect("an answer");
            answer.assert_status(StatusCode::OK);
            servers.extend(answer.served_by());
        }
        servers.sort_unstable();
        servers.dedup();
        (servers == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_drained_from_the_command_line_gets_no_requests_until_returned() {
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(2, database.url())).await;
    let name = cluster.create_users("drained", 1, &["ping"]).await.remove(0);
    let tokens = cluster.client().login(&name, cluster.user_password()).await.expect("an answer").tokens();
    let client = cluster.client().with_bearer(&tokens.access);
    served_by(&client, &[0, 1]).await;
    let run = |arguments: &[&str]| replica(&cluster, &database, arguments);

    let listed = wait::until("both have told of themselves", TIMEOUT, async || {
        let listed = run(&["list"]);
        (listed.len() == 2 && listed.iter().all(|replica| replica["state"] == "ready")).then_some(listed)
    })
    .await;
    let public_addr = cluster.replicas()[0].address("public").to_string();
    let first = listed.iter().find(|replica| replica["public_addr"] == *public_addr).expect("its address");
    let id = first["id"].as_str().expect("text");
    assert_eq!(run(&["drain", id])[0]["state"], "draining");
    served_by(&client, &[1]).await;
    // It still serves direct requests.
    client.at_replica(0).me().await.expect("an answer").assert_status(StatusCode::OK);
    let metrics = Client::new(&cluster.replicas()[0].admin_url()).get("/metrics").await.expect("an answer");
    let metrics = String::from_utf8(metrics.body.to_vec()).expect("text");
    let has_idle = |line: &str| {
        line.starts_with("auth_database_pool_connections{state=\"idle\"}") && !line.ends_with(" 0")
    };
    assert!(metrics.lines().any(|line| line == "auth_draining 1"), "{metrics}");
    assert!(metrics.lines().any(has_idle), "{metrics}");
    assert_eq!(run(&["undrain", id])[0]["state"], "ready");
    served_by(&client, &[0, 1]).await;

    // A replica that stops removes itself from the list; a lost one stays on it.
    cluster.stop([0]).await;
    let listed = run(&["list"]);
    assert_eq!((listed.len(), listed[0]["id"] == id), (1, false), "{listed:?}");
    cluster.kill(1);
    wait::until("the lost one is silent", TIMEOUT, async || {
        (run(&["list"])[0]["state"] == "silent").then_some(())
    })
    .await;
}
