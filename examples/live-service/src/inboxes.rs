//! Messages in PostgreSQL: stored and numbered in one statement, announced in the same transaction.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow};
use sqlx::{Connection as _, PgPool, Row as _};
use tokio::time::timeout;

use crate::protocol::Message;

/// Small, because statements are short and three replicas must fit into PostgreSQL's default of 100, beside
/// other clients.
const CONNECTIONS: u32 = 8;
/// Time limit for all work in the database.
const DEADLINE: Duration = Duration::from_secs(2);
const PING_AFTER: Duration = Duration::from_secs(1);
const CHANNEL: &str = "live_messages";
/// Messages per read.
pub(crate) const PAGE: usize = 64;
const TIDY_INTERVAL: Duration = Duration::from_mins(1);
/// Rows per deletion, to keep transactions short.
const BATCH: i64 = 1000;

/// The number of an inbox grows under the lock of its row, which is held until the commit. Messages therefore
/// become visible in the order of their numbers: a reader that has seen 7 has missed nothing up to 7.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS live_inboxes (
        inbox TEXT NOT NULL PRIMARY KEY,
        last BIGINT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS live_messages (
        inbox TEXT NOT NULL,
        seq BIGINT NOT NULL,
        sender TEXT NOT NULL,
        id TEXT NOT NULL,
        body TEXT NOT NULL,
        sent_at BIGINT NOT NULL,
        PRIMARY KEY (inbox, seq),
        UNIQUE (inbox, sender, id)
    );
    CREATE INDEX IF NOT EXISTS live_messages_by_age ON live_messages (sent_at);
";
/// A repeated id violates the unique index, and the whole statement is undone, including the number.
const APPEND: &str = "
    WITH next AS (
        INSERT INTO live_inboxes AS known (inbox, last) VALUES ($1, 1)
        ON CONFLICT (inbox) DO UPDATE SET last = known.last + 1
        RETURNING last
    ), stored AS (
        INSERT INTO live_messages (inbox, seq, sender, id, body, sent_at)
        SELECT $1, last, $2, $3, $4, FLOOR(EXTRACT(EPOCH FROM clock_timestamp()))::BIGINT FROM next
        RETURNING *
    )
    SELECT seq, pg_notify($5, json_build_object(
        'inbox', inbox, 'seq', seq, 'from', sender, 'id', id, 'body', body, 'sent_at', sent_at)::TEXT)
    FROM stored
";
const FIND: &str = "SELECT seq FROM live_messages WHERE inbox = $1 AND sender = $2 AND id = $3";
/// The position of the inbox and its messages, as of one instant.
const READ: &str = "
    SELECT last, seq, sender, id, body, sent_at
    FROM live_inboxes AS known LEFT JOIN LATERAL (
        SELECT * FROM live_messages WHERE inbox = known.inbox AND seq > $2 ORDER BY seq LIMIT $3
    ) AS messages ON TRUE
    WHERE known.inbox = $1 ORDER BY seq
";
const POSITIONS: &str = "SELECT inbox, last FROM live_inboxes WHERE inbox = ANY($1)";
const FORGET: &str = "
    DELETE FROM live_messages WHERE ctid IN (
        SELECT ctid FROM live_messages WHERE sent_at < EXTRACT(EPOCH FROM clock_timestamp()) - $1 LIMIT $2
    )
";

/// All inboxes, of all users.
#[derive(Clone)]
pub(crate) struct Inboxes {
    pool: PgPool,
}

/// The messages that follow a number in an inbox.
pub(crate) struct Page {
    /// The number of the newest message ever stored.
    pub(crate) last: i64,
    pub(crate) messages: Vec<Message>,
}

/// The notification that every replica receives when a message has been stored.
#[derive(Deserialize)]
pub(crate) struct Notice {
    pub(crate) inbox: String,
    #[serde(flatten)]
    pub(crate) message: Message,
}

impl Inboxes {
    /// Connects, and creates the tables if they are missing.
    pub(crate) async fn open(url: &SecretString) -> Result<Self, String> {
        let options: PgConnectOptions = url.expose_secret().parse().map_err(|error| {
            format!("DATABASE_URL is not of the form postgres://user:password@host/database: {error}")
        })?;
        let settings = [("statement_timeout", "5s"), ("client_min_messages", "warning")];
        let options = options.application_name("live-service").options(settings);
        let cannot = |error| format!("the database of DATABASE_URL cannot be used: {error}");
        let inboxes = Self { pool: pool().connect_with(options).await.map_err(cannot)? };
        inboxes.create().await.map_err(cannot)?;
        Ok(inboxes)
    }

    async fn create(&self) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        // `IF NOT EXISTS` alone fails when replicas start at the same time.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtext('live-service'))")
            .execute(&mut *transaction)
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
        transaction.commit().await
    }

    /// Stores a message and returns its number. For a message that was stored before, returns the number it
    /// got then. After an error, the message may or may not have been stored.
    pub(crate) async fn append(
        &self,
        inbox: &str,
        from: &str,
        id: &str,
        body: &str,
    ) -> Result<i64, sqlx::Error> {
        let append = sqlx::query(APPEND).bind(inbox).bind(from).bind(id).bind(body).bind(CHANNEL);
        match within(append.fetch_one(&self.pool)).await {
            Ok(row) => row.try_get(0),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                let find = sqlx::query(FIND).bind(inbox).bind(from).bind(id);
                within(find.fetch_one(&self.pool)).await?.try_get(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Up to [`PAGE`] messages after number `after`.
    pub(crate) async fn read(&self, inbox: &str, after: i64) -> Result<Page, sqlx::Error> {
        let page = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let rows = within(sqlx::query(READ).bind(inbox).bind(after).bind(page).fetch_all(&self.pool)).await?;
        let last = rows.first().map_or(Ok(0), |row| row.try_get("last"))?;
        // Without messages, there is one row with empty columns.
        let messages = rows.iter().filter_map(|row| message(row).transpose()).collect::<Result<_, _>>()?;
        Ok(Page { last, messages })
    }

    /// The number of the newest message of each inbox.
    pub(crate) async fn positions(&self, inboxes: &[String]) -> Result<Vec<(String, i64)>, sqlx::Error> {
        let rows = within(sqlx::query(POSITIONS).bind(inboxes).fetch_all(&self.pool)).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Listens for messages stored from now on, on a separate connection.
    pub(crate) async fn listen(&self) -> Result<PgListener, sqlx::Error> {
        let options = PgConnectOptions::clone(&self.pool.connect_options());
        let own =
            PgPoolOptions::new().max_connections(1).acquire_timeout(DEADLINE).connect_lazy_with(options);
        within(async {
            let mut listener = PgListener::connect_with(&own).await?;
            listener.listen(CHANNEL).await?;
            Ok(listener)
        })
        .await
    }

    /// Sends an empty notification to every replica.
    pub(crate) async fn heartbeat(&self) -> Result<(), sqlx::Error> {
        within(sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(&self.pool)).await.map(drop)
    }

    /// Deletes messages older than `keep_for`; never returns. All replicas do this, in any order.
    pub(crate) async fn tidy(&self, keep_for: Duration) {
        loop {
            if let Err(error) = self.forget(keep_for).await {
                tracing::warn!(%error, "old messages could not be deleted");
            }
            tokio::time::sleep(TIDY_INTERVAL).await;
        }
    }

    async fn forget(&self, keep_for: Duration) -> Result<(), sqlx::Error> {
        loop {
            let forget = sqlx::query(FORGET).bind(keep_for.as_secs_f64()).bind(BATCH);
            if within(forget.execute(&self.pool)).await?.rows_affected() < BATCH.unsigned_abs() {
                return Ok(());
            }
        }
    }
}

/// Pings only idle connections: a ping before each statement would double its cost, but an idle connection
/// may have been closed by a restart of the server. A busy one shows that with its next statement.
fn pool() -> PgPoolOptions {
    let options = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(DEADLINE);
    options.test_before_acquire(false).before_acquire(|connection, metadata| {
        Box::pin(async move {
            if metadata.idle_for >= PING_AFTER {
                connection.ping().await?;
            }
            Ok(true)
        })
    })
}

async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(DEADLINE, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

fn message(row: &PgRow) -> Result<Option<Message>, sqlx::Error> {
    let Some(seq) = row.try_get("seq")? else { return Ok(None) };
    Ok(Some(Message {
        seq,
        from: row.try_get("sender")?,
        id: row.try_get("id")?,
        body: row.try_get("body")?,
        sent_at: row.try_get("sent_at")?,
    }))
}
