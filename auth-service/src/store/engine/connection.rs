//! A connection while it is in use.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Postgres, Sqlite};

use super::row::{Argument, Columns, Row};
use crate::store::StoreError;

/// A statement for one of the databases.
pub(super) struct Statement<'a> {
    pub(super) sql: String,
    /// The first argument, if the statement mentions the shared clock.
    pub(super) now: Option<i64>,
    pub(super) arguments: &'a [Argument],
    pub(super) asked_at: Duration,
}

macro_rules! fetch {
    ($connection:expr, $statement:expr, $columns:path) => {{
        let Statement { sql, now, arguments, asked_at } = $statement;
        let mut query = sqlx::query(AssertSqlSafe(sql));
        if let Some(now) = now {
            query = query.bind(now);
        }
        for argument in arguments {
            query = match argument {
                Argument::Int(value) => query.bind(*value),
                Argument::Text(value) => query.bind(value.as_deref()),
            };
        }
        let rows = query.fetch_all($connection).await?;
        Ok(rows.into_iter().map(|row| Row::new($columns(row), asked_at)).collect())
    }};
}

/// A connection in use. Unless it is given back it is closed, because its state is unknown.
pub(super) struct Lease {
    connection: Option<Connection>,
}

pub(super) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Lease {
    pub(super) fn of(connection: Connection) -> Self {
        Self { connection: Some(connection) }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a lease is used before it is given back")
    }

    pub(super) async fn fetch(&mut self, statement: Statement<'_>) -> Result<Vec<Row>, StoreError> {
        match self.connection() {
            Connection::Sqlite(connection) => fetch!(&mut **connection, statement, Columns::Sqlite),
            Connection::Postgres(connection) => fetch!(&mut **connection, statement, Columns::Postgres),
        }
    }

    /// Runs one statement, and gives the connection back.
    pub(super) async fn once(mut self, statement: Statement<'_>) -> Result<Vec<Row>, StoreError> {
        let rows = self.fetch(statement).await;
        // A statement that the server refused leaves the connection usable; a broken connection does not.
        if rows.as_ref().map_or_else(StoreError::is_refusal, |_| true) {
            self.give_back();
        }
        rows
    }

    /// Runs statements without arguments.
    pub(super) async fn command(&mut self, sql: &str) -> Result<(), StoreError> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self.connection() {
            Connection::Sqlite(connection) => statement.execute(&mut **connection).await.map(drop)?,
            Connection::Postgres(connection) => statement.execute(&mut **connection).await.map(drop)?,
        }
        Ok(())
    }

    pub(super) fn give_back(&mut self) {
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
