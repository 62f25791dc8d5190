//! Brings the schema up to date. Append-only; a migration tolerates the previous release.

use ring::digest;
use sqlx::error::DatabaseError;

use super::database::Transaction;
use super::row::arguments;
use crate::domain::hex;
use crate::store::{SqlStore, StoreError};

struct Migration {
    /// The name of its file, which begins with its version.
    name: &'static str,
    /// The oldest release that can run on the result, named by its newest migration. An expanding migration tolerates the
    /// release before it, so that both can run side by side.
    tolerates: i64,
    sql: &'static str,
}

impl Migration {
    /// The number at the beginning of the name.
    const fn version(&self) -> i64 {
        let (digits, mut version, mut place) = (self.name.as_bytes(), 0, 0);
        while digits[place].is_ascii_digit() {
            version = version * 10 + (digits[place] - b'0') as i64;
            place += 1;
        }
        version
    }
}

macro_rules! migrations {
    ($($name:literal tolerates $tolerates:literal),* $(,)?) => {
        &[$(Migration {
            name: $name,
            tolerates: $tolerates,
            sql: include_str!(concat!("../../../../migrations/", $name, ".sql")),
        }),*]
    };
}

const MIGRATIONS: &[Migration] = migrations![
    "0001_users" tolerates 4,
    "0002_sessions" tolerates 4,
    "0003_keys" tolerates 4,
    "0004_audit" tolerates 4,
    // The release before writes no revocations: what ends at one of its replicas reaches resource servers as late as it did
    // before there was a feed. Keys that they compromise are put on the feed by the newer replicas; see `adopt_revoked_keys`.
    "0005_revocations" tolerates 4,
    // The releases before do not appear in the list of replicas.
    "0006_replicas" tolerates 4,
    // The release before follows its own configuration, whatever is stored here.
    "0007_settings" tolerates 4,
    // The release before starts sessions with passwords only, and reads an empty life of a key as the longest.
    "0008_proof" tolerates 4,
    // The release before keeps its own counters, knows no networks, and keeps ended sessions until they would have expired.
    "0009_limits" tolerates 4,
];
const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version();

/// Recorded like a migration while a copy fills the database. It tolerates no release, so none starts on half an installation.
pub(in crate::store) const UNFINISHED_COPY: i64 = i64::MAX;

/// Any constant. PostgreSQL has one space of advisory lock numbers for each database.
const LOCK: i64 = 0x6175_7468;
const POSTGRES_ONLY: &str = "-- postgres: ";

impl SqlStore {
    /// Applies the migrations that are missing, in one transaction. Any number of replicas may call it together; on PostgreSQL
    /// it takes a lock that ends with the transaction, so it works through a pooler.
    ///
    /// Returns the names of the migrations that it applied.
    pub async fn migrate(&self) -> Result<Vec<&'static str>, StoreError> {
        let mut tx = self.db.begin().await?;
        self.lock_schema(&mut tx).await?;
        let applied = self.apply_missing(&mut tx).await?;
        tx.commit().await?;
        Ok(applied)
    }

    /// Refuses a schema that this program cannot read, without changing it.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let mut tx = self.db.snapshot().await?;
        let missing = match missing(&mut tx).await {
            Err(StoreError::Database(sqlx::Error::Database(error))) if is_missing_table(&*error) => {
                let what = "the database holds no installation: start the service on it first";
                return Err(StoreError::Schema(what.to_owned()));
            }
            missing => missing?,
        };
        tx.commit().await?;
        missing.first().map_or(Ok(()), |migration| {
            Err(StoreError::Schema(format!(
                "the schema is older than this program: it lacks migration {}. Start this release of the service, or run \
                 `auth-service migrate`",
                migration.name
            )))
        })
    }

    /// Keeps other processes from migrating until the transaction ends.
    pub(in crate::store) async fn lock_schema(&self, tx: &mut Transaction) -> Result<(), StoreError> {
        if self.db.is_postgres() {
            tx.fetch("SELECT pg_advisory_xact_lock($1)::TEXT", arguments![LOCK]).await?;
        }
        tx.command(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                version BIGINT NOT NULL PRIMARY KEY, tolerates BIGINT NOT NULL,
                name TEXT NOT NULL, digest TEXT NOT NULL)",
        )
        .await
    }

    /// Applies what is missing, under the lock.
    pub(in crate::store) async fn apply_missing(
        &self,
        tx: &mut Transaction,
    ) -> Result<Vec<&'static str>, StoreError> {
        let mut applied = Vec::new();
        for migration in missing(tx).await? {
            tx.command(&self.translated(migration.sql)).await?;
            tx.fetch(
                "INSERT INTO schema_migrations (version, tolerates, name, digest) VALUES ($1, $2, $3, $4)",
                arguments![
                    migration.version(),
                    migration.tolerates,
                    migration.name,
                    digest_of(migration.sql)
                ],
            )
            .await?;
            applied.push(migration.name);
        }
        Ok(applied)
    }

    /// A migration has lines for PostgreSQL only in comments, which SQLite skips.
    fn translated(&self, sql: &str) -> String {
        if self.db.is_postgres() { sql.replace(POSTGRES_ONLY, "") } else { sql.to_owned() }
    }
}

/// The migrations that are still to be applied. Refuses a schema that this release cannot use.
async fn missing(tx: &mut Transaction) -> Result<Vec<&'static Migration>, StoreError> {
    match first_intolerant(tx).await? {
        None => {}
        Some(UNFINISHED_COPY) => {
            return Err(StoreError::Schema(
                "this database is the target of an unfinished copy: run `auth-service copy` again to finish it".to_owned(),
            ));
        }
        Some(version) => {
            return Err(StoreError::Schema(format!(
                "migration {version} belongs to a newer release; this one supports migrations up to {NEWEST}. Start the newer release"
            )));
        }
    }
    let mut missing = Vec::new();
    for migration in MIGRATIONS {
        match recorded(tx, migration).await? {
            Some(digest) if digest == digest_of(migration.sql) => {}
            Some(_) => {
                return Err(StoreError::Schema(format!(
                    "migration {} as applied to this database differs from the one in this program",
                    migration.name
                )));
            }
            None => missing.push(migration),
        }
    }
    Ok(missing)
}

pub(in crate::store) fn is_missing_table(error: &dyn DatabaseError) -> bool {
    error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
}

/// Whether the schema is exactly that of this release.
pub(in crate::store) async fn is_current(tx: &mut Transaction) -> Result<bool, StoreError> {
    for migration in MIGRATIONS {
        if recorded(tx, migration).await? != Some(digest_of(migration.sql)) {
            return Ok(false);
        }
    }
    let sql = "SELECT version FROM schema_migrations WHERE version > $1 AND version < $2 LIMIT 1";
    Ok(tx.first(sql, arguments![NEWEST, UNFINISHED_COPY]).await?.is_none())
}

async fn recorded(tx: &mut Transaction, migration: &Migration) -> Result<Option<String>, StoreError> {
    let sql = "SELECT digest FROM schema_migrations WHERE version = $1";
    tx.first(sql, arguments![migration.version()]).await?.map(|row| row.text("digest")).transpose()
}

/// A newer migration that does not tolerate this release.
async fn first_intolerant(tx: &mut Transaction) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT version FROM schema_migrations WHERE version > $1 AND tolerates > $1 ORDER BY version LIMIT 1";
    tx.first(sql, arguments![NEWEST]).await?.map(|row| row.int("version")).transpose()
}

fn digest_of(sql: &str) -> String {
    hex(digest::digest(&digest::SHA256, sql.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use crate::domain::authority::AdminPermission;
    use std::sync::Arc;

    use verifier::{ManualClock, Seconds, UnixTime};

    use super::*;
    use crate::domain::user::PermissionSet;

    /// The admin permissions before replicas were listed.
    const EIGHT: &str =
        "audit:read keys:read keys:write roles:read roles:write sessions:write users:read users:write";

    #[tokio::test]
    async fn a_program_that_only_reads_refuses_another_schema_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.db");
        let clock = || Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
        let reads = async || SqlStore::open_sqlite_to_read(&path, clock(), "reader", Seconds(1)).await;
        assert!(reads().await.is_err());
        assert!(!path.exists());
        let store = SqlStore::open_sqlite(&path, clock(), "replica", Seconds(1)).await.unwrap();
        let reader = reads().await.unwrap();
        let refusal = async || reader.check_schema().await.unwrap_err().to_string();
        assert!(refusal().await.starts_with("the database holds no installation"));
        store.migrate().await.unwrap();
        reader.check_schema().await.unwrap();
        let change = async |sql: String| {
            let mut tx = store.db.begin().await.unwrap();
            tx.command(&sql).await.unwrap();
            tx.commit().await.unwrap();
        };
        change(format!("DELETE FROM schema_migrations WHERE version = {NEWEST}")).await;
        let lacks = format!("lacks migration {}", MIGRATIONS.last().unwrap().name);
        assert!(refusal().await.contains(&lacks));
        assert!(refusal().await.contains(&lacks), "it was not applied");
        let (newer, tolerates) = (NEWEST + 2, NEWEST + 1);
        change(format!("INSERT INTO schema_migrations VALUES ({newer}, {tolerates}, 'later', 'x')")).await;
        assert!(refusal().await.starts_with(&format!("migration {newer} belongs to a newer release")));
    }

    #[tokio::test]
    async fn roles_with_every_admin_permission_get_the_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
        let path = folder.path().join("auth.db");
        let store = SqlStore::open_sqlite(&path, clock, "replica", Seconds(1)).await.unwrap();
        let mut tx = store.db.begin().await.unwrap();
        let (before, after): (Vec<_>, Vec<_>) = MIGRATIONS.iter().partition(|one| one.name < "0006_replicas");
        for migration in before {
            tx.command(migration.sql).await.unwrap();
        }
        let less = EIGHT.replace(" keys:write", "");
        let more = format!("{EIGHT} orders:read");
        for (name, permissions) in [("admin", EIGHT), ("more", &more), ("less", &less), ("none", "")] {
            let sql = "INSERT INTO roles (name, permissions) VALUES ($1, $2)";
            tx.fetch(sql, arguments![name, permissions]).await.unwrap();
        }
        for migration in after {
            if migration.name == "0007_settings" {
                let sql = "INSERT INTO roles (name, permissions) VALUES ('later', $1)";
                tx.fetch(sql, arguments![EIGHT]).await.unwrap();
            }
            tx.command(migration.sql).await.unwrap();
        }
        tx.commit().await.unwrap();
        for (name, before, is_full) in [
            ("admin", EIGHT, true),
            ("more", &more, true),
            ("less", &less, false),
            ("none", "", false),
            // Not full when it was made.
            ("later", EIGHT, false),
        ] {
            let after = store.find_role(name).await.unwrap().unwrap();
            let is_full_now = after.is_superset(&AdminPermission::all());
            assert_eq!(is_full_now, is_full, "{name}");
            assert!(after.is_superset(&PermissionSet::parse(before).unwrap()), "{name}");
            assert!(is_full || after == PermissionSet::parse(before).unwrap(), "{name}");
        }
    }
}
