//! The SQLite file: one snapshot of it, and the proof that it did not change meanwhile.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ring::digest;
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
use verifier::Seconds;

use super::table::{Column, Table};
use super::{CopyError, TABLES};
use crate::domain::hex;
use crate::store::StoreError;
use crate::store::engine::database::{Database, Transaction};
use crate::store::engine::migrations::is_current;
use crate::store::engine::row::{arguments, only};

/// Every process that has a database in WAL mode open holds a shared lock on this byte of its `-shm` file. Source: `os_unix.c` of
/// SQLite, `UNIX_SHM_DMS`.
///
/// SQLite offers no call that asks for it without writing to the file. A lock file of our own would be plainer, but a replica of the
/// release before does not hold one, and its installation is the one that is copied.
const DEAD_MAN_SWITCH: u64 = 128;

/// Refuses a file that another process has open. This process must not have it open: closing the file here would release its locks
/// (POSIX locks belong to the process).
pub(super) fn refuse_if_open(path: &Path) -> Result<(), CopyError> {
    let failed = |cause| CopyError::File { path: path.to_owned(), cause };
    File::open(path).map_err(failed)?;
    let mut shared = path.as_os_str().to_owned();
    shared.push("-shm");
    // Without this file no process has the database open.
    let Ok(shared) = File::open(shared) else { return Ok(()) };
    let wanted = Flock {
        start: DEAD_MAN_SWITCH,
        length: 1,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    let held = fcntl_getlk(&shared, &wanted).map_err(|error| failed(error.into()))?;
    let Some(held) = held else { return Ok(()) };
    // A process in another container has no id here.
    let process =
        held.pid.map_or("a process elsewhere".to_owned(), |pid| format!("process {}", pid.as_raw_nonzero()));
    Err(CopyError::InUse { path: path.to_owned(), process })
}

/// The file, as it was when it was opened.
pub(super) struct CopySource {
    database: Database,
    snapshot: Transaction,
    /// Changes when another connection commits something.
    version: i64,
}

impl CopySource {
    pub(super) async fn open(path: &Path, like: &Database) -> Result<Self, CopyError> {
        let database = Database::open_sqlite_to_read(path, Arc::clone(like.clock()), Seconds(0)).await?;
        let version = version(&database).await?;
        let mut snapshot = database.snapshot().await?;
        if !is_current(&mut snapshot).await? {
            return Err(CopyError::SourceSchema);
        }
        Ok(Self { database, snapshot, version })
    }

    pub(super) fn snapshot(&mut self) -> &mut Transaction {
        &mut self.snapshot
    }

    /// Identifies this installation: its first key, which is never deleted.
    pub(super) async fn installation(&mut self) -> Result<String, CopyError> {
        let sql = "SELECT kid FROM keys ORDER BY created_at, kid LIMIT 1";
        let row = self.snapshot.first(sql, Vec::new()).await?.ok_or(CopyError::SourceIsEmpty)?;
        Ok(hex(digest::digest(&digest::SHA256, row.text("kid")?.as_bytes()).as_ref()))
    }

    /// A table with its columns and its primary key.
    pub(super) async fn table(&mut self, name: &'static str) -> Result<Table, StoreError> {
        debug_assert!(TABLES.contains(&name), "a name of our own");
        let sql = "SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid";
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        for (place, row) in self.snapshot.fetch(sql, arguments![name]).await?.iter().enumerate() {
            columns.push(Column { name: row.text("name")?, is_text: row.text("type")? == "TEXT" });
            let place_in_key = row.int("pk")?;
            if place_in_key > 0 {
                key.push((place_in_key, place));
            }
        }
        key.sort_unstable();
        Ok(Table { name, columns, key: key.into_iter().map(|(_, place)| place).collect() })
    }

    pub(super) async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        table.count(&mut self.snapshot).await
    }

    /// Closes the file. Fails if it has changed since it was opened.
    pub(super) async fn close_unchanged(self) -> Result<(), CopyError> {
        let Self { database, snapshot, version: before } = self;
        snapshot.rollback().await?;
        let after = version(&database).await?;
        database.close().await;
        if before == after { Ok(()) } else { Err(CopyError::SourceChanged) }
    }
}

async fn version(database: &Database) -> Result<i64, StoreError> {
    only(database.read("PRAGMA data_version", &[]).await?, "data_version")?.int("data_version")
}
