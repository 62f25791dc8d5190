//! `examples/ping-service`: replicas that share nothing behind a round-robin balancer.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::arrivals::{Schedule, Tally};
use e2e::balancer::Balancer;
use e2e::client::Client;
use e2e::cluster::{Cluster, Plan};
use e2e::load::Load;
use e2e::process::Signal;
use e2e::resource_server::ResourceServer;
use e2e::wait;
use e2e::workdir::Workdir;
use http::StatusCode;

const REPLICAS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_responds_and_checks_permissions() {
    let scene = Scene::set(&[]).await;
    let mut answers = BTreeMap::<String, usize>::new();
    for _ in 0..100 * REPLICAS {
        let answer = scene.client("ping").get("/ping").await.expect("an answer");
        answer.assert_status(StatusCode::OK);
        *answers.entry(answer.header("x-replica").to_owned()).or_default() += 1;
    }
    let even = (0..REPLICAS).map(|number| (number.to_string(), 100)).collect();
    assert_eq!(answers, even);

    for replica in &scene.replicas {
        for (permission, path, status) in [
            ("ping", "/pong", StatusCode::FORBIDDEN),
            ("pong", "/pong", StatusCode::OK),
            ("pong", "/ping", StatusCode::FORBIDDEN),
        ] {
            let answer = replica.client(scene.token(permission)).get(path).await.expect("an answer");
            answer.assert_status(status);
        }
        let nobody = replica.process().client();
        nobody.get("/ping").await.expect("an answer").assert_status(StatusCode::UNAUTHORIZED);
        nobody.get("/livez").await.expect("an answer").assert_status(StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_replica_fails_no_request() {
    let scene = Scene::set(&[("DRAIN_DELAY", "1.5")]).await;
    let (tally, mut load) = (Tally::new("ping"), Load::default());
    let client = scene.client("ping");
    load.arrive(Schedule::per_second(100), &tally, move || {
        let client = client.clone();
        async move {
            match client.get("/ping").await {
                Ok(answer) if answer.status == StatusCode::OK => Ok(()),
                Ok(answer) => Err(answer.status.to_string()),
                Err(lost) => Err(lost.why),
            }
        }
    });
    wait::let_pass(Duration::from_millis(300)).await;

    let leaving = &scene.replicas[1];
    leaving.process().signal(Signal::TERM);
    let client = leaving.client(scene.token("ping"));
    wait::until("readiness says no", Duration::from_secs(1), async || {
        let answer = client.get("/readyz").await.expect("it still listens");
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    // The balancer may not know it yet: the replica still serves its requests.
    client.get("/ping").await.expect("it still listens").assert_status(StatusCode::OK);
    assert!(leaving.process().ended(Duration::from_secs(10)).await.success());

    let before = tally.counts().ok.count();
    wait::until("the others go on", Duration::from_secs(10), async || {
        (tally.counts().ok.count() >= before + 50).then_some(())
    })
    .await;
    load.stop().await;
    let counts = tally.counts();
    assert_eq!(counts.due(), counts.ok.count(), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_without_keys_is_alive_and_not_ready() {
    let scene = Scene::set(&[]).await;
    // No process listens there.
    let server = ResourceServer::start("http://127.0.0.1:9").await;
    let client = server.client(scene.token("ping"));
    client.get("/livez").await.expect("an answer").assert_status(StatusCode::OK);
    client.get("/readyz").await.expect("an answer").assert_status(StatusCode::SERVICE_UNAVAILABLE);
    // It cannot check a token, and does not report it as invalid.
    client.get("/ping").await.expect("an answer").assert_status(StatusCode::SERVICE_UNAVAILABLE);
}

/// Three replicas behind a balancer, and a token for each permission.
struct Scene {
    replicas: Vec<ResourceServer>,
    balancer: Balancer,
    tokens: BTreeMap<&'static str, String>,
    _cluster: Cluster,
    _dir: Workdir,
}

impl Scene {
    async fn set(environment: &[(&str, &str)]) -> Self {
        let dir = Workdir::new();
        let url = format!("sqlite://{}", dir.path().join("auth.db").display());
        let cluster = Cluster::start(Plan::new(1, url)).await;
        let mut tokens = BTreeMap::new();
        for permission in ["ping", "pong"] {
            let user = cluster.create_users(permission, 1, &[permission]).await.remove(0);
            let login = cluster.client().login(&user, cluster.user_password()).await.expect("an answer");
            tokens.insert(permission, login.tokens().access);
        }
        let (mut replicas, balancer) = (Vec::new(), Balancer::start().await);
        for number in 0..REPLICAS {
            let name = number.to_string();
            let environment = [environment, &[("REPLICA", &*name)]].concat();
            let replica = ResourceServer::start_with(&cluster.issuer(), &environment).await;
            replica.process().await_ready().await;
            balancer.set_backend(number, replica.process().address());
            replicas.push(replica);
        }
        Self { replicas, balancer, tokens, _cluster: cluster, _dir: dir }
    }

    fn token(&self, permission: &str) -> &str {
        &self.tokens[permission]
    }

    /// A client that goes through the balancer.
    fn client(&self, permission: &str) -> Client {
        Client::new(&self.balancer.url()).with_bearer(self.token(permission))
    }
}
