//! The two databases behind one small interface: send a statement, get rows. What they do differently is here.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Executor as _, Pool, Postgres, Sqlite};
use tokio::sync::Notify;
use tokio::time::timeout;
use verifier::{Clock, Seconds, UnixTime};

use super::connection::{Connection, Lease, Statement};
use super::health::ConnectionHealth;
use super::row::{Argument, Row, arguments, only};
use crate::store::StoreError;

/// Few enough that three replicas fit into PostgreSQL's default of 100 connections, enough to keep a group commit busy.
const POSTGRES_CONNECTIONS: u32 = 16;
/// Without a limit a server that hangs would keep us from trying again.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A setting of our own. A pooler that shares its connections among clients drops it, like any other setting.
const DIRECT: &str = "auth_service.direct";
const SQLITE_READERS: u32 = 4;
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connected database.
///
/// In every statement `{now}` stands for the clock that all replicas share, in seconds: the server's on PostgreSQL, the injected one on
/// SQLite. It takes the first parameter, so the arguments of a statement that mentions it count from `$2`. `{keys_version}` stands for
/// the version of the key table, or NULL on a server that accepts no writes; see [`Confirmation`](crate::store::Confirmation).
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pools: Pools,
    health: ConnectionHealth,
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
/// The column keeps the name that it had in the release before, which reads it too.
const SQLITE_KEYS_VERSION: &str = "(SELECT changes FROM key_ring)";
/// Every statement that confirms something asks whether the server accepts writes: a pooler may send each to another server.
const POSTGRES_KEYS_VERSION: &str =
    "(SELECT changes FROM key_ring WHERE current_setting('transaction_read_only') = 'off')";

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
        // No statement that waits for the disk is given up: another connection would wait for the same disk.
        let health = ConnectionHealth::new(0);
        let pool = health.pool::<Sqlite>().idle_timeout(None);
        let writer = pool.clone().max_connections(1).connect_with(options.clone()).await?;
        let readers = health.pool().max_connections(SQLITE_READERS).connect_lazy_with(options);
        Ok(Self::new(Pools::Sqlite { writer, readers }, health, clock, keep_revocations_for))
    }

    /// Opens a file that must exist, and never writes to it. It has one connection, so one counter shows the commits of all others.
    pub(crate) async fn open_sqlite_to_read(
        path: &Path,
        clock: Arc<dyn Clock>,
        keep_revocations_for: Seconds,
    ) -> Result<Self, StoreError> {
        let options =
            SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(SQLITE_BUSY_TIMEOUT);
        let health = ConnectionHealth::new(0);
        let only = health.pool::<Sqlite>().max_connections(1).idle_timeout(None).max_lifetime(None);
        let only = only.connect_with(options).await?;
        let pools = Pools::Sqlite { writer: only.clone(), readers: only };
        Ok(Self::new(pools, health, clock, keep_revocations_for))
    }

    /// Connects to a server.
    pub(crate) async fn connect_postgres(
        url: &str,
        clock: Arc<dyn Clock>,
        keep_revocations_for: Seconds,
    ) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("auth-service").options([
            // The last resort; the deadline of a request is shorter.
            ("statement_timeout", "5s"),
            // Every statement finds its rows by key: planning it for each set of arguments costs more than running it.
            ("plan_cache_mode", "force_generic_plan"),
            // So that the server closes the connections of replicas that vanished: each network outage would leave a whole pool of
            // them.
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_keepalives_count", "3"),
            (DIRECT, "on"),
        ]);
        let health = ConnectionHealth::new(POSTGRES_CONNECTIONS);
        let connections = health.pool().max_connections(POSTGRES_CONNECTIONS).connect_with(options).await?;
        Ok(Self::new(Pools::Postgres(connections), health, clock, keep_revocations_for))
    }

    fn new(
        pools: Pools,
        health: ConnectionHealth,
        clock: Arc<dyn Clock>,
        keep_revocations_for: Seconds,
    ) -> Self {
        Self { pools, health, clock, shift: Arc::default(), keep_revocations_for, revoked: Arc::default() }
    }

    /// Moves PostgreSQL's clock as this store sees it, as a manual clock moves SQLite's.
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

    /// Is notified after each commit of a transaction that called [`notify`](Transaction::notify).
    pub(crate) fn revoked(&self) -> &Arc<Notify> {
        &self.revoked
    }

    /// Listens to a channel of PostgreSQL on a connection of its own, which the pool never lends. `None` on SQLite, and through a pooler
    /// that shares its connections: the notifications would reach whichever client uses the connection.
    pub(crate) async fn listen(&self, channel: &str) -> Option<Result<PgListener, StoreError>> {
        let Pools::Postgres(pool) = &self.pools else { return None };
        let options = PgConnectOptions::clone(&pool.connect_options());
        let own = self.health.pool::<Postgres>().max_connections(1).connect_lazy_with(options);
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

    /// Runs `operation`, and returns within `deadline`; see [`ConnectionHealth::run`].
    pub(in crate::store) async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        outlives_caller: bool,
        operation: Pin<Box<impl Future<Output = Result<T, StoreError>> + Send + 'static>>,
    ) -> Result<T, StoreError> {
        self.health.run(deadline, outlives_caller, operation).await
    }

    /// The server has become a standby, and all connections were opened to the same one.
    pub(in crate::store) fn leave_read_only_server(&self) {
        self.health.retire_open();
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
    pub(crate) async fn read(&self, sql: &str, arguments: &[Argument]) -> Result<Vec<Row>, StoreError> {
        let lease = match &self.pools {
            Pools::Sqlite { readers, .. } => Lease::of(Connection::Sqlite(readers.acquire().await?)),
            Pools::Postgres(pool) => Lease::of(Connection::Postgres(pool.acquire().await?)),
        };
        lease.once(self.statement(sql, arguments)).await
    }

    /// Runs one statement that writes, as a transaction of its own.
    pub(crate) async fn write(&self, sql: &str, arguments: &[Argument]) -> Result<Vec<Row>, StoreError> {
        let lease = self.lease_writer().await?;
        lease.once(self.statement(sql, arguments)).await
    }

    /// Starts a transaction that may write. Dropped without [`commit`](Transaction::commit), it leaves no trace.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        let mut lease = self.lease_writer().await?;
        lease
            .command(match self.pools {
                // A transaction that reads first and writes later could fail immediately with "database is locked".
                Pools::Sqlite { .. } => "BEGIN IMMEDIATE",
                // A paused replica must not commit an old decision later (rule K5).
                Pools::Postgres(_) => "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'",
            })
            .await?;
        Ok(Transaction { lease, database: self.clone(), notifies: false })
    }

    /// Starts a transaction that only reads, and sees one state of the database throughout.
    pub(crate) async fn snapshot(&self) -> Result<Transaction, StoreError> {
        let mut lease = self.lease_writer().await?;
        lease.command("BEGIN").await?;
        Ok(Transaction { lease, database: self.clone(), notifies: false })
    }

    async fn lease_writer(&self) -> Result<Lease, StoreError> {
        Ok(match &self.pools {
            Pools::Sqlite { writer, .. } => Lease::of(Connection::Sqlite(writer.acquire().await?)),
            Pools::Postgres(pool) => Lease::of(Connection::Postgres(pool.acquire().await?)),
        })
    }

    fn statement<'a>(&self, sql: &str, arguments: &'a [Argument]) -> Statement<'a> {
        let (keys_version, now, shared_clock) = match self.pools {
            Pools::Sqlite { .. } => (SQLITE_KEYS_VERSION, SQLITE_NOW, self.clock.now().0),
            Pools::Postgres(_) => (POSTGRES_KEYS_VERSION, POSTGRES_NOW, self.shift.load(Ordering::SeqCst)),
        };
        Statement {
            sql: sql.replace("{keys_version}", keys_version).replace("{now}", now),
            now: sql.contains("{now}").then_some(shared_clock),
            arguments,
            asked_at: self.clock.monotonic(),
        }
    }
}

/// A transaction; see [`Database::begin`].
pub(crate) struct Transaction {
    lease: Lease,
    database: Database,
    notifies: bool,
}

impl Transaction {
    /// Runs one statement of the transaction.
    pub(crate) async fn fetch(
        &mut self,
        sql: &str,
        arguments: Vec<Argument>,
    ) -> Result<Vec<Row>, StoreError> {
        let statement = self.database.statement(sql, &arguments);
        self.lease.fetch(statement).await
    }

    /// The first row that a statement returns, if any.
    pub(crate) async fn first(
        &mut self,
        sql: &str,
        arguments: Vec<Argument>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch(sql, arguments).await?.into_iter().next())
    }

    /// The shared clock, in a statement of its own: in the one that waited for a lock the clock stood still.
    pub(crate) async fn now(&mut self) -> Result<UnixTime, StoreError> {
        only(self.fetch("SELECT {now} AS now", Vec::new()).await?, "now")?.time("now")
    }

    /// Runs statements without arguments, such as those of a migration.
    pub(crate) async fn command(&mut self, sql: &str) -> Result<(), StoreError> {
        self.lease.command(sql).await
    }

    /// How long the end of a session is remembered.
    pub(crate) fn keep_revocations_for(&self) -> Seconds {
        self.database.keep_revocations_for
    }

    /// Notifies, at the commit, readers of revocations: those of this process and, on PostgreSQL, those of other replicas. A reader
    /// that misses the notification polls a little later.
    pub(crate) async fn notify(&mut self, channel: &str) -> Result<(), StoreError> {
        if self.database.is_postgres() && !self.notifies {
            self.fetch("SELECT pg_notify($1, '')::TEXT", arguments![channel]).await?;
        }
        self.notifies = true;
        Ok(())
    }

    /// Makes the transaction permanent. After an error the outcome is unknown.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        self.lease.command("COMMIT").await?;
        self.lease.give_back();
        if self.notifies {
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
