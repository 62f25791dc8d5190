//! Three nodes behind a front end, each with `auth-service` and an application.

use std::time::Duration;

use tokio::time::Instant;

use super::addresses::Addresses;
use super::plain::Plain;
use super::traffic::Death;
use super::{FrontEnd, Program};
use crate::client::Client;
use crate::cluster::{Cluster, Plan};
use crate::process::{self, Signal};
use crate::resource_server::ResourceServer;
use crate::wait;

/// The number of nodes.
pub const NODES: usize = 3;
/// The number of replicas of the guarded application.
const PLAINS: usize = 2;

/// Everything behind one front end, and the front end. Dropping it ends all of it.
#[derive(Debug)]
pub struct Site {
    addresses: Addresses,
    front: FrontEnd,
    cluster: Cluster,
    apps: Vec<ResourceServer>,
    live: Vec<Plain>,
    _plains: Vec<Plain>,
}

impl Site {
    /// Starts `nodes` nodes on `database_url`, configured by `adapt`, and waits until all are ready. The
    /// front end is configured for [`NODES`]; the rest is down.
    pub async fn start(
        program: Program,
        database_url: &str,
        nodes: usize,
        adapt: impl FnOnce(Plan) -> Plan,
    ) -> Self {
        let addresses = Addresses::fresh();
        let issuer = format!("http://{}", addresses.public());
        let plan = Plan::new(nodes, database_url)
            .issuer(&issuer)
            .set("trusted_proxies", "127.0.0.1/32")
            // Longer than the 2 s that the front ends take to notice.
            .set("drain_delay", "3s");
        let plan = (0..nodes).fold(adapt(plan), |plan, number| {
            plan.set_at(number, "public_addr", &addresses.auth(number).to_string())
        });
        let cluster = Cluster::start(plan).await;
        let (mut live, mut plains) = (Vec::new(), Vec::new());
        for number in 0..nodes {
            live.push(Plain::start(number, addresses.live(number)).await);
        }
        for number in 0..PLAINS {
            plains.push(Plain::start(number, addresses.plain(number)).await);
        }
        let front = FrontEnd::start(program, addresses).await;
        // They need the front end, because it is their issuer.
        let mut apps = Vec::new();
        for number in 0..nodes {
            let (address, replica) = (addresses.app(number).to_string(), number.to_string());
            let environment = [("ADDRESS", &*address), ("REPLICA", &*replica), ("DRAIN_DELAY", "3")];
            apps.push(ResourceServer::start_with(&issuer, &environment).await);
        }
        for app in &apps {
            app.process().await_ready().await;
        }
        let site = Self { addresses, front, cluster, apps, live, _plains: plains };
        site.await_rotation().await;
        site
    }

    /// Waits until the front end has detected that all applications are ready.
    async fn await_rotation(&self) {
        let client = self.client();
        wait::until("the front end uses all nodes", Duration::from_secs(20), async || {
            let mut used = [false; NODES];
            for _ in 0..2 * NODES {
                let answer = client.get("/readyz").await.ok()?;
                used[answer.header("x-replica").parse::<usize>().ok()?] = true;
            }
            (used.iter().filter(|used| **used).count() == self.apps.len()).then_some(())
        })
        .await;
    }

    /// Its address.
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The front end.
    pub const fn front(&self) -> &FrontEnd {
        &self.front
    }

    /// The replicas of `auth-service`.
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The services with `WebSockets`.
    pub fn live(&self) -> &[Plain] {
        &self.live
    }

    /// A client that goes through the front end.
    pub fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.addresses.public()))
    }

    /// A client of the application that the front end guards.
    pub fn guarded(&self) -> Client {
        Client::new(&format!("http://{}", self.addresses.guarded()))
    }

    /// Ends node `number` with SIGKILL, and returns when.
    pub fn kill(&self, number: usize) -> Death {
        let began = Instant::now();
        self.cluster.kill(number);
        self.apps[number].process().kill();
        Death { node: number, began, ended: Instant::now() }
    }

    /// Suspends node `number`; its connections stay open.
    pub fn pause(&self, number: usize) {
        self.cluster.pause(number);
        self.apps[number].process().signal(Signal::STOP);
    }

    /// Stops node `number` as a supervisor does, and waits until it has ended.
    pub async fn drain(&self, number: usize) {
        const TIMEOUT: Duration = Duration::from_secs(40);
        let replica = &self.cluster.replicas()[number];
        process::signal(replica.id(), Signal::TERM);
        self.apps[number].process().signal(Signal::TERM);
        let status = replica.ended(TIMEOUT).await;
        assert!(status.success(), "{status}");
        let status = self.apps[number].process().ended(TIMEOUT).await;
        assert!(status.success(), "{status}");
    }

    /// Starts node `number` again after it ended, and waits until it is ready.
    pub async fn restart(&self, number: usize) {
        self.apps[number].process().start_again();
        self.cluster.restart(number).await;
        self.apps[number].process().await_ready().await;
    }
}
