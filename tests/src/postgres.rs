//! A private database server in a temporary folder, on a free port, removed after the test.
//!
//! It is durable as in production (`fsync` stays on), listens on loopback and in its own folder, requires a
//! password, and gives each test its own database that belongs to an ordinary role. Works as root, too: the
//! server then runs as `postgres` or `nobody`.

mod binaries;
mod proxies;
mod server;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use binaries::Binaries;
pub use proxies::{Haproxy, Pgbouncer};
use server::Server;
pub use server::Stop;

use crate::random::Random;
use crate::wait;
use crate::workdir::Workdir;

const SUPERUSER: &str = "postgres";
const OWNER: &str = "auth";
const STANDBY: &str = "standby";

/// One server. Dropping it ends the server and removes its data.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    binaries: Binaries,
    password: String,
    databases: AtomicU32,
    // Last, so that it is removed after the server ended.
    dir: Workdir,
}

impl Postgres {
    /// Creates and starts a new server.
    pub fn start() -> Self {
        let postgres = Self::start_without_role();
        postgres.query("postgres", &format!("CREATE ROLE {OWNER} LOGIN PASSWORD '{}'", postgres.password));
        postgres
    }

    /// The same without the role of the service, which the caller creates.
    pub fn start_without_role() -> Self {
        let binaries = Binaries::find();
        let dir = Workdir::new();
        binaries.give(dir.path());
        let password = Random::fresh().word(20);
        let data = init(&binaries, &dir, &password);
        let server = (0..5)
            .find_map(|_| Server::start(&binaries, data.clone(), free_port()))
            .unwrap_or_else(|| panic!("PostgreSQL does not start: {}", read(&data.with_extension("log"))));
        Self { server, binaries, password, databases: AtomicU32::new(0), dir }
    }

    /// The server that all tests of this process share. Do not stop or freeze it: start your own for that.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A new, empty database that sorts text by bytes.
    pub fn create_database(&self) -> Database<'_> {
        self.create("")
    }

    /// A new, empty database that sorts text linguistically, like most servers.
    pub fn create_database_in_english(&self) -> Database<'_> {
        self.create("TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    }

    fn create(&self, options: &str) -> Database<'_> {
        let name = format!("auth_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.query("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER} {options}"));
        Database { postgres: self, name }
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.server.port()
    }

    /// The environment in which `psql` connects as the superuser.
    pub fn administrator(&self) -> [(String, String); 5] {
        let port = self.port().to_string();
        let values = [
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", &port),
            ("PGUSER", SUPERUSER),
            ("PGPASSWORD", &self.password),
            ("PGDATABASE", "postgres"),
        ];
        values.map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// Ends the server.
    pub fn stop(&self, how: Stop) {
        self.server.stop(how);
    }

    /// Starts it again on the same data and port, and waits until it accepts connections.
    pub fn start_again(&self) {
        assert!(self.server.start_again(), "PostgreSQL does not start again: {}", read(&self.server.log()));
    }

    /// The parent of all other processes of the server.
    pub fn process_id(&self) -> u32 {
        self.server.id()
    }

    /// Suspends every process of the server with SIGSTOP: connections stay open without responses.
    pub fn freeze(&self) {
        self.server.freeze();
    }

    /// Undoes [`Postgres::freeze`].
    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// Starts a standby, and makes every commit of this server wait for it from now on.
    pub fn start_synchronous_standby(&self) -> Standby {
        let data = self.dir.path().join(STANDBY);
        succeeded(
            self.binaries
                .server("pg_basebackup", self.dir.path())
                .args(["-h", "127.0.0.1", "-p", &self.server.port().to_string(), "-U", SUPERUSER, "-w"])
                .args(["-X", "stream", "-c", "fast", "-R", "-D"])
                .arg(&data)
                .env("PGPASSWORD", &self.password),
        );
        let settings = data.join("postgresql.auto.conf");
        let text = format!(
            "{}primary_conninfo = 'host=127.0.0.1 port={} user={SUPERUSER} password={} application_name={STANDBY}'\n",
            read(&settings),
            self.server.port(),
            self.password,
        );
        fs::write(&settings, text).expect("the settings of the standby");
        let server = (0..5)
            .find_map(|_| Server::start(&self.binaries, data.clone(), free_port()))
            .unwrap_or_else(|| panic!("the standby does not start: {}", read(&data.with_extension("log"))));
        self.query("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'"));
        self.query("postgres", "SELECT pg_reload_conf()");
        wait::until_blocking("the standby is synchronous", Duration::from_secs(20), || {
            let state = self.query("postgres", "SELECT sync_state FROM pg_stat_replication");
            (state.trim() == "sync").then_some(())
        });
        Standby { server }
    }

    /// Promotes the standby, as an operator does when the primary is lost, and waits until it accepts writes.
    pub fn promote(&self, standby: &Standby) {
        self.query_at(standby.port(), "postgres", "SELECT pg_promote(true, 30)");
    }

    /// Runs one statement as superuser and returns its rows, fields separated by `|`.
    fn query(&self, database: &str, sql: &str) -> String {
        self.query_at(self.server.port(), database, sql)
    }

    fn query_at(&self, port: u16, database: &str, sql: &str) -> String {
        let mut psql = self.client("psql", port, database);
        succeeded(psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    fn client(&self, program: &str, port: u16, database: &str) -> Command {
        let mut command = self.binaries.client(program);
        command
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", SUPERUSER, "-w", "-d", database])
            .env("PGPASSWORD", &self.password);
        command
    }
}

/// A database of its own for one test.
#[derive(Clone, Debug)]
pub struct Database<'a> {
    postgres: &'a Postgres,
    name: String,
}

impl Database<'_> {
    /// `postgres://auth:…@127.0.0.1:…/…`, for the role that owns the database.
    pub fn url(&self) -> String {
        self.url_at(self.postgres.server.port())
    }

    /// The same for the port of a proxy or pooler.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{OWNER}:{}@127.0.0.1:{port}/{}", self.postgres.password, self.name)
    }

    /// The port of the server itself.
    pub fn port(&self) -> u16 {
        self.postgres.server.port()
    }

    /// The password inside [`Database::url`], which must never show up anywhere else.
    pub fn password(&self) -> &str {
        &self.postgres.password
    }

    /// Runs one statement as superuser and returns its rows, fields separated by `|`.
    pub fn query(&self, sql: &str) -> String {
        self.postgres.query(&self.name, sql)
    }

    /// All rows of all tables as sorted INSERT statements, but for the tables whose name contains a word of
    /// `without`.
    pub fn dump(&self, without: &[&str]) -> String {
        let mut dump = self.postgres.client("pg_dump", self.port(), &self.name);
        dump.args(["--data-only", "--inserts", "--no-owner"]);
        for word in without {
            dump.arg(format!("--exclude-table=*{word}*"));
        }
        let text = succeeded(&mut dump);
        let mut rows: Vec<&str> = text.lines().filter(|line| line.starts_with("INSERT")).collect();
        rows.sort_unstable();
        rows.join("\n")
    }
}

/// A second server that every commit waits for.
#[derive(Debug)]
pub struct Standby {
    server: Server,
}

impl Standby {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Stops every process of the standby, so that commits on the primary wait forever.
    pub fn stall(&self) {
        self.server.freeze();
    }

    /// Undoes [`Standby::stall`].
    pub fn resume(&self) {
        self.server.thaw();
    }
}

/// Creates the data folder, with password authentication for all connections.
fn init(binaries: &Binaries, dir: &Workdir, password: &str) -> std::path::PathBuf {
    let data = dir.path().join("primary");
    let secret = dir.path().join("password");
    fs::write(&secret, password).expect("a file for the password");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("our own file");
    binaries.give(&secret);
    succeeded(
        binaries
            .server("initdb", dir.path())
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "-U", SUPERUSER])
            .arg("--pwfile")
            .arg(&secret)
            .arg("-D")
            .arg(&data),
    );
    data
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    probe.local_addr().expect("it is bound").port()
}

/// Runs `command` and returns its output, or panics with its error output.
fn succeeded(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let name = command.get_program().to_string_lossy().into_owned();
    assert!(status.success(), "{name}: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

fn read(path: &std::path::Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
