//! All replicas of auth-service stop and restart on the same database.

use std::time::Duration;

use e2e::cluster::{Cluster, Plan};
use e2e::postgres::Postgres;
use e2e::resource_server::ResourceServer;
use e2e::wait;
use e2e::workdir::Workdir;
use http::StatusCode;

/// Long enough for every key set to be past its max-age and for several refetches to fail.
const AWAY: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn resource_servers_and_sessions_survive_a_stop_of_all_replicas() {
    let database = Postgres::shared().create_database();
    stop_and_start_again(Plan::new(3, database.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resource_servers_and_sessions_survive_a_stop_on_sqlite() {
    let dir = Workdir::new();
    let url = format!("sqlite://{}", dir.path().join("auth.db").display());
    stop_and_start_again(Plan::new(1, url)).await;
}

async fn stop_and_start_again(plan: Plan) {
    let replicas = plan.replicas();
    let cluster = Cluster::start(plan.set("jwks_max_age", "1s")).await;
    let user = cluster.create_users("patient", 1, &["ping"]).await.remove(0);
    let servers =
        [ResourceServer::start(&cluster.issuer()).await, ResourceServer::start(&cluster.issuer()).await];
    let client = cluster.client();
    let before = client.login(&user, cluster.user_password()).await.expect("an answer").tokens();
    let all_take = async |token: &str| {
        for server in &servers {
            let answer = server.client(token).get("/ping").await.expect("an answer");
            answer.assert_status(StatusCode::OK);
        }
    };
    all_take(&before.access).await;

    cluster.stop_all().await;
    let start = e2e::clock::instant();
    while start.elapsed() < AWAY {
        all_take(&before.access).await;
        wait::let_pass(Duration::from_millis(100)).await;
    }
    let gone = client.refresh(&before.refresh).await.expect("the balancer answers");
    assert_eq!(gone.served_by(), None, "nobody is there to answer: {gone}");

    for number in 0..replicas {
        cluster.restart(number).await;
    }
    all_take(&before.access).await;
    for replica in 0..replicas {
        let me = client.at_replica(replica).with_bearer(&before.access).me().await.expect("an answer");
        me.assert_status(StatusCode::OK);
    }
    let after = client.refresh(&before.refresh).await.expect("an answer").tokens();
    assert_eq!(after.session, before.session);
    all_take(&after.access).await;
    let fresh = client.login(&user, cluster.user_password()).await.expect("an answer").tokens();
    all_take(&fresh.access).await;
}
