//! What goes into a statement and what comes out of it, the same for both databases.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use verifier::UnixTime;

use crate::store::StoreError;

/// An argument of a statement. There are two column types only, so that both databases share all SQL.
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
    ($($value:expr),* $(,)?) => { vec![$($crate::store::engine::row::Argument::from($value)),*] };
}
pub(crate) use arguments;

/// One row that a statement returned. Columns are read by name.
pub(crate) struct Row {
    columns: Columns,
    asked_at: Duration,
}

pub(super) enum Columns {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! column {
    ($self:expr, $name:expr) => {
        match &$self.columns {
            Columns::Sqlite(row) => row.try_get($name),
            Columns::Postgres(row) => row.try_get($name),
        }
        .map_err(StoreError::from)
    };
}

impl Row {
    pub(super) fn new(columns: Columns, asked_at: Duration) -> Self {
        Self { columns, asked_at }
    }

    /// Our monotonic clock just before the statement was sent.
    pub(crate) fn asked_at(&self) -> Duration {
        self.asked_at
    }
    pub(crate) fn int(&self, column: &str) -> Result<i64, StoreError> {
        column!(self, column)
    }
    pub(crate) fn int_if_any(&self, column: &str) -> Result<Option<i64>, StoreError> {
        column!(self, column)
    }
    pub(crate) fn text(&self, column: &str) -> Result<String, StoreError> {
        column!(self, column)
    }
    pub(crate) fn text_if_any(&self, column: &str) -> Result<Option<String>, StoreError> {
        column!(self, column)
    }
    pub(crate) fn time(&self, column: &str) -> Result<UnixTime, StoreError> {
        self.int(column).map(UnixTime)
    }
    pub(crate) fn time_if_any(&self, column: &str) -> Result<Option<UnixTime>, StoreError> {
        Ok(self.int_if_any(column)?.map(UnixTime))
    }
}

/// The row of a statement that always returns one.
pub(crate) fn only(rows: Vec<Row>, table: &'static str) -> Result<Row, StoreError> {
    rows.into_iter().next().ok_or_else(|| StoreError::Unreadable {
        table,
        what: "the row that always exists is missing".to_owned(),
    })
}
