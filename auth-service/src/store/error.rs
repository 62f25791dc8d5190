//! The errors of the store.

/// Why the store could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No response from the database in time; the outcome of a write is unknown.
    #[error("no response from the database in time")]
    Timeout,
    /// The database failed or cannot be reached.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The server is a standby, or a primary that was demoted. Its data may be minutes old.
    #[error("the database accepts no writes: another server may have taken over")]
    ReadOnly,
    /// A row holds a value that no version of the service writes.
    #[error("unreadable row in {table}: {what}")]
    Unreadable {
        /// The table of the row.
        table: &'static str,
        /// The part that cannot be read; never a secret.
        what: String,
    },
    /// The schema is newer than this program, was changed by hand, or is too old for a program that must not change it.
    #[error("{0}")]
    Schema(String),
}

impl StoreError {
    /// Whether the server refused this statement and the connection is still good.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            // Class 57P: the server is shutting down and closes the connection.
            Self::Database(sqlx::Error::Database(error)) => {
                !error.code().is_some_and(|code| code.starts_with("57P"))
            }
            Self::Unreadable { .. } => true,
            _ => false,
        }
    }

    /// Whether the transaction may end otherwise when it is run again: after a serialisation failure or a deadlock, and when a row that
    /// it had read, such as a role, was deleted before it referred to the row.
    pub(super) fn is_transient(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        matches!(error.code().as_deref(), Some("40001" | "40P01" | "23503"))
    }

    /// Whether we are connected to a standby: another server has taken over.
    pub(super) fn is_read_only(&self) -> bool {
        if matches!(self, Self::ReadOnly) {
            return true;
        }
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.code().as_deref() == Some("25006")
    }
}
