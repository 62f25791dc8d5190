//! Settings that operators changed. Every change happens under the lock of the one row of `key_ring`, which holds their version.

use std::collections::BTreeMap;

use verifier::UnixTime;

use super::engine::database::Transaction;
use super::engine::row::{Row, arguments};
use super::revocations::CHANNEL;
use super::transaction::Outcome::{Keep, Undo};
use super::{SqlStore, StoreError};
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::Actor;

/// All stored settings, in one snapshot.
#[derive(Clone, Debug)]
pub struct SettingsTable {
    /// Differs for each state of the table.
    pub version: i64,
    /// By name.
    pub rows: Vec<SettingRow>,
}

/// A stored setting.
#[derive(Clone, Debug)]
pub struct SettingRow {
    /// Its name.
    pub name: String,
    /// Its value in TOML.
    pub value: String,
    /// When it was last changed.
    pub changed_at: UnixTime,
    /// The operator who changed it last.
    pub changed_by: String,
}

/// A change of settings.
#[derive(Clone, Debug)]
pub struct SettingsChange {
    /// New values in TOML; `None` removes the stored value.
    pub values: BTreeMap<String, Option<String>>,
    /// The version that the operator saw. If the stored version differs, and the values too, nothing is changed.
    pub expected: Option<i64>,
    /// The operator who makes the change.
    pub actor: Actor,
}

/// The outcome of a change of settings.
#[derive(Debug)]
pub enum SettingsWrite<E> {
    /// The values are stored, now or before.
    Done,
    /// They were changed since the version that was expected.
    Stale,
    /// The values are not valid.
    Refused(E),
}

impl SettingsTable {
    /// The values by name.
    pub fn values(&self) -> BTreeMap<String, String> {
        self.rows.iter().map(|row| (row.name.clone(), row.value.clone())).collect()
    }
}

// The id of the only row, as in the read of revocations: else PostgreSQL expects many rows and compiles the statement.
const STORED: &str = "SELECT {now} AS now, settings_version, name, value, changed_at, changed_by
    FROM key_ring LEFT JOIN settings ON 1 = 1 WHERE key_ring.id = 1 ORDER BY name";

impl SqlStore {
    /// All stored settings.
    pub async fn settings(&self) -> Result<SettingsTable, StoreError> {
        self.read(STORED, Vec::new(), |rows| read(&rows)).await
    }

    /// Changes settings in one transaction that no other change of settings overlaps. `check` gets all values as they would be, and may
    /// refuse them.
    pub async fn change_settings<C, E>(
        &self,
        change: SettingsChange,
        check: C,
    ) -> Result<SettingsWrite<E>, StoreError>
    where
        C: Fn(&BTreeMap<String, String>) -> Result<(), E> + Send + Sync + 'static,
        E: Send + 'static,
    {
        self.transaction(async move |tx| {
            tx.fetch("UPDATE key_ring SET id = id", Vec::new()).await?;
            // After the lock: the statement that waited for it may be old.
            let rows = tx.fetch(STORED, Vec::new()).await?;
            let before = read(&rows)?;
            let now = rows.first().ok_or_else(unreadable)?.time("now")?;
            let mut values = before.values();
            let changed = apply(&mut values, &change.values);
            // Before the version is compared: a caller that got no response and repeats the change finds another version, and its own
            // values.
            if changed.is_empty() {
                return Ok(Undo(SettingsWrite::Done));
            }
            if change.expected.is_some_and(|expected| expected != before.version) {
                return Ok(Undo(SettingsWrite::Stale));
            }
            if let Err(refusal) = check(&values) {
                return Ok(Undo(SettingsWrite::Refused(refusal)));
            }
            let mut entries = Vec::new();
            for Changed { name, before, after } in &changed {
                write(tx, name, after.as_deref(), &change.actor.name).await?;
                let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "default".to_owned());
                let event = AuditEvent::new(EventKind::SettingChanged)
                    .by_actor(&change.actor)
                    .on(name)
                    .detail(format!("{} -> {}", shown(before), shown(after)));
                entries.push(event.at(now));
            }
            // Never less than the time: after a restored backup the next version is one that no replica knows.
            let sql = "UPDATE key_ring SET settings_version =
                CASE WHEN settings_version < {now} THEN {now} ELSE settings_version + 1 END";
            tx.fetch(sql, Vec::new()).await?;
            tx.notify(CHANNEL).await?;
            Ok(Keep(SettingsWrite::Done, entries))
        })
        .await
    }
}

struct Changed {
    name: String,
    before: Option<String>,
    after: Option<String>,
}

/// Changes `values`, and returns what differs afterwards.
fn apply(values: &mut BTreeMap<String, String>, change: &BTreeMap<String, Option<String>>) -> Vec<Changed> {
    let mut changed = Vec::new();
    for (name, after) in change {
        let before = match after {
            Some(value) => values.insert(name.clone(), value.clone()),
            None => values.remove(name),
        };
        if before != *after {
            changed.push(Changed { name: name.clone(), before, after: after.clone() });
        }
    }
    changed
}

async fn write(tx: &mut Transaction, name: &str, value: Option<&str>, actor: &str) -> Result<(), StoreError> {
    let Some(value) = value else {
        return tx.fetch("DELETE FROM settings WHERE name = $1", arguments![name]).await.map(drop);
    };
    let sql = "INSERT INTO settings (name, value, changed_at, changed_by) VALUES ($2, $3, {now}, $4)
        ON CONFLICT (name) DO UPDATE SET value = $3, changed_at = {now}, changed_by = $4";
    tx.fetch(sql, arguments![name, value, actor]).await.map(drop)
}

fn read(rows: &[Row]) -> Result<SettingsTable, StoreError> {
    let version = rows.first().ok_or_else(unreadable)?.int("settings_version")?;
    let stored = rows.iter().filter(|row| row.text_if_any("name").is_ok_and(|name| name.is_some()));
    let rows = stored.map(|row| {
        Ok(SettingRow {
            name: row.text("name")?,
            value: row.text("value")?,
            changed_at: row.time("changed_at")?,
            changed_by: row.text("changed_by")?,
        })
    });
    Ok(SettingsTable { version, rows: rows.collect::<Result<_, StoreError>>()? })
}

fn unreadable() -> StoreError {
    StoreError::Unreadable { table: "settings", what: "the key_ring row is missing".to_owned() }
}
