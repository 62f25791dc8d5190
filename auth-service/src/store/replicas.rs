//! Replicas: what each reports about itself, and what operators want of it.

use verifier::Seconds;

use super::engine::row::{Row, arguments, only};
use super::transaction::Outcome::{Keep, Undo};
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;
use crate::domain::replica::{KeyGenerations, ReplicaReport, ReplicaRow, ReplicaState, SILENT_AFTER};

const COLUMNS: &str =
    "id, name, version, public_addr, admin_addr, started_at, seen_at, state, key_changes, key_generations,
    lease_left, feed_lag_ms, drain_wanted_at, settings_version, settings_refused_at";

impl SqlStore {
    /// The name of this process: the id of its row in the table of replicas, and the prefix of its chains in the audit log.
    pub fn replica(&self) -> &str {
        self.audit.replica()
    }

    /// Writes a replica's report about itself. Returns whether an operator wants it drained; a row that is new, or was forgotten, takes
    /// that from the report.
    pub async fn beat(&self, report: ReplicaReport) -> Result<bool, StoreError> {
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
        self.write(sql, arguments, |rows| {
            Ok(only(rows, "replicas")?.time_if_any("drain_wanted_at")?.is_some())
        })
        .await
    }

    /// Requests that a replica drains, or takes requests again, and records `event`. Returns whether there is such a replica.
    pub async fn want_drain(&self, id: &str, wanted: bool, event: AuditEvent) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.transaction(async move |tx| {
            let sql = "UPDATE replicas SET drain_wanted_at = CASE WHEN $3 = 1 THEN COALESCE(drain_wanted_at, {now}) END
                        WHERE id = $2 RETURNING {now} AS now";
            match tx.first(sql, arguments![id.as_str(), i64::from(wanted)]).await? {
                Some(row) => Ok(Keep(true, vec![event.at(row.time("now")?)])),
                None => Ok(Undo(false)),
            }
        })
        .await
    }

    /// A page of the replicas, by id.
    pub async fn replicas(&self, after: Option<String>, limit: u32) -> Result<Vec<ReplicaRow>, StoreError> {
        let sql =
            format!("SELECT {{now}} AS now, {COLUMNS} FROM replicas WHERE id > $2 ORDER BY id LIMIT $3");
        self.read(sql, arguments![after.unwrap_or_default(), i64::from(limit)], |rows| {
            rows.iter().map(read).collect()
        })
        .await
    }

    /// Takes a replica that has ended off the list.
    pub async fn forget_replica(&self, id: &str) -> Result<(), StoreError> {
        self.write("DELETE FROM replicas WHERE id = $1", arguments![id], |_| Ok(())).await
    }

    /// Takes replicas off the list that have been silent for this long. Returns how many.
    pub async fn purge_replicas(&self, silent_for: Seconds) -> Result<u64, StoreError> {
        let sql = "DELETE FROM replicas WHERE seen_at <= {now} - $2 RETURNING 1";
        self.write_and_count(sql, arguments![silent_for.0]).await
    }
}

fn read(row: &Row) -> Result<ReplicaRow, StoreError> {
    let (now, seen_at) = (row.time("now")?, row.time("seen_at")?);
    let is_silent = now - seen_at >= SILENT_AFTER;
    let report = ReplicaReport {
        id: row.text("id")?,
        name: row.text("name")?,
        version: row.text("version")?,
        public_addr: row.text("public_addr")?,
        admin_addr: row.text("admin_addr")?,
        state: if is_silent { ReplicaState::Silent } else { ReplicaState::parse(&row.text("state")?) },
        key_changes: row.int("key_changes")?,
        key_generations: KeyGenerations::parse(&row.text("key_generations")?),
        lease_left: Seconds(row.int("lease_left")?),
        feed_lag_ms: row.int_if_any("feed_lag_ms")?,
        is_drain_wanted: row.time_if_any("drain_wanted_at")?.is_some(),
        settings_version: row.int("settings_version")?,
        is_refusing_settings: row.time_if_any("settings_refused_at")?.is_some(),
    };
    Ok(ReplicaRow { report, started_at: row.time("started_at")?, seen_at })
}
