//! An installation in a folder of its own, and the program run as a process there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use auth_service::config::{Config, Loaded};
use auth_service::entropy::SystemEntropy;
use auth_service::flows::{self, LoginError, TokenPair, heartbeat};
use auth_service::runtime::app::App;
use auth_service::runtime::telemetry::Metrics;
use auth_service::store::StoreError;
use auth_service::{boot, http, jobs};
use e2e::postgres::{Database, Postgres};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use verifier::SystemClock;

pub(crate) const ADMIN_PASSWORD: &str = "plum-tractor-cobalt-49";
pub(crate) const PASSWORD: &str = "seven-violet-harbour-kites";
/// 32 bytes in base64.
pub(crate) const MASTER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n";
/// Who runs the commands.
pub(crate) const PERSON: &str = "tester";

/// Runs each case on both databases.
macro_rules! on_both_databases {
    ($($topic:ident::$case:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $case() {
                super::$topic::$case(super::site::Kind::Sqlite);
            })*
        }
        mod postgres {
            $(#[test]
            #[ignore = "needs PostgreSQL: ./test runs it"]
            fn $case() {
                super::$topic::$case(super::site::Kind::Postgres);
            })*
        }
    };
}
pub(crate) use on_both_databases;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// A folder, and the environment of the commands that run in it.
pub(crate) struct Site {
    /// Before the folder, so that it stops first.
    service: Option<Service>,
    folder: TempDir,
    environment: BTreeMap<&'static str, String>,
    database: Option<Database<'static>>,
}

/// A replica in this process whose loops are quick.
struct Service {
    runtime: Runtime,
    app: App,
    public: SocketAddr,
}

/// What a process printed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Site {
    /// A database URL and a master key file, but no database. PostgreSQL has an empty one.
    pub(crate) fn empty(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = (kind == Kind::Postgres).then(|| Postgres::shared().create_database());
        let url = database.as_ref().map_or_else(|| "sqlite://data/auth.db".to_owned(), Database::url);
        let environment = BTreeMap::from([
            ("LOGNAME", PERSON.to_owned()),
            ("AUTH_DATABASE_URL", url),
            ("AUTH_MASTER_KEY_FILE", "master.key".to_owned()),
        ]);
        let site = Self { service: None, folder, environment, database };
        boot::files::write_secret(&site.path("master.key"), MASTER_KEY.as_bytes()).unwrap();
        site
    }

    /// With a replica that is ready, at the URL that the issuer names.
    pub(crate) fn started(kind: Kind) -> Self {
        Self::started_with(kind, |_| {})
    }

    /// The same with a changed configuration.
    pub(crate) fn started_with(kind: Kind, change: impl FnOnce(&mut Config)) -> Self {
        let mut site = Self::empty(kind);
        let url = match &site.database {
            Some(database) => database.url(),
            None => format!("sqlite://{}", site.path("data/auth.db").display()),
        };
        let mut config = Config {
            database_url: url.into(),
            master_key_file: Some(site.path("master.key")),
            bootstrap_admin_password: Some(ADMIN_PASSWORD.into()),
            hash_memory_kib: 64,
            hash_iterations: 1,
            ..Config::default()
        };
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let service = Service::start(runtime.unwrap(), config);
        site.set("AUTH_ISSUER", format!("http://{}", service.public));
        site.set("AUTH_PUBLIC_ADDR", service.public.to_string());
        site.service = Some(service);
        site
    }

    /// Sets an environment variable of the commands.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.insert(name, value.into());
    }

    /// Removes an environment variable of the commands.
    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.remove(name).expect("it was set");
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names of everything in the folder, hidden files too.
    pub(crate) fn content(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A program in the folder, with the environment of the commands and nothing else.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder()).env_clear().envs(&self.environment);
        command
    }

    /// Runs `auth-service` with these words, separated by spaces.
    pub(crate) fn run(&self, words: &str) -> Outcome {
        self.feed(words, "")
    }

    /// The same with an input.
    pub(crate) fn feed(&self, words: &str, input: impl AsRef<[u8]>) -> Outcome {
        let mut command = self.program(env!("CARGO_BIN_EXE_auth-service"));
        run(command.args(words.split_whitespace()), input)
    }

    /// Runs a command that must succeed, and returns its output.
    #[track_caller]
    pub(crate) fn done(&self, words: &str) -> String {
        let outcome = self.run(words);
        assert_eq!(outcome.code, Some(0), "{words}: {}", outcome.err);
        outcome.out
    }

    /// The same for a command that reads a password.
    #[track_caller]
    pub(crate) fn done_with_password(&self, words: &str) -> String {
        let outcome = self.feed(words, format!("{PASSWORD}\n"));
        assert_eq!(outcome.code, Some(0), "{words}: {}", outcome.err);
        outcome.out
    }

    /// Runs a command with `--json`, and returns what it prints. It must succeed; `doctor` may find something.
    #[track_caller]
    pub(crate) fn objects(&self, words: &str) -> Vec<Value> {
        let outcome = self.run(&format!("{words} --json"));
        assert!(outcome.code == Some(0) || words == "doctor", "{words}: {}", outcome.err);
        outcome.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("it was started")
    }

    /// The address of the public listener.
    pub(crate) fn public(&self) -> SocketAddr {
        self.service().public
    }

    /// Stops the replica and closes its database, without a farewell to the list of replicas.
    pub(crate) fn stop(&mut self) {
        let Service { runtime, app, .. } = self.service.take().expect("it was started");
        runtime.block_on(app.store.close());
    }

    /// Logs in. Returns the access token and the session's id.
    pub(crate) fn login(&self, username: &str, password: &str) -> (String, String) {
        let tokens = self.try_to_login(username, password).unwrap();
        (tokens.access_token.expose_secret().to_owned(), tokens.session_id)
    }

    /// Tries to log in with a wrong password.
    pub(crate) fn fail_to_login(&self, username: &str) {
        self.try_to_login(username, "wrong").unwrap_err();
    }

    pub(crate) fn try_to_login(&self, username: &str, password: &str) -> Result<TokenPair, LoginError> {
        let Service { runtime, app, .. } = self.service();
        let request = json!({ "username": username, "password": password });
        runtime.block_on(flows::login(app, serde_json::from_value(request).unwrap()))
    }

    /// Executes SQL without the service.
    pub(crate) fn execute(&self, sql: &'static str) {
        if let Some(database) = &self.database {
            drop(database.query(sql));
            return;
        }
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path("data/auth.db"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    /// Rows of PostgreSQL, fields separated by `|`.
    pub(crate) fn query(&self, sql: &str) -> String {
        self.database.as_ref().expect("PostgreSQL").query(sql)
    }

    /// The password in the database's URL, which no command may print.
    pub(crate) fn database_password(&self) -> Option<&str> {
        self.database.as_ref().map(Database::password)
    }
}

impl Service {
    fn start(runtime: Runtime, mut config: Config) -> Self {
        let (app, public) = runtime.block_on(async {
            let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (public, admin) = (listen().await, listen().await);
            config.public_addr = public.local_addr().unwrap();
            config.admin_addr = admin.local_addr().unwrap();
            config.issuer = format!("http://{}", config.public_addr);
            let address = config.public_addr;
            let loaded = Loaded { config, ..Loaded::default() };
            let clock = Arc::new(SystemClock::new());
            let app = boot::start(loaded, clock, Arc::new(SystemEntropy::new())).await.unwrap();
            boot::bootstrap(&app).await.unwrap();
            app.feed.poll().await.unwrap();
            tokio::spawn(http::server::serve(public, http::public(app.clone()), std::future::pending()));
            let routes = http::admin(app.clone(), Metrics::detached());
            tokio::spawn(http::server::serve(admin, routes, std::future::pending()));
            tokio::spawn(jobs::feed::run(app.feed.clone(), app.store.clone()));
            tokio::spawn(jobs::settings::run(app.settings.clone(), app.store.clone()));
            beat(&app).await.unwrap();
            tokio::spawn(keep_beating(app.clone()));
            (app, address)
        });
        Self { runtime, app, public }
    }
}

/// The loops for keys and the list of replicas, without the seconds in between.
async fn keep_beating(app: App) {
    loop {
        // A failure is repeated.
        drop(beat(&app).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn beat(app: &App) -> Result<(), StoreError> {
    let seen = app.store.confirmation().await?;
    drop(app.keyring.catch_up(&app.store, &seen).await);
    heartbeat::beat(app).await
}

/// The name of this machine, as the service sees it.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: impl AsRef<[u8]>) -> Outcome {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses its arguments does not read its input.
    drop(child.stdin.take().unwrap().write_all(input.as_ref()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
