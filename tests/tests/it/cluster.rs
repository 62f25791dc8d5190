//! Three replicas on one database behind a round-robin balancer, two resource servers, one user.

use std::time::Duration;

use e2e::client::{Answer, Client};
use e2e::cluster::{ADMIN, ADMIN_AUDIENCE, Cluster, Plan};
use e2e::jwt::Peek;
use e2e::postgres::Postgres;
use e2e::resource_server::ResourceServer;
use e2e::wait;
use http::{StatusCode, header};

const REPLICAS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_returns_correct_responses() {
    let database = Postgres::shared().create_database();
    // No rotation except the one requested by the test.
    let plan = Plan::new(REPLICAS, database.url()).keys_of_seconds().set("key_rotation_period", "1h");
    let cluster = Cluster::start(plan).await;
    let servers =
        [ResourceServer::start(&cluster.issuer()).await, ResourceServer::start(&cluster.issuer()).await];
    let may = cluster.create_users("may", 1, &["ping"]).await.remove(0);
    let may_not = cluster.create_users("maynot", 1, &["pong"]).await.remove(0);
    let password = cluster.user_password();

    for turn in 0..REPLICAS {
        let login = cluster.client().login(&may, password).await.expect("an answer");
        let first = login.tokens();
        assert_eq!(login.header(header::CACHE_CONTROL), "no-store");
        let elsewhere = (login.served_by().expect("a replica answered") + 1) % REPLICAS;
        let refreshed = at(&cluster, elsewhere).refresh(&first.refresh).await.expect("an answer");
        assert_eq!(refreshed.served_by(), Some(elsewhere));
        let second = refreshed.tokens();
        assert_eq!(second.session, first.session);
        assert_ne!(second.refresh, first.refresh);

        // Every resource server accepts both tokens, and every replica knows the user.
        for token in [&first.access, &second.access] {
            for server in &servers {
                ping(server, token).await.assert_status(StatusCode::OK);
            }
            for replica in 0..REPLICAS {
                let me = at(&cluster, replica).with_bearer(token).me().await.expect("an answer");
                me.assert_status(StatusCode::OK);
                assert_eq!(me.json()["username"], may);
                assert_eq!(me.json()["permissions"], serde_json::json!(["ping"]));
                assert_eq!(me.json()["session_id"], first.session);
            }
        }

        if turn == 0 {
            rotate_everywhere(&cluster, (elsewhere + 1) % REPLICAS).await;
            // The successor signs at every replica, and its tokens and those of its predecessor are accepted.
            let old = Peek::into(&second.access).kid;
            let mut newest = second.clone();
            for replica in 0..REPLICAS {
                let what = format!("replica {replica} signs with the new key");
                newest = wait::until(&what, Duration::from_secs(20), async || {
                    let tokens =
                        at(&cluster, replica).refresh(&newest.refresh).await.expect("an answer").tokens();
                    let changed = Peek::into(&tokens.access).kid != old;
                    newest.refresh.clone_from(&tokens.refresh);
                    changed.then_some(tokens)
                })
                .await;
                for server in &servers {
                    ping(server, &newest.access).await.assert_status(StatusCode::OK);
                    ping(server, &second.access).await.assert_status(StatusCode::OK);
                }
            }
            logout_is_seen_everywhere(&cluster, &newest.refresh, &newest.access).await;
        } else {
            logout_is_seen_everywhere(&cluster, &second.refresh, &second.access).await;
        }
    }

    let answers = cluster.balancer().answers();
    assert!(answers.iter().all(|&count| count > 10), "the balancer used every replica: {answers:?}");
    refusals_are_right(&cluster, &servers[0], &may_not).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_created_at_one_replica_logs_in_and_is_disabled_at_all() {
    let database = Postgres::shared().create_database();
    let cluster = Cluster::start(Plan::new(REPLICAS, database.url())).await;
    let user = cluster.create_users("worker", 1, &["ping"]).await.remove(0);
    let mut sessions = Vec::new();
    for replica in 0..REPLICAS {
        let login = at(&cluster, replica).login(&user, cluster.user_password()).await.expect("an answer");
        sessions.push(login.tokens());
    }
    let admin = cluster.admin_at(1).await;
    let users = admin.get("/admin/v1/users?limit=200").await.expect("an answer").json();
    let users = users["users"].as_array().expect("a list");
    let id = users.iter().find(|listed| listed["username"] == user).expect("our user")["id"]
        .as_str()
        .expect("an id");
    let disabled = serde_json::json!({ "disabled": true });
    let patched = admin.send_json(http::Method::PATCH, &format!("/admin/v1/users/{id}"), &disabled).await;
    patched.expect("an answer").assert_status(StatusCode::OK);
    for (replica, tokens) in sessions.iter().enumerate() {
        let client = at(&cluster, (replica + 1) % REPLICAS);
        let refused = client.refresh(&tokens.refresh).await.expect("an answer");
        assert_eq!(refused.assert_status(StatusCode::UNAUTHORIZED).code(), "invalid_refresh_token");
        let login = client.login(&user, cluster.user_password()).await.expect("an answer");
        assert_eq!(login.assert_status(StatusCode::UNAUTHORIZED).code(), "invalid_credentials");
    }
}

/// One replica announces a key; the others know immediately that a rotation is pending, and all publish both
/// keys.
async fn rotate_everywhere(cluster: &Cluster, replica: usize) {
    let rotated = cluster.admin_at(replica).await.rotate().await.expect("an answer");
    rotated.assert_status(StatusCode::CREATED);
    let kid = rotated.json()["key"]["kid"].clone();
    assert_eq!(rotated.json()["key"]["phase"], "pending");
    assert_eq!(rotated.json()["retiring"]["retires_at"], rotated.json()["key"]["activates_at"]);
    for replica in 0..REPLICAS {
        let again = cluster.admin_at(replica).await.rotate().await.expect("an answer");
        assert_eq!(again.assert_status(StatusCode::CONFLICT).code(), "rotation_pending");
        assert_eq!(again.json()["earliest_at"], rotated.json()["key"]["activates_at"]);
        let what = format!("replica {replica} publishes the announced key");
        wait::until(&what, Duration::from_secs(2), async || {
            let jwks = at(cluster, replica).jwks().await.expect("an answer").json();
            let keys = jwks["keys"].as_array().expect("keys").clone();
            (keys.len() == 2 && keys.iter().any(|key| key["kid"] == kid)).then_some(())
        })
        .await;
    }
}

async fn logout_is_seen_everywhere(cluster: &Cluster, refresh: &str, access: &str) {
    let client = cluster.client();
    client.logout(refresh).await.expect("an answer").assert_status(StatusCode::NO_CONTENT);
    for replica in 0..REPLICAS {
        let refused = at(cluster, replica).refresh(refresh).await.expect("an answer");
        assert_eq!(refused.assert_status(StatusCode::UNAUTHORIZED).code(), "invalid_refresh_token");
        let me = at(cluster, replica).with_bearer(access).me().await.expect("an answer");
        assert_eq!(me.assert_status(StatusCode::UNAUTHORIZED).code(), "invalid_token");
        // Repeating it succeeds.
        let again = at(cluster, replica).logout(refresh).await.expect("an answer");
        again.assert_status(StatusCode::NO_CONTENT);
    }
}

async fn refusals_are_right(cluster: &Cluster, server: &ResourceServer, without_permission: &str) {
    let login = cluster.client().login(without_permission, cluster.user_password()).await.expect("an answer");
    let token = login.tokens().access;
    let forbidden = ping(server, &token).await;
    forbidden.assert_status(StatusCode::FORBIDDEN);
    assert!(forbidden.header(header::WWW_AUTHENTICATE).contains("insufficient_scope"), "{forbidden}");

    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let flipped: String = signature.chars().rev().collect();
    let forged = ping(server, &format!("{signed}.{flipped}")).await;
    forged.assert_status(StatusCode::UNAUTHORIZED);
    assert!(forged.header(header::WWW_AUTHENTICATE).contains("invalid_token"), "{forged}");

    // A resource server refuses tokens for the admin API, and the admin API refuses tokens for a resource
    // server.
    let admin = cluster.client().login_for(ADMIN_AUDIENCE, ADMIN, cluster.admin_password()).await;
    let admin_token = admin.expect("an answer").tokens().access;
    ping(server, &admin_token).await.assert_status(StatusCode::UNAUTHORIZED);
    let plain =
        cluster.client().login(ADMIN, cluster.admin_password()).await.expect("an answer").tokens().access;
    let keys =
        Client::new(&cluster.replicas()[0].admin_url()).with_bearer(&plain).keys().await.expect("an answer");
    assert_eq!(keys.assert_status(StatusCode::UNAUTHORIZED).code(), "invalid_token");
}

async fn ping(server: &ResourceServer, token: &str) -> Answer {
    server.client(token).get("/ping").await.expect("an answer")
}

fn at(cluster: &Cluster, replica: usize) -> Client {
    cluster.client().at_replica(replica)
}
