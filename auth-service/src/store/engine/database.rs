//! The two databases behind one small surface: send a statement, get rows. What they do differently stands here.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Executor as _, Pool, Postgres, Row as _, Sqlite};
use tokio::sync::Notify;
use tokio::time::timeout;
use verifier::{Clock, Seconds, UnixTime};

use super::trust::Trust;
use crate::store::StoreError;

/// Few enough that three replicas fit into PostgreSQL's default of 100 connections, enough to keep a group commit busy.
const POSTGRES_CONNECTIONS: u32 = 16;
/// To listen is a convenience; who waits for it for ever would never try again.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A setting of our own. A pooler that shares its connections to the server among clients drops it, as it does the others.
const DIRECT: &str = "auth_service.direct";
const SQLITE_READERS: u32 = 4;
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connected database.
///
/// In every statement `{now}` stands for the clock that all replicas share, in seconds: the server's on PostgreSQL, the injected one on
/// SQLite. It takes the first parameter, so the arguments of a statement that mentions it count from `$2`. `{changes}` stands for the change
/// counter of the key table, or NULL where nothing can be written; see [`Confirmation`](crate::store::Confirmation).
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pools: Pools,
    trust: Trust,
    clock: Arc<dyn Clock>,
    /// Seconds added to PostgreSQL's clock. Always zero outside tests.
    shift: Arc<AtomicI64>,
    keep_revocations_for: Seconds,
    revoked: Arc<Notify>,
}

#[derive(Clone, Debug)]
enum Pools {
    /// SQLite has one writer at a time; a second writing connection would only wait for the lock.
    Sqlite {
        writer: Pool<Sqlite>,
        readers: Pool<Sqlite>,
    },
    Postgres(Pool<Postgres>),
}

const SQLITE_NOW: &str = "$1";
/// The start of the statement, so that it sees one instant.
const POSTGRES_NOW: &str = "(FLOOR(DATE_PART('epoch', statement_timestamp()))::BIGINT + $1)";
const SQLITE_CHANGES: &str = "(SELECT changes FROM key_ring)";
/// Asked by every statement that confirms something, because a pooler may take each of them to another server.
const POSTGRES_CHANGES: &str =
    "(SELECT changes FROM key_ring WHERE current_setting('transaction_read_only') = 'off')";

/// An argument of a statement. Only two column types exist, which is what lets both databases share all SQL.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    Int(Option<i64>),
    Text(Option<String>),
}

impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}
impl From<Option<i64>> for Argument {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}
impl From<UnixTime> for Argument {
    fn from(value: UnixTime) -> Self {
        Self::Int(Some(value.0))
    }
}
impl From<Option<UnixTime>> for Argument {
    fn from(value: Option<UnixTime>) -> Self {
        Self::Int(value.map(|at| at.0))
    }
}
impl From<String> for Argument {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}
impl From<&str> for Argument {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}
impl From<Option<String>> for Argument {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

/// Arguments of a statement, in the order of its placeholders.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::engine::database::Argument::from($value)),*] };
}
pub(crate) use arguments;

/// A row of an answer.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! column {
    ($self:expr, $index:expr) => {
        match $self {
            Row::Sqlite(row) => row.try_get($index),
            Row::Postgres(row) => row.try_get($index),
        }
        .map_err(StoreError::from)
    };
}

impl Row {
    pub(crate) fn int(&self, index: usize) -> Result<i64, StoreError> {
        column!(self, index)
    }
    pub(crate) fn int_if_any(&self, index: usize) -> Result<Option<i64>, StoreError> {
        column!(self, index)
    }
    pub(crate) fn text(&self, index: usize) -> Result<String, StoreError> {
        column!(self, index)
    }
    pub(crate) fn text_if_any(&self, index: usize) -> Result<Option<String>, StoreError> {
        column!(self, index)
    }
    pub(crate) fn time(&self, index: usize) -> Result<UnixTime, StoreError> {
        self.int(index).map(UnixTime)
    }
    pub(crate) fn time_if_any(&self, index: usize) -> Result<Option<UnixTime>, StoreError> {
        Ok(self.int_if_any(index)?.map(UnixTime))
    }
}

macro_rules! fetch {
    ($connection:expr, $sql:expr, $arguments:expr, $kind:path) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql));
        for argument in $arguments {
            query = match argument {
                Argument::Int(value) => query.bind(value),
                Argument::Text(value) => query.bind(value),
            };
        }
        query
            .fetch_all($connection)
            .await
            .map(|rows| rows.into_iter().map($kind).collect())
            .map_err(StoreError::from)
    }};
}

impl Database {
    /// Opens the file, creating it if it is missing.
    pub(crate) async fn open_sqlite(
        path: &Path,
        clock: Arc<dyn Clock>,
        keep_revocations_for: Seconds,
    ) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged logout or rotation must survive a power loss.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(SQLITE_BUSY_TIMEOUT);
        // What waits for a disk is not given up: another connection would wait for the same disk.
        let trust = Trust::new(0);
        let pool = trust.pool::<Sqlite>().idle_timeout(None);
        let writer = pool.clone().max_connections(1).connect_with(options.clone()).await?;
        let readers = trust.pool().max_connections(SQLITE_READERS).connect_lazy_with(options);
        Ok(Self::new(Pools::Sqlite { writer, readers }, trust, clock, keep_revocations_for))
    }

    /// Opens a file that must exist, and never writes to it. One connection only: so what it sees of others is told by one counter.
    pub(crate) async fn open_sqlite_to_read(
        path: &Path,
        clock: Arc<dyn Clock>,
        keep_revocations_for: Seconds,
    ) -> Result<Self, StoreError> {
        let options =
            SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(SQLITE_BUSY_TIMEOUT);
        let trust = Trust::new(0);
        let only = trust.pool::<Sqlite>().max_connections(1).idle_timeout(None).max_lifetime(None);
        let only = only.connect_with(options).await?;
        let pools = Pools::Sqlite { writer: only.clone(), readers: only };
        Ok(Self::new(pools, trust, clock, keep_revocations_for))
    }

    /// Connects to a server.
    pub(crate) async fn connect_postgres(
        url: &str,
        clock: Arc<dyn Clock>,
        keep_revocations_for: Seconds,
    ) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("auth-service").options([
            // The back stop in the server; the deadline of a request is shorter.
            ("statement_timeout", "5s"),
            // Every statement finds its rows by key: to plan it anew for each set of arguments costs more than to run it.
            ("plan_cache_mode", "force_generic_plan"),
            // The server closes connections of replicas that vanished without a word: each outage of the network would leave as many
            // as a pool has.
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_keepalives_count", "3"),
            (DIRECT, "on"),
        ]);
        let trust = Trust::new(POSTGRES_CONNECTIONS);
        let connections = trust.pool().max_connections(POSTGRES_CONNECTIONS).connect_with(options).await?;
        Ok(Self::new(Pools::Postgres(connections), trust, clock, keep_revocations_for))
    }

    fn new(pools: Pools, trust: Trust, clock: Arc<dyn Clock>, keep_revocations_for: Seconds) -> Self {
        Self { pools, trust, clock, shift: Arc::default(), keep_revocations_for, revoked: Arc::default() }
    }

    /// Moves PostgreSQL's clock as seen by this store, as a manual clock moves SQLite's.
    #[cfg(feature = "test-util")]
    pub(crate) fn shift_server_clock(&self, seconds: i64) {
        self.shift.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.pools, Pools::Postgres(_))
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Is notified after each commit of a transaction that revoked something.
    pub(crate) fn revoked(&self) -> &Arc<Notify> {
        &self.revoked
    }

    /// Listens to a channel of PostgreSQL on a connection of its own, which the pool never lends. `None` on SQLite, and through a pooler
    /// that has no connection for us alone: what it heard would go to whoever is using that connection.
    pub(crate) async fn listen(&self, channel: &str) -> Option<Result<PgListener, StoreError>> {
        let Pools::Postgres(pool) = &self.pools else { return None };
        let options = PgConnectOptions::clone(&pool.connect_options());
        let own = self.trust.pool::<Postgres>().max_connections(1).connect_lazy_with(options);
        let listening = async {
            let mut listener = PgListener::connect_with(&own).await?;
            let direct = format!("SELECT 1 WHERE current_setting('{DIRECT}', TRUE) = 'on'");
            if listener.fetch_optional(AssertSqlSafe(direct)).await?.is_none() {
                return Ok(None);
            }
            listener.listen(channel).await?;
            Ok(Some(listener))
        };
        timeout(LISTEN_TIMEOUT, listening).await.unwrap_or(Err(StoreError::Timeout)).transpose()
    }

    /// Runs `operation` to its end even if the caller leaves; see [`Trust::detached`].
    pub(in crate::store) async fn detached<T: Send + 'static>(
        &self,
        deadline: Duration,
        is_seen_through: bool,
        operation: Pin<Box<impl Future<Output = Result<T, StoreError>> + Send + 'static>>,
    ) -> Result<T, StoreError> {
        self.trust.detached(deadline, is_seen_through, operation).await
    }

    /// The server has become a standby, and all connections were opened to the same one.
    pub(in crate::store) fn leave_read_only_server(&self) {
        self.trust.withdraw();
    }

    /// How many connections are idle, and how many are lent.
    pub(crate) fn connections(&self) -> (usize, usize) {
        let count = |size: u32, idle: usize| (idle, (size as usize).saturating_sub(idle));
        match &self.pools {
            Pools::Sqlite { writer, readers } => {
                count(writer.size() + readers.size(), writer.num_idle() + readers.num_idle())
            }
            Pools::Postgres(pool) => count(pool.size(), pool.num_idle()),
        }
    }

    /// Waits until every connection is returned, and closes them.
    pub(crate) async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// Runs a statement that only reads.
    pub(crate) async fn read(&self, sql: &str, arguments: Vec<Argument>) -> Result<Vec<Row>, StoreError> {
        let mut lease = match &self.pools {
            Pools::Sqlite { readers, .. } => Lease::of(Connection::Sqlite(readers.acquire().await?)),
            Pools::Postgres(pool) => Lease::of(Connection::Postgres(pool.acquire().await?)),
        };
        lease.once(self.prepare(sql, arguments)).await
    }

    /// Runs one statement that writes, as a transaction of its own.
    pub(crate) async fn write(&self, sql: &str, arguments: Vec<Argument>) -> Result<Vec<Row>, StoreError> {
        self.lease_writer().await?.once(self.prepare(sql, arguments)).await
    }

    /// Starts a transaction that may write. Dropped without [`commit`](Transaction::commit), it leaves no trace.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        let mut lease = self.lease_writer().await?;
        lease
            .command(match self.pools {
                // A transaction that reads first and writes later could fail at once with "database is locked".
                Pools::Sqlite { .. } => "BEGIN IMMEDIATE",
                // A paused replica must not commit an old decision later (rule K5).
                Pools::Postgres(_) => "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'",
            })
            .await?;
        Ok(Transaction { lease, database: self.clone(), has_revoked: false })
    }

    /// Starts a transaction that only reads, and sees one state of the database throughout.
    pub(crate) async fn snapshot(&self) -> Result<Transaction, StoreError> {
        let mut lease = self.lease_writer().await?;
        lease.command("BEGIN").await?;
        Ok(Transaction { lease, database: self.clone(), has_revoked: false })
    }

    async fn lease_writer(&self) -> Result<Lease, StoreError> {
        Ok(match &self.pools {
            Pools::Sqlite { writer, .. } => Lease::of(Connection::Sqlite(writer.acquire().await?)),
            Pools::Postgres(pool) => Lease::of(Connection::Postgres(pool.acquire().await?)),
        })
    }

    fn prepare(&self, sql: &str, mut arguments: Vec<Argument>) -> (String, Vec<Argument>) {
        let sql =
            sql.replace("{changes}", if self.is_postgres() { POSTGRES_CHANGES } else { SQLITE_CHANGES });
        if !sql.contains("{now}") {
            return (sql, arguments);
        }
        let (now, argument) = match self.pools {
            Pools::Sqlite { .. } => (SQLITE_NOW, self.clock.now().0),
            Pools::Postgres(_) => (POSTGRES_NOW, self.shift.load(Ordering::SeqCst)),
        };
        arguments.insert(0, Argument::from(argument));
        (sql.replace("{now}", now), arguments)
    }
}

/// A transaction; see [`Database::begin`].
pub(crate) struct Transaction {
    lease: Lease,
    database: Database,
    has_revoked: bool,
}

impl Transaction {
    /// Runs one statement of the transaction.
    pub(crate) async fn fetch(
        &mut self,
        sql: &str,
        arguments: Vec<Argument>,
    ) -> Result<Vec<Row>, StoreError> {
        let prepared = self.database.prepare(sql, arguments);
        self.lease.fetch(prepared).await
    }

    /// The first row of a statement's answer, if any.
    pub(crate) async fn first(
        &mut self,
        sql: &str,
        arguments: Vec<Argument>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch(sql, arguments).await?.into_iter().next())
    }

    /// Runs statements without arguments, as a migration holds them.
    pub(crate) async fn command(&mut self, sql: &str) -> Result<(), StoreError> {
        self.lease.command(sql).await
    }

    /// How long the end of a session is remembered.
    pub(crate) fn keep_revocations_for(&self) -> Seconds {
        self.database.keep_revocations_for
    }

    /// Makes the commit tell those who wait for revocations, here and on PostgreSQL at the other replicas. A hint: who misses it
    /// reads a little later.
    pub(crate) async fn nudge(&mut self, channel: &str) -> Result<(), StoreError> {
        if self.database.is_postgres() && !self.has_revoked {
            self.fetch("SELECT pg_notify($1, '')::TEXT", arguments![channel]).await?;
        }
        self.has_revoked = true;
        Ok(())
    }

    /// Makes the transaction permanent. After an error the outcome is unknown.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        self.lease.command("COMMIT").await?;
        self.lease.give_back();
        if self.has_revoked {
            self.database.revoked.notify_one();
        }
        Ok(())
    }

    /// Undoes the transaction and keeps the connection.
    pub(crate) async fn rollback(mut self) -> Result<(), StoreError> {
        self.lease.command("ROLLBACK").await?;
        self.lease.give_back();
        Ok(())
    }
}

/// A connection in use. Unless it is given back it is closed, because nobody knows in which state it is.
struct Lease {
    connection: Option<Connection>,
}

enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Lease {
    fn of(connection: Connection) -> Self {
        Self { connection: Some(connection) }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a lease is used before it is given back")
    }

    async fn fetch(&mut self, (sql, arguments): (String, Vec<Argument>)) -> Result<Vec<Row>, StoreError> {
        match self.connection() {
            Connection::Sqlite(connection) => fetch!(&mut **connection, sql, arguments, Row::Sqlite),
            Connection::Postgres(connection) => fetch!(&mut **connection, sql, arguments, Row::Postgres),
        }
    }

    async fn once(&mut self, prepared: (String, Vec<Argument>)) -> Result<Vec<Row>, StoreError> {
        let answer = self.fetch(prepared).await;
        // A statement that the server refused leaves the connection usable; a broken connection does not.
        if answer.as_ref().map_or_else(StoreError::is_refusal, |_| true) {
            self.give_back();
        }
        answer
    }

    async fn command(&mut self, sql: &str) -> Result<(), StoreError> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self.connection() {
            Connection::Sqlite(connection) => statement.execute(&mut **connection).await.map(drop)?,
            Connection::Postgres(connection) => statement.execute(&mut **connection).await.map(drop)?,
        }
        Ok(())
    }

    fn give_back(&mut self) {
        self.connection = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &mut self.connection {
            Some(Connection::Sqlite(connection)) => connection.close_on_drop(),
            Some(Connection::Postgres(connection)) => connection.close_on_drop(),
            None => {}
        }
    }
}
