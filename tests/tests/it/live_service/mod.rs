//! `examples/live-service`: three replicas on one PostgreSQL behind a balancer without user affinity.

mod input;
mod loss;
mod messages;
mod tokens;

use std::time::Duration;

use e2e::client::Tokens;
use e2e::cluster::{Cluster, Plan};
use e2e::live::{Fleet, LiveService, Socket};
use e2e::postgres::{Database, Postgres};

const REPLICAS: usize = 3;

/// An issuer and a live-service, each with its own database.
struct Scene {
    live: LiveService,
    cluster: Cluster,
    database: Database<'static>,
    issuers_database: Database<'static>,
}

impl Scene {
    async fn set() -> Self {
        Self::set_with(|plan| plan, &[]).await
    }

    /// With settings of the issuer and of the live-service.
    async fn set_with(plan: impl FnOnce(Plan) -> Plan, environment: &[(&str, &str)]) -> Self {
        let database = Postgres::shared().create_database();
        let url = database.url();
        Self::set_on(database, &url, plan, environment).await
    }

    /// With a database for the live-service, which finds it at `url`.
    async fn set_on(
        database: Database<'static>,
        url: &str,
        plan: impl FnOnce(Plan) -> Plan,
        environment: &[(&str, &str)],
    ) -> Self {
        let issuers_database = Postgres::shared().create_database();
        let cluster = Cluster::start(plan(Plan::new(1, issuers_database.url()))).await;
        let live = LiveService::start(REPLICAS, &cluster.issuer(), url, environment).await;
        Self { live, cluster, database, issuers_database }
    }

    /// A new user with these permissions.
    async fn user(&self, name: &str, permissions: &[&str]) -> String {
        self.cluster.create_users(name, 1, permissions).await.remove(0)
    }

    /// A new session of the user.
    async fn log_in(&self, user: &str) -> Tokens {
        self.cluster.client().login(user, self.cluster.user_password()).await.expect("an answer").tokens()
    }

    /// A socket at replica `number`.
    async fn open(&self, number: usize, token: &str) -> Socket {
        let address = self.live.replicas()[number].address();
        Socket::open(address, token, None).await.expect("a socket")
    }

    /// New users with this many devices each, connected through the balancer; see [`Fleet::start`].
    async fn fleet(&self, shape: (usize, usize), sending: (usize, Duration)) -> Fleet {
        Fleet::start(&self.cluster, self.live.address(), shape, sending).await
    }

    /// A socket at each replica.
    async fn open_all(&self, token: &str) -> Vec<Socket> {
        let mut sockets = Vec::new();
        for number in 0..REPLICAS {
            sockets.push(self.open(number, token).await);
        }
        sockets
    }
}
