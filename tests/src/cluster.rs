//! Several `auth-service serve` processes on one database, with a balancer in front.
//!
//! They share only the database, the master key and the issuer, which is by default the balancer's URL. Each
//! one listens on free ports, so a restarted replica has a new address, which the balancer gets.

mod replica;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use rustix::process::Signal;

use crate::balancer::Balancer;
use crate::client::Client;
use crate::clock;
use crate::process;
use crate::random::Random;
use crate::wait;
use crate::workdir::Workdir;
use replica::Launch;
pub use replica::{Replica, find_address, service};

/// The user of the bootstrap.
pub const ADMIN: &str = "admin";

/// The audience of the admin API.
pub const ADMIN_AUDIENCE: &str = "auth-admin";

/// The plan of a cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    replicas: usize,
    database_url: String,
    issuer: Option<String>,
    settings: Vec<(String, String)>,
    own_settings: Vec<(usize, String, String)>,
    clocks: Vec<(usize, String)>,
    program: Option<PathBuf>,
}

impl Plan {
    /// This many replicas on one database, with default settings.
    pub fn new(replicas: usize, database_url: impl Into<String>) -> Self {
        let plan = Self {
            replicas,
            database_url: database_url.into(),
            issuer: None,
            settings: Vec::new(),
            own_settings: Vec::new(),
            clocks: Vec::new(),
            program: None,
        };
        plan.set("drain_delay", "200ms").set("log_format", "json")
    }

    /// Sets `key`, a name of the configuration table, for all replicas.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((variable(key), value.to_owned()));
        self
    }

    /// Sets `key` for replica `number` only.
    #[must_use]
    pub fn set_at(mut self, number: usize, key: &str, value: &str) -> Self {
        self.own_settings.push((number, variable(key), value.to_owned()));
        self
    }

    /// The URL for clients, if it is not that of the balancer in this process.
    #[must_use]
    pub fn issuer(mut self, url: &str) -> Self {
        self.issuer = Some(url.to_owned());
        self
    }

    /// A key schedule of seconds: a key is announced 8 s before it signs, and signs for 10 s.
    ///
    /// It obeys K1: ¾ × 8 s ≥ 2 s max-age + 0.4 s stale-while-revalidate + 0.5 s poll + 2 × 1 s clock bound.
    #[must_use]
    pub fn keys_of_seconds(self) -> Self {
        self.set("key_publish_ahead", "8s")
            .set("key_rotation_period", "10s")
            .set("key_poll_interval", "500ms")
            .set("jwks_max_age", "2s")
            .set("clock_bound", "1s")
            .set("leeway", "2s")
    }

    /// The number of replicas.
    pub const fn replicas(&self) -> usize {
        self.replicas
    }

    /// Shifts the clock of replica `number` by this many seconds.
    #[must_use]
    pub fn clock_offset(mut self, number: usize, seconds: i64) -> Self {
        self.clocks.push((number, format!("{seconds:+}s")));
        self
    }

    /// Makes the clock of replica `number` settable with [`Replica::set_clock`].
    #[must_use]
    pub fn clock_to_set(mut self, number: usize) -> Self {
        self.clocks.push((number, replica::CLOCK_TO_SET.to_owned()));
        self
    }

    /// Starts `program` instead of the binary under test.
    #[must_use]
    pub fn program(self, program: PathBuf) -> Self {
        Self { program: Some(program), ..self }
    }
}

fn variable(key: &str) -> String {
    format!("AUTH_{}", key.to_uppercase())
}

/// Running replicas behind their balancer. Dropping it ends them; if the test failed, their last log lines
/// are printed.
#[derive(Debug)]
pub struct Cluster {
    balancer: Balancer,
    issuer: String,
    replicas: Vec<Replica>,
    admin_password: String,
    // Last, so that it is removed after the processes ended.
    dir: Workdir,
}

impl Cluster {
    /// Starts everything and waits until each replica is ready.
    pub async fn start(plan: Plan) -> Self {
        let dir = Workdir::new();
        let balancer = Balancer::start().await;
        let issuer = plan.issuer.unwrap_or_else(|| balancer.url());
        let random = Random::fresh();
        let admin_password = format!("violet-{}", random.word(20));
        let master_key = dir.path().join("master.key");
        let bytes: Vec<u8> = (0..4).flat_map(|_| random.next().to_le_bytes()).collect();
        fs::write(&master_key, STANDARD.encode(bytes) + "\n").expect("the master key");

        let mut environment = vec![
            ("AUTH_ISSUER".to_owned(), issuer.clone()),
            ("AUTH_PUBLIC_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
            ("AUTH_ADMIN_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
            ("AUTH_DATABASE_URL".to_owned(), plan.database_url.clone()),
            ("AUTH_MASTER_KEY_FILE".to_owned(), master_key.display().to_string()),
            ("AUTH_BOOTSTRAP_ADMIN_PASSWORD".to_owned(), admin_password.clone()),
        ];
        environment.extend(plan.settings);
        let program = plan.program.unwrap_or_else(service);
        let replicas = (0..plan.replicas)
            .map(|number| {
                let own = plan.own_settings.iter().filter(|(replica, ..)| *replica == number);
                let own = own.map(|(_, variable, value)| (variable.clone(), value.clone()));
                let folder = dir.folder(&format!("replica-{number}"));
                fs::write(folder.join("clock"), "+0s").expect("our own folder");
                let clock = plan.clocks.iter().find(|(replica, _)| *replica == number);
                let clock = clock.map(|(_, clock)| clock.clone());
                let environment = environment.iter().cloned().chain(own).collect();
                Replica::start(Launch { number, folder, environment, clock }, program.clone())
            })
            .collect();
        let cluster = Self { balancer, issuer, replicas, admin_password, dir };
        for number in 0..plan.replicas {
            cluster.await_ready(number).await;
        }
        cluster
    }

    /// The proxy in front.
    pub const fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The exact `iss` of all tokens.
    pub fn issuer(&self) -> String {
        self.issuer.clone()
    }

    /// The password of [`ADMIN`] from the bootstrap.
    pub fn admin_password(&self) -> &str {
        &self.admin_password
    }

    /// The replicas, by number.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The folder with the master key and the logs.
    pub fn dir(&self) -> &Workdir {
        &self.dir
    }

    /// A client that goes through the balancer.
    pub fn client(&self) -> Client {
        Client::new(&self.balancer.url())
    }

    /// A client of the admin listener of replica `number`, logged in as [`ADMIN`]. Retries as long as the
    /// service requests it.
    pub async fn admin_at(&self, number: usize) -> Client {
        let tokens = wait::until("the administrator logs in", Duration::from_secs(20), async || {
            let login = self.client().login_for(ADMIN_AUDIENCE, ADMIN, &self.admin_password).await;
            let answer = login.ok()?;
            if let Some(pause) = answer.retry_after() {
                wait::let_pass(pause).await;
                return None;
            }
            assert!(!answer.status.is_client_error(), "{answer}");
            answer.find_tokens()
        })
        .await;
        Client::new(&self.replicas[number].admin_url()).with_bearer(&tokens.access)
    }

    /// Creates `count` users with `permissions` and returns their names; all have [`Cluster::user_password`].
    pub async fn create_users(&self, prefix: &str, count: usize, permissions: &[&str]) -> Vec<String> {
        let admin = self.admin_at(0).await;
        let role = format!("{prefix}-role");
        let put = admin.put_role(&role, permissions).await.expect("an answer");
        assert!(put.status.is_success(), "{put}");
        let mut names = Vec::new();
        for number in 0..count {
            let name = format!("{prefix}-{number}");
            let created = admin.post_user(&name, self.user_password(), &[&role]).await.expect("an answer");
            created.assert_status(StatusCode::CREATED);
            names.push(name);
        }
        names
    }

    /// The password of the users of [`Cluster::create_users`].
    pub fn user_password(&self) -> &'static str {
        "plum-tractor-cobalt-49"
    }

    /// Ends replica `number` with SIGKILL: no destructor runs, connections break.
    pub fn kill(&self, number: usize) {
        self.replicas[number].kill();
    }

    /// Starts replica `number` again after it ended, waits until it is ready, and returns how long that took.
    pub async fn restart(&self, number: usize) -> Duration {
        let start = clock::instant();
        self.replicas[number].start_again(None);
        self.await_ready(number).await;
        start.elapsed()
    }

    /// Stops replica `number` as an orchestrator does, and starts `program` in its place on the same
    /// settings.
    pub async fn replace(&self, number: usize, program: &Path) {
        process::signal(self.replicas[number].id(), Signal::TERM);
        let status = self.replicas[number].ended(Duration::from_secs(40)).await;
        assert!(status.success(), "{status}\n{}", self.replicas[number].log());
        self.replicas[number].start_again(Some(program));
        self.await_ready(number).await;
    }

    /// Waits until each replica logs in and refreshes again.
    pub async fn everything_works_again(&self, user: &str) {
        for number in 0..self.replicas.len() {
            let client = self.client().at_replica(number);
            wait::until(&format!("replica {number} works again"), Duration::from_secs(20), async || {
                let login = client.login(user, self.user_password()).await.ok()?.find_tokens()?;
                client.refresh(&login.refresh).await.ok()?.find_tokens()
            })
            .await;
        }
    }

    /// The replicas use another database when they start again.
    pub fn use_database(&mut self, url: &str) {
        for replica in &mut self.replicas {
            replica.set("AUTH_DATABASE_URL", url);
        }
    }

    /// Suspends replica `number`; its connections stay open.
    pub fn pause(&self, number: usize) {
        process::signal(self.replicas[number].id(), Signal::STOP);
    }

    /// Resumes a paused replica.
    pub fn resume(&self, number: usize) {
        process::signal(self.replicas[number].id(), Signal::CONT);
    }

    /// Asks all replicas to stop; see [`Cluster::stop`].
    pub async fn stop_all(&self) {
        self.stop(0..self.replicas.len()).await;
    }

    /// Asks replicas to stop as an orchestrator does, and waits until they have; each must exit with 0.
    pub async fn stop(&self, numbers: impl IntoIterator<Item = usize>) {
        let replicas: Vec<&Replica> = numbers.into_iter().map(|number| &self.replicas[number]).collect();
        for replica in &replicas {
            process::signal(replica.id(), Signal::TERM);
        }
        for replica in replicas {
            let status = replica.ended(Duration::from_secs(40)).await;
            assert!(status.success(), "{status}\n{}", replica.log());
        }
    }

    /// Starts all replicas together with `program`, after they have ended.
    pub async fn start_all(&self, program: &Path) {
        for replica in &self.replicas {
            replica.start_again(Some(program));
        }
        for number in 0..self.replicas.len() {
            self.await_ready(number).await;
        }
    }

    /// The output of all replicas so far.
    pub fn logs(&self) -> String {
        self.replicas.iter().map(Replica::log).collect()
    }

    /// Waits until the replica is ready, and updates its address at the balancer.
    async fn await_ready(&self, number: usize) {
        let address = self.replicas[number].await_ready().await;
        self.balancer.set_backend(number, address);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for replica in &self.replicas {
            let log = replica.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- last lines of replica {}", replica.number());
            for line in &lines[lines.len().saturating_sub(20)..] {
                eprintln!("{}", line.chars().take(400).collect::<String>());
            }
        }
    }
}
