//! Replicas: what each says of itself, and what operators want of it.

use verifier::Seconds;

use super::engine::database::{Row, arguments};
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;
use crate::domain::replica::{KeyGenerations, ReplicaReport, ReplicaRow, ReplicaState, SILENT_AFTER};

const COLUMNS: &str =
    "id, name, version, public_addr, admin_addr, started_at, seen_at, state, key_changes, key_generations,
    lease_left, feed_lag_ms, drain_wanted_at, settings_version, settings_refused_at";

impl SqlStore {
    /// The name of this process: of its row in the table of replicas, and at the beginning of its chains in the audit log.
    pub fn replica(&self) -> &str {
        self.audit.replica()
    }

    /// Writes what a replica says of itself. Answers whether an operator wants it out of the rotation; of a row that is new, or was
    /// forgotten, that is what the report says.
    pub async fn beat(&self, report: ReplicaReport) -> Result<bool, StoreError> {
        self.run(move |store| {
            let report = report.clone();
            async move {
                let sql = format!(
                    "INSERT INTO replicas ({COLUMNS})
                     VALUES ($2, $3, $4, $5, $6, {{now}}, {{now}}, $7, $8, $9, $10, $11, CASE WHEN $12 = 1 THEN {{now}} END,
                       $13, CASE WHEN $14 = 1 THEN {{now}} END)
                     ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, state = excluded.state,
                       key_changes = excluded.key_changes, key_generations = excluded.key_generations,
                       lease_left = excluded.lease_left, feed_lag_ms = excluded.feed_lag_ms,
                       settings_version = excluded.settings_version, settings_refused_at = excluded.settings_refused_at
                     RETURNING drain_wanted_at"
                );
                let arguments = arguments![
                    report.id,
                    report.name,
                    report.version,
                    report.public_addr,
                    report.admin_addr,
                    report.state.as_str(),
                    report.key_changes,
                    report.key_generations.to_string(),
                    report.lease_left.0,
                    report.feed_lag_ms,
                    i64::from(report.is_drain_wanted),
                    report.settings_version,
                    i64::from(report.is_refusing_settings),
                ];
                let row = super::only(store.db.write(&sql, arguments).await?, "replicas")?;
                Ok(row.time_if_any(0)?.is_some())
            }
        })
        .await
    }

    /// Says that a replica shall leave the rotation, or come back, and records `event`. Answers whether there is such a replica.
    pub async fn want_drain(&self, id: &str, wanted: bool, event: AuditEvent) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.run(move |store| {
            let (id, event) = (id.clone(), event.clone());
            async move {
                let mut audit = store.audit.open().await?;
                let mut tx = store.db.begin().await?;
                let sql = "UPDATE replicas SET drain_wanted_at = CASE WHEN $3 = 1 THEN COALESCE(drain_wanted_at, {now}) END
                            WHERE id = $2 RETURNING {now}";
                match tx.first(sql, arguments![id, i64::from(wanted)]).await? {
                    None => {
                        audit.rollback(tx).await?;
                        Ok(false)
                    }
                    Some(row) => {
                        audit.append(&mut tx, row.time(0)?, &event).await?;
                        audit.commit(tx).await?;
                        Ok(true)
                    }
                }
            }
        })
        .await
    }

    /// A page of the replicas, by id.
    pub async fn replicas(&self, after: Option<String>, limit: u32) -> Result<Vec<ReplicaRow>, StoreError> {
        self.run(move |store| {
            let after = after.clone().unwrap_or_default();
            async move {
                let sql =
                    format!("SELECT {{now}}, {COLUMNS} FROM replicas WHERE id > $2 ORDER BY id LIMIT $3");
                let rows = store.db.read(&sql, arguments![after, i64::from(limit)]).await?;
                rows.iter().map(read).collect()
            }
        })
        .await
    }

    /// Takes a replica that has ended off the list.
    pub async fn forget_replica(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.run(move |store| {
            let id = id.clone();
            async move {
                store.db.write("DELETE FROM replicas WHERE id = $1", arguments![id]).await.map(drop)
            }
        })
        .await
    }

    /// Takes replicas off the list that have not been heard of for so long. Answers how many.
    pub async fn purge_replicas(&self, silent_for: Seconds) -> Result<u64, StoreError> {
        self.run(move |store| async move {
            let sql = "DELETE FROM replicas WHERE seen_at <= {now} - $2 RETURNING 1";
            Ok(store.db.write(sql, arguments![silent_for.0]).await?.len() as u64)
        })
        .await
    }
}

fn read(row: &Row) -> Result<ReplicaRow, StoreError> {
    let (now, seen_at) = (row.time(0)?, row.time(7)?);
    let is_silent = now - seen_at >= SILENT_AFTER;
    let report = ReplicaReport {
        id: row.text(1)?,
        name: row.text(2)?,
        version: row.text(3)?,
        public_addr: row.text(4)?,
        admin_addr: row.text(5)?,
        state: if is_silent { ReplicaState::Silent } else { ReplicaState::parse(&row.text(8)?) },
        key_changes: row.int(9)?,
        key_generations: KeyGenerations::parse(&row.text(10)?),
        lease_left: Seconds(row.int(11)?),
        feed_lag_ms: row.int_if_any(12)?,
        is_drain_wanted: row.int_if_any(13)?.is_some(),
        settings_version: row.int(14)?,
        is_refusing_settings: row.int_if_any(15)?.is_some(),
    };
    Ok(ReplicaRow { report, started_at: row.time(6)?, seen_at })
}
