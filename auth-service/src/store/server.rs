//! The database server and the connection to it, for `doctor`.

use super::engine::row::only;
use super::{SqlStore, StoreError};

/// A PostgreSQL server, and the connection to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its version as text, such as `16.4`.
    pub version: String,
    /// Its version as a number, such as 160004.
    pub version_number: i64,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// Whether the connection stays on this machine.
    pub is_local: bool,
}

impl SqlStore {
    /// The server; `None` on SQLite.
    pub async fn server(&self) -> Result<Option<Server>, StoreError> {
        if !self.db.is_postgres() {
            return Ok(None);
        }
        let sql = "SELECT current_setting('server_version') AS version,
                current_setting('server_version_num')::BIGINT AS version_number,
                COALESCE((SELECT CASE WHEN ssl THEN 1 ELSE 0 END FROM pg_stat_ssl WHERE pid = pg_backend_pid()), 0)::BIGINT
                    AS is_encrypted,
                (CASE WHEN COALESCE(inet_client_addr() = inet_server_addr(), TRUE) THEN 1 ELSE 0 END)::BIGINT AS is_local";
        self.read(sql, Vec::new(), |rows| {
            let row = only(rows, "pg_stat_ssl")?;
            Ok(Some(Server {
                version: row.text("version")?,
                version_number: row.int("version_number")?,
                is_encrypted: row.int("is_encrypted")? == 1,
                is_local: row.int("is_local")? == 1,
            }))
        })
        .await
    }
}
