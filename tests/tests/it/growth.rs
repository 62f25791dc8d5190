//! An installation moves from SQLite to PostgreSQL: users, sessions and keys survive.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use e2e::checkers::{self, Bounds};
use e2e::client::Client;
use e2e::cluster::{Cluster, Plan, service};
use e2e::jwt::Peek;
use e2e::ledger::Ledger;
use e2e::postgres::{Database, Postgres};
use e2e::process;
use e2e::session::{Refreshed, Session};
use e2e::wait;
use e2e::workdir::Workdir;
use http::StatusCode;
use sqlx::{Connection as _, Row as _, SqliteConnection};

const TIMEOUT: Duration = Duration::from_mins(1);
const SESSIONS: usize = 30_000;
const COPIED: [&str; 11] = [
    "users",
    "roles",
    "user_roles",
    "installation",
    "login_failures",
    "sessions",
    "key_ring",
    "keys",
    "audit",
    "revocations",
    "settings",
];

#[tokio::test(flavor = "multi_thread")]
async fn installation_moves_from_sqlite_to_postgresql_unnoticed_by_clients() {
    let folder = Workdir::new();
    let file = folder.path().join("auth.db");
    let mut cluster = Cluster::start(Plan::new(1, format!("sqlite://{}", file.display()))).await;
    let (ledger, users) = (Arc::new(Ledger::default()), cluster.create_users("old", 3, &["ping"]).await);
    let mut sessions = Vec::new();
    for user in users.iter().cycle().take(6) {
        let mut session = Session::log_in(&cluster.client(), &ledger, user, cluster.user_password()).await;
        assert!(matches!(session.refresh().await, Refreshed::Done));
        sessions.push(session);
    }
    let ended = Session::log_in(&cluster.client(), &ledger, &users[0], cluster.user_password()).await;
    cluster
        .client()
        .logout(&ended.tokens().refresh)
        .await
        .expect("an answer")
        .assert_status(StatusCode::NO_CONTENT);
    let refused = cluster.client().login(&users[0], "not-the-password").await.expect("an answer");
    refused.assert_status(StatusCode::UNAUTHORIZED);
    let (access, keys) = (sessions[0].tokens().access.clone(), key_names(&cluster.client()).await);
    assert!(keys.contains(&Peek::into(&access).kid));
    fill(&file).await;

    let database = Postgres::shared().create_database();
    let copy = Copy { file: file.clone(), to: database.url(), folder: folder.path().to_owned() };
    let refusal = copy.fails();
    assert!(refusal.contains(&format!("is open in process {}", cluster.replicas()[0].id())), "{refusal}");
    cluster.stop_all().await;

    let mut interrupted = copy.spawn();
    let reached = wait::until_blocking("some sessions are copied", TIMEOUT, || {
        let count: usize = database
            .query("SELECT CASE WHEN to_regclass('sessions') IS NULL THEN 0 ELSE 1 END")
            .trim()
            .parse()
            .ok()?;
        let copied: usize = if count == 0 { 0 } else { rows(&database, "sessions") };
        (copied > 0).then_some(copied)
    });
    process::end(&mut interrupted);
    assert!(reached < SESSIONS && rows(&database, "sessions") < SESSIONS, "it was killed half-way");
    let unfinished = serve(&database.url(), &cluster);
    assert!(unfinished.contains("an unfinished copy"), "{unfinished}");

    let output = copy.succeeds();
    assert!(output.contains("rows are already copied"), "it went on where it was: {output}");
    assert!(output.lines().any(|line| line.starts_with("sessions ") && line.contains(" 30008 ")), "{output}");
    for table in COPIED {
        assert_eq!(in_sqlite(&file, table).await, in_postgres(&database, table), "{table}");
    }
    let refusal = copy.fails();
    assert!(refusal.contains("already holds data"), "{refusal}");

    cluster.use_database(&database.url());
    cluster.restart(0).await;
    let client = cluster.client();
    assert_eq!(key_names(&client).await, keys);
    client.with_bearer(&access).me().await.expect("an answer").assert_status(StatusCode::OK);
    for session in &mut sessions {
        assert!(matches!(session.refresh().await, Refreshed::Done));
        assert!(keys.contains(&Peek::into(&session.tokens().access).kid));
    }
    let lost = client.refresh(&ended.tokens().refresh).await.expect("an answer");
    lost.assert_status(StatusCode::UNAUTHORIZED);
    cluster.admin_at(0).await.keys().await.expect("an answer").assert_status(StatusCode::OK);
    client.login(&users[2], cluster.user_password()).await.expect("an answer").tokens();
    let broken = "SELECT COUNT(*) FROM audit a LEFT JOIN audit b ON b.chain = a.chain AND b.seq = a.seq - 1
                   WHERE a.prev <> COALESCE(b.hash, '')";
    assert_eq!(database.query(broken).trim(), "0", "every audit chain hangs together");
    checkers::assert_hold(&ledger.entries(), &Bounds::default());
}

struct Copy {
    file: PathBuf,
    to: String,
    folder: PathBuf,
}

impl Copy {
    fn command(&self) -> Command {
        let mut command = Command::new(service());
        command.args(["copy", "--from", &format!("sqlite://{}", self.file.display()), "--to", &self.to]);
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn spawn(&self) -> Child {
        self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("auth-service starts")
    }

    fn succeeds(&self) -> String {
        let output = self.command().output().expect("auth-service starts");
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    fn fails(&self) -> String {
        let output = self.command().output().expect("auth-service starts");
        assert!(!output.status.success(), "{}", text(&output));
        text(&output)
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream)).concat()
}

/// The error of a replica that is started too early.
fn serve(database: &str, cluster: &Cluster) -> String {
    let mut command = Command::new(service());
    command
        .args(["serve"])
        .env("AUTH_DATABASE_URL", database)
        .env("AUTH_MASTER_KEY_FILE", cluster.dir().path().join("master.key"))
        .envs([("AUTH_PUBLIC_ADDR", "127.0.0.1:0"), ("AUTH_ADMIN_ADDR", "127.0.0.1:0")])
        .current_dir(cluster.dir().path());
    let output = command.output().expect("auth-service starts");
    assert!(!output.status.success(), "{}", text(&output));
    text(&output)
}

async fn key_names(client: &Client) -> Vec<String> {
    let keys = client.jwks().await.expect("an answer").json();
    let names = keys["keys"].as_array().expect("a list").iter();
    names.map(|key| key["kid"].as_str().expect("a name").to_owned()).collect()
}

/// Thousands of users and sessions, as after years, with unordered ids.
async fn fill(file: &Path) {
    let mut connection = open(file).await;
    let sql = format!(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {SESSIONS})
         INSERT INTO users (id, username, password_hash, credential_version, claims, created_at)
         SELECT lower(hex(randomblob(16))), 'Bulk-' || n, NULL, 0, '{{\"n\":\"ü|' || n || '\"}}', 1700000000 + n
           FROM n WHERE n <= {SESSIONS} / 10;
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {SESSIONS})
         INSERT INTO sessions (id, user_id, client_id, audience, scope, accepted, floor, generation, mac_key_id, refreshed_at,
                               auth_time, created_at, idle_expires_at, expires_at, user_agent, address)
         SELECT lower(hex(randomblob(16))), (SELECT id FROM users WHERE username = 'Bulk-' || (1 + n % ({SESSIONS} / 10))),
                'first-party', 'api', CASE WHEN n % 2 = 0 THEN 'ping' END, n, n, n + 1, 1, 1700000000 + n, 1700000000, 1700000000,
                2000000000, 2000000000, 'bulk/' || n, '192.0.2.' || (n % 255)
           FROM n"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("rows");
    connection.close().await.expect("the file is closed");
}

async fn open(file: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.expect("our own file")
}

fn rows(database: &Database<'_>, table: &str) -> usize {
    database.query(&format!("SELECT COUNT(*) FROM {table}")).trim().parse().expect("a number")
}

/// All rows of a table as lines, sorted, as `psql` prints them.
async fn in_sqlite(file: &Path, table: &str) -> Vec<String> {
    let mut connection = open(file).await;
    let columns = sqlx::query("SELECT name FROM pragma_table_info($1) ORDER BY cid").bind(table.to_owned());
    let columns = columns.fetch_all(&mut connection).await.expect("its columns");
    let texts: Vec<String> =
        columns.iter().map(|row| format!("COALESCE({}, '')", row.get::<String, _>(0))).collect();
    let sql = format!("SELECT {} || '' FROM {table}", texts.join(" || '|' || "));
    let found = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.expect("its rows");
    connection.close().await.expect("the file is closed");
    sorted(found.iter().map(|row| row.get(0)).collect())
}

fn in_postgres(database: &Database<'_>, table: &str) -> Vec<String> {
    sorted(database.query(&format!("SELECT * FROM {table}")).lines().map(str::to_owned).collect())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}
