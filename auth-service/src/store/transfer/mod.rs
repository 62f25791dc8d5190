//! Moves an installation from SQLite to PostgreSQL, row by row: sealed values are copied as they are.
//!
//! - [`source`]: the SQLite file, read in one snapshot and never written;
//! - [`target`]: the PostgreSQL database, marked as unfinished until everything has been compared;
//! - [`table`]: reading, writing and digesting the rows of a table.
//!
//! Rows go over in the order of their primary key, a page a transaction. So what the target holds of a table is always the start of
//! what the source holds, and an interrupted copy continues after it.

mod source;
mod table;
mod target;

use std::io;
use std::path::{Path, PathBuf};

use crate::store::engine::database::Database;
use crate::store::{SqlStore, StoreError};
use source::CopySource;
use table::{Digest, Table};
use target::Target;

/// What is copied, in an order that foreign keys allow.
const TABLES: [&str; 12] = [
    "users",
    "roles",
    "user_roles",
    "installation",
    "login_failures",
    "known_networks",
    "sessions",
    "key_ring",
    "keys",
    "audit",
    "revocations",
    "settings",
];
/// Tables of the target itself: its migrations, and its replicas.
#[cfg(test)]
const NOT_COPIED: [&str; 2] = ["schema_migrations", "replicas"];
/// Rows in one statement. A session has 19 columns, so this is far below PostgreSQL's limit of 65,535 arguments.
const PAGE: usize = 500;

/// The progress of a copy.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Which table.
    pub table: &'static str,
    /// How many of its rows the target holds, with those of an interrupted copy before.
    pub copied: u64,
    /// How many the source holds.
    pub total: u64,
}

/// A table that is the same on both sides.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Which table.
    pub table: &'static str,
    /// How many rows it has.
    pub rows: u64,
    /// Over the values of all rows, in hexadecimal.
    pub checksum: String,
}

/// Why nothing was copied, or not everything. When it is run again, the copy continues where it stopped, unless the message says
/// otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why it cannot be read.
        cause: io::Error,
    },
    /// A process has the source open.
    #[error("{} is open in {process}: stop the service, and start it again only on the new database", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// The process, as far as it can be named.
        process: String,
    },
    /// The schema of the source is not that of this release.
    #[error(
        "the schema of the source is not that of this release: run `auth-service migrate` on it with this release, then copy again"
    )]
    SourceSchema,
    /// The service never ran on the source.
    #[error(
        "the source holds no installation, so there is nothing to copy: start the service on the new database"
    )]
    SourceIsEmpty,
    /// The source was written to meanwhile.
    #[error(
        "the source changed during the copy: stop the processes that write to it, empty the target database, and copy again"
    )]
    SourceChanged,
    /// The target has rows of its own.
    #[error(
        "the target already holds data (table {0}): copy into an empty database, so that no data is mixed"
    )]
    TargetInUse(&'static str),
    /// The target holds part of another copy.
    #[error(
        "the target holds an unfinished copy of another installation, or of another release: empty it, then copy again"
    )]
    TargetIsAnothers,
    /// Another process finished the copy.
    #[error("another process has finished this copy in the meantime")]
    Overtaken,
    /// The two sides differ.
    #[error(
        "table {table} differs: {source_rows} rows with checksum {source_sum} in the source, {target_rows} with {target_sum} in the \
         target. The source was changed after an interrupted copy, or the target was written to: empty the target, then copy again"
    )]
    Differs {
        /// Which table.
        table: &'static str,
        /// Rows of the source.
        source_rows: u64,
        /// Their checksum.
        source_sum: String,
        /// Rows of the target.
        target_rows: u64,
        /// Their checksum.
        target_sum: String,
    },
    /// A database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SqlStore {
    /// Fills this empty PostgreSQL database with the contents of the SQLite file `from`, or continues an interrupted copy. No replica
    /// starts on the database until the copy is finished.
    pub async fn copy_from(
        &self,
        from: &Path,
        mut report: impl FnMut(Progress),
    ) -> Result<Vec<Compared>, CopyError> {
        source::refuse_if_open(from)?;
        let mut source = CopySource::open(from, &self.db).await?;
        let target = Target::new(self, source.installation().await?);
        target.begin().await?;
        let mut tables = Vec::new();
        for name in TABLES {
            let table = source.table(name).await?;
            copy_table(&table, &mut source, &target, &mut report).await?;
            tables.push(table);
        }
        let mut compared = Vec::new();
        for table in &tables {
            compared.push(compare(table, &mut source, &self.db).await?);
        }
        source.close_unchanged().await?;
        source::refuse_if_open(from)?;
        target.finish().await?;
        Ok(compared)
    }
}

async fn copy_table(
    table: &Table,
    source: &mut CopySource,
    target: &Target<'_>,
    report: &mut impl FnMut(Progress),
) -> Result<(), CopyError> {
    let (mut copied, mut last) = target.reached(table).await?;
    let total = source.count(table).await?;
    let mut progress = |copied| report(Progress { table: table.name, copied, total });
    progress(copied);
    loop {
        let page = table.page(source.snapshot(), last.as_ref(), PAGE).await?;
        let Some(end) = page.last() else { return Ok(()) };
        last = Some(table.key_of(end));
        target.insert(table, &page).await?;
        copied += page.len() as u64;
        progress(copied);
    }
}

async fn compare(table: &Table, source: &mut CopySource, target: &Database) -> Result<Compared, CopyError> {
    let expected = table.digest(source.snapshot()).await?;
    let mut tx = target.begin().await?;
    let found = table.digest(&mut tx).await?;
    tx.rollback().await?;
    if expected == found {
        return Ok(Compared { table: table.name, rows: found.rows, checksum: found.checksum() });
    }
    let differ = |source: &Digest, target: &Digest| CopyError::Differs {
        table: table.name,
        source_rows: source.rows,
        source_sum: source.checksum(),
        target_rows: target.rows,
        target_sum: target.checksum(),
    };
    Err(differ(&expected, &found))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use verifier::{ManualClock, Seconds, UnixTime};

    use super::*;

    /// A new table must be listed as copied or as not copied.
    #[tokio::test]
    async fn every_table_of_the_schema_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
        let path = folder.path().join("auth.db");
        let store = SqlStore::open_sqlite(&path, clock, "replica", Seconds(1)).await.unwrap();
        store.migrate().await.unwrap();
        let sql =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name";
        let rows = store.db.read(sql, &[]).await.unwrap();
        let found: Vec<String> = rows.iter().map(|row| row.text("name").unwrap()).collect();
        let mut known = [&TABLES[..], &NOT_COPIED].concat();
        known.sort_unstable();
        assert_eq!(found, known);
    }
}
