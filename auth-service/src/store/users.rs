//! Users: created, changed and deleted under the lock of their row.

use serde_json::{Map, Value};
use verifier::UnixTime;

use super::administrators::{LastAdministrator, ensure_admin_role};
use super::audit_chain::Entry;
use super::engine::database::Transaction;
use super::engine::row::{Row, arguments, only};
use super::transaction::Outcome::{self, Keep, Undo};
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;
use crate::domain::authority::{ADMIN_ROLE, Authority, permissions_of};
use crate::domain::password::PasswordHash;
use crate::domain::session::{EndReason, SessionId};
use crate::domain::user::{PermissionSet, UserId};

/// A user as operators see them.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// The subject of their tokens.
    pub id: UserId,
    /// Normalised.
    pub username: String,
    /// Sorted names.
    pub roles: Vec<String>,
    /// The permissions of all roles together.
    pub permissions: PermissionSet,
    /// Extra claims.
    pub claims: Map<String, Value>,
    /// When they were created.
    pub created_at: UnixTime,
    /// When they were disabled.
    pub disabled_at: Option<UnixTime>,
}

/// A user to be created.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Their id.
    pub id: UserId,
    /// Normalised.
    pub username: String,
    /// Hash of their password.
    pub password_hash: PasswordHash,
    /// Names of roles, all of which must exist.
    pub roles: Vec<String>,
    /// Extra claims.
    pub claims: Map<String, Value>,
}

/// A change of a user; members that are `None` leave the present value.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// All their roles, replacing the present ones.
    pub roles: Option<Vec<String>>,
    /// All their extra claims, replacing the present ones.
    pub claims: Option<Map<String, Value>>,
    /// Whether they may log in. Disabling ends their sessions.
    pub disabled: Option<bool>,
    /// A new password. Ends their sessions, but not `keep_session`.
    pub password_hash: Option<PasswordHash>,
    /// The session in which they changed their own password.
    pub keep_session: Option<SessionId>,
    /// The credential version whose password was checked; another one by now refuses the change.
    pub credential_version: Option<i64>,
}

impl UserChange {
    /// Whether the user may have fewer rights afterwards.
    fn may_reduce_rights(&self) -> bool {
        self.roles.is_some() || self.disabled == Some(true)
    }
}

/// The outcome of a change of a user.
#[derive(Clone, Debug)]
pub enum UserWrite {
    /// Done; the user as they are now (or were, when they were deleted).
    Done(Box<UserRow>),
    /// No such user, or their credentials changed since they were checked.
    NotFound,
    /// Another user has the name.
    NameTaken,
    /// No role has this name.
    UnknownRole(String),
    /// The actor lacks permissions that the user has or would get.
    Escalation,
    /// Nobody would have full rights any more.
    LastAdministrator,
}

/// Where a page of users starts and how long it is.
#[derive(Clone, Debug)]
pub struct UserPage {
    /// The user name after which the page starts.
    pub after: Option<String>,
    /// The greatest number of users.
    pub limit: u32,
}

const COLUMNS: &str = "users.id AS id, username,
    (SELECT string_agg(role, ' ') FROM user_roles WHERE user_roles.user_id = users.id) AS roles,
    (SELECT string_agg(permissions, ' ') FROM roles JOIN user_roles ON role = name
      WHERE user_roles.user_id = users.id AND permissions <> '') AS permissions,
    claims, created_at, disabled_at";

impl SqlStore {
    /// Creates a user and records `event`, if `authority` covers the roles.
    pub async fn create_user(
        &self,
        new: NewUser,
        authority: Authority,
        event: AuditEvent,
    ) -> Result<UserWrite, StoreError> {
        self.transaction(async move |tx| {
            if new.roles.iter().any(|role| role == ADMIN_ROLE) {
                // Built in, so it can be granted before the bootstrap, and after a release before this one deleted its row. Comes first,
                // because it waits for a transaction that holds the row; see `LastAdministrator`.
                ensure_admin_role(tx).await?;
            }
            let Some(now) = insert(tx, &new).await? else { return Ok(Undo(UserWrite::NameTaken)) };
            let written = grant(tx, new.id, &new.roles, &authority).await?;
            Ok(kept_if_done(written, event.at(now)))
        })
        .await
    }

    /// Changes a user and records `event`, if `authority` covers what they hold and what they get.
    ///
    /// Refused if it would take the last administrator away. Disabling and a new password first make every login that is under way fail, then end the sessions.
    pub async fn change_user(
        &self,
        id: UserId,
        change: UserChange,
        authority: Authority,
        event: AuditEvent,
    ) -> Result<UserWrite, StoreError> {
        self.transaction(async move |tx| {
            let last = if change.may_reduce_rights() {
                LastAdministrator::lock(tx, &authority).await?
            } else {
                LastAdministrator::unaffected()
            };
            let Some((user, now)) = lock(tx, id, &change).await? else {
                return Ok(Undo(UserWrite::NotFound));
            };
            if !authority.covers(&user.permissions) {
                return Ok(Undo(UserWrite::Escalation));
            }
            let written = apply(tx, user, &change, &authority).await?;
            if last.is_gone(tx).await? {
                return Ok(Undo(UserWrite::LastAdministrator));
            }
            Ok(kept_if_done(written, event.at(now)))
        })
        .await
    }

    /// Deletes a user with their sessions and records `event`, if `authority` covers what they hold. Refused if they are the last
    /// administrator.
    pub async fn delete_user(
        &self,
        id: UserId,
        authority: Authority,
        event: AuditEvent,
    ) -> Result<UserWrite, StoreError> {
        self.transaction(async move |tx| {
            let last = LastAdministrator::lock(tx, &authority).await?;
            let Some((user, now)) = lock(tx, id, &UserChange::default()).await? else {
                return Ok(Undo(UserWrite::NotFound));
            };
            if !authority.covers(&user.permissions) {
                return Ok(Undo(UserWrite::Escalation));
            }
            // Their rows go with the user; what was revoked stays known.
            let id = id.to_string();
            super::sessions::end_of_user(tx, &id, "", EndReason::UserDeleted).await?;
            tx.fetch("DELETE FROM users WHERE id = $1", arguments![id]).await?;
            if last.is_gone(tx).await? {
                return Ok(Undo(UserWrite::LastAdministrator));
            }
            Ok(Keep(UserWrite::Done(Box::new(user)), vec![event.at(now)]))
        })
        .await
    }

    /// The user with this id.
    pub async fn find_user(&self, id: UserId) -> Result<Option<UserRow>, StoreError> {
        self.find("users.id = $1", id.to_string()).await
    }

    /// The user with this normalised name.
    pub async fn find_user_named(&self, username: &str) -> Result<Option<UserRow>, StoreError> {
        self.find("username = $1", username.to_owned()).await
    }

    async fn find(&self, which: &'static str, value: String) -> Result<Option<UserRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM users WHERE {which}");
        self.read(sql, arguments![value], |rows| rows.first().map(read_user).transpose()).await
    }

    /// A page of users, ordered by name.
    pub async fn users(&self, page: UserPage) -> Result<Vec<UserRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM users WHERE username > $1 ORDER BY username LIMIT $2");
        let arguments = arguments![page.after.unwrap_or_default(), i64::from(page.limit)];
        self.read(sql, arguments, |rows| rows.iter().map(read_user).collect()).await
    }
}

fn kept_if_done(written: UserWrite, entry: Entry) -> Outcome<UserWrite> {
    match written {
        UserWrite::Done(_) => Keep(written, vec![entry]),
        refused => Undo(refused),
    }
}

/// Inserts the user without roles. `None`: the name is taken.
pub(super) async fn insert(tx: &mut Transaction, new: &NewUser) -> Result<Option<UnixTime>, StoreError> {
    let sql = "INSERT INTO users (id, username, password_hash, credential_version, claims, created_at)
               VALUES ($2, $3, $4, 0, $5, {now}) ON CONFLICT DO NOTHING RETURNING created_at";
    let arguments = arguments![
        new.id.to_string(),
        new.username.as_str(),
        new.password_hash.as_str(),
        Value::Object(new.claims.clone()).to_string(),
    ];
    tx.first(sql, arguments).await?.map(|row| row.time("created_at")).transpose()
}

/// Replaces the user's roles, if they exist and `authority` covers what the user then holds.
async fn grant(
    tx: &mut Transaction,
    id: UserId,
    roles: &[String],
    authority: &Authority,
) -> Result<UserWrite, StoreError> {
    tx.fetch("DELETE FROM user_roles WHERE user_id = $1", arguments![id.to_string()]).await?;
    for role in roles {
        let sql = "INSERT INTO user_roles (user_id, role) SELECT $1, name FROM roles WHERE name = $2
                   ON CONFLICT (user_id, role) DO UPDATE SET role = excluded.role RETURNING role";
        if tx.first(sql, arguments![id.to_string(), role.as_str()]).await?.is_none() {
            return Ok(UserWrite::UnknownRole(role.clone()));
        }
    }
    let user = reread(tx, id).await?;
    Ok(if authority.covers(&user.permissions) {
        UserWrite::Done(Box::new(user))
    } else {
        UserWrite::Escalation
    })
}

/// Locks the user's row; a change of credentials is counted first, so that logins under way fail.
async fn lock(
    tx: &mut Transaction,
    id: UserId,
    change: &UserChange,
) -> Result<Option<(UserRow, UnixTime)>, StoreError> {
    let counts = change.password_hash.is_some() || change.disabled == Some(true);
    let sql = format!(
        "UPDATE users SET credential_version = credential_version + $3
          WHERE id = $2 AND credential_version = COALESCE($4, credential_version) RETURNING {COLUMNS}, {{now}} AS now"
    );
    let arguments = arguments![id.to_string(), i64::from(counts), change.credential_version];
    let Some(row) = tx.first(&sql, arguments).await? else { return Ok(None) };
    Ok(Some((read_user(&row)?, row.time("now")?)))
}

async fn apply(
    tx: &mut Transaction,
    user: UserRow,
    change: &UserChange,
    authority: &Authority,
) -> Result<UserWrite, StoreError> {
    let id = user.id.to_string();
    if let Some(claims) = &change.claims {
        let json = Value::Object(claims.clone()).to_string();
        tx.fetch("UPDATE users SET claims = $2 WHERE id = $1", arguments![id.as_str(), json]).await?;
    }
    if let Some(hash) = &change.password_hash {
        tx.fetch("UPDATE users SET password_hash = $2 WHERE id = $1", arguments![id.as_str(), hash.as_str()])
            .await?;
        let keep = change.keep_session.map(|id| id.to_string()).unwrap_or_default();
        super::sessions::end_of_user(tx, &id, &keep, EndReason::PasswordChanged).await?;
    }
    match change.disabled {
        Some(true) => {
            let sql = "UPDATE users SET disabled_at = COALESCE(disabled_at, {now}) WHERE id = $2";
            tx.fetch(sql, arguments![id.as_str()]).await?;
            super::sessions::end_of_user(tx, &id, "", EndReason::UserDisabled).await?;
        }
        Some(false) => {
            tx.fetch("UPDATE users SET disabled_at = NULL WHERE id = $1", arguments![id]).await?;
        }
        None => {}
    }
    match &change.roles {
        Some(roles) => grant(tx, user.id, roles, authority).await,
        None => Ok(UserWrite::Done(Box::new(reread(tx, user.id).await?))),
    }
}

async fn reread(tx: &mut Transaction, id: UserId) -> Result<UserRow, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE users.id = $1");
    read_user(&only(tx.fetch(&sql, arguments![id.to_string()]).await?, "users")?)
}

fn read_user(row: &Row) -> Result<UserRow, StoreError> {
    let roles = sorted_words(row.text_if_any("roles")?);
    let stored = permissions(row.text_if_any("permissions")?)?;
    Ok(UserRow {
        id: UserId::parse(&row.text("id")?).ok_or_else(|| unreadable("id"))?,
        username: row.text("username")?,
        permissions: permissions_of(roles.iter().map(String::as_str), stored),
        roles,
        claims: claims(&row.text("claims")?)?,
        created_at: row.time("created_at")?,
        disabled_at: row.time_if_any("disabled_at")?,
    })
}

fn sorted_words(words: Option<String>) -> Vec<String> {
    let mut words: Vec<String> =
        words.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    words.sort_unstable();
    words
}

pub(super) fn permissions(words: Option<String>) -> Result<PermissionSet, StoreError> {
    PermissionSet::parse(&words.unwrap_or_default()).map_err(|_| unreadable("permissions"))
}

fn claims(json: &str) -> Result<Map<String, Value>, StoreError> {
    serde_json::from_str(json).map_err(|_| unreadable("claims"))
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { table: "users", what: what.to_owned() }
}
