//! The PostgreSQL database. Until the copy is finished, a row of `schema_migrations` that no release tolerates keeps replicas from
//! starting on it.

use super::table::{Table, Values};
use super::{CopyError, TABLES};
use crate::store::engine::database::Transaction;
use crate::store::engine::migrations::{UNFINISHED_COPY, is_current};
use crate::store::engine::row::arguments;
use crate::store::{SqlStore, StoreError};

pub(super) struct Target<'a> {
    store: &'a SqlStore,
    /// The installation that it is filled from.
    installation: String,
}

impl<'a> Target<'a> {
    pub(super) fn new(store: &'a SqlStore, installation: String) -> Self {
        Self { store, installation }
    }

    /// Makes the schema in an empty database and marks it, or finds the mark of this copy.
    pub(super) async fn begin(&self) -> Result<(), CopyError> {
        let mut tx = self.store.db.begin().await?;
        self.store.lock_schema(&mut tx).await?;
        let sql = "SELECT digest FROM schema_migrations WHERE version = $1";
        if let Some(mark) = tx.first(sql, arguments![UNFINISHED_COPY]).await? {
            let is_ours = mark.text("digest")? == self.installation && is_current(&mut tx).await?;
            tx.rollback().await?;
            return if is_ours { Ok(()) } else { Err(CopyError::TargetIsAnothers) };
        }
        self.store.apply_missing(&mut tx).await?;
        refuse_if_in_use(&mut tx).await?;
        // The only row that migrations make.
        tx.fetch("DELETE FROM key_ring", Vec::new()).await?;
        tx.fetch(
            "INSERT INTO schema_migrations (version, tolerates, name, digest) VALUES ($1, $1, 'unfinished copy', $2)",
            arguments![UNFINISHED_COPY, self.installation.as_str()],
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// How many rows the target has, and the key of the last one in the byte order of the source.
    pub(super) async fn reached(&self, table: &Table) -> Result<(u64, Option<Values>), StoreError> {
        let mut tx = self.store.db.begin().await?;
        // Sorts the whole table, once.
        tx.command("SET LOCAL statement_timeout = 0").await?;
        let count = table.count(&mut tx).await?;
        let backwards: Vec<String> = table
            .key
            .iter()
            .map(|&place| &table.columns[place])
            .map(|column| {
                format!("{}{} DESC", column.name, if column.is_text { " COLLATE \"C\"" } else { "" })
            })
            .collect();
        let last = table.first_key(&mut tx, &backwards.join(", ")).await?;
        tx.rollback().await?;
        Ok((count, last))
    }

    /// Adds rows in one transaction.
    pub(super) async fn insert(&self, table: &Table, rows: &[Values]) -> Result<(), CopyError> {
        let mut tx = self.store.db.begin().await?;
        // A shared lock, so that the copy is not finished before this is committed.
        let sql = "SELECT version FROM schema_migrations WHERE version = $1 AND digest = $2 FOR SHARE";
        let mark = tx.first(sql, arguments![UNFINISHED_COPY, self.installation.as_str()]).await?;
        mark.ok_or(CopyError::Overtaken)?;
        let (name, columns, values) = (table.name, table.column_list(), table.placeholders(rows.len()));
        let sql = format!("INSERT INTO {name} ({columns}) VALUES {values} ON CONFLICT DO NOTHING");
        tx.fetch(&sql, rows.concat()).await?;
        Ok(tx.commit().await?)
    }

    /// Opens the database to replicas.
    pub(super) async fn finish(&self) -> Result<(), CopyError> {
        let sql = "DELETE FROM schema_migrations WHERE version = $1 AND digest = $2 RETURNING version";
        let arguments = arguments![UNFINISHED_COPY, self.installation.as_str()];
        let removed = self.store.db.write(sql, &arguments).await?;
        if removed.is_empty() { Err(CopyError::Overtaken) } else { Ok(()) }
    }
}

async fn refuse_if_in_use(tx: &mut Transaction) -> Result<(), CopyError> {
    for table in TABLES {
        // Migrations make this row; it counts as data once it was changed.
        let which = if table == "key_ring" { "WHERE changes > 0" } else { "" };
        if tx.first(&format!("SELECT 1 FROM {table} {which} LIMIT 1"), Vec::new()).await?.is_some() {
            return Err(CopyError::TargetInUse(table));
        }
    }
    Ok(())
}
