//! Sessions: created under the lock of their user, moved on by compare-and-set.

use verifier::{Seconds, UnixTime};

use super::engine::database::Transaction;
use super::engine::row::{Argument, Row, arguments, only};
use super::revocations::{revoke_recently_refreshed, revoke_sessions};
use super::transaction::Outcome::{Keep, Undo};
use super::{Confirmation, SqlStore, StoreError};
use crate::domain::audit::AuditEvent;
use crate::domain::authority::permissions_of;
use crate::domain::proof::Proof;
use crate::domain::session::{EndReason, Generation, RefreshState, Session, SessionId};
use crate::domain::user::{PermissionSet, UserId};

/// A session together with its user's present rights, read in one statement.
#[derive(Clone, Debug)]
pub struct LiveSession {
    /// The session.
    pub session: Session,
    /// Its user.
    pub user: SessionUser,
    /// What the statement saw.
    pub seen: Confirmation,
}

/// A place in a list of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCursor {
    created_at: UnixTime,
    expires_at: UnixTime,
    id: SessionId,
}

impl SessionCursor {
    /// The place of this session.
    pub fn at(session: &Session) -> Self {
        Self { created_at: session.created_at, expires_at: session.expires_at, id: session.id }
    }
}

/// The present state of what tokens say about their user.
#[derive(Clone, Debug)]
pub struct SessionUser {
    /// The normalised user name.
    pub username: String,
    /// Sorted names.
    pub roles: Vec<String>,
    /// The permissions of all roles together.
    pub permissions: PermissionSet,
    /// Extra claims.
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// When the user was disabled.
    pub disabled_at: Option<UnixTime>,
}

/// The outcome of one step of ending every session.
#[derive(Clone, Debug, Default)]
pub struct EndedBatch {
    /// How many sessions ended.
    pub count: u64,
    /// The id after which the next step starts; `None` if no session follows.
    pub last: Option<String>,
}

/// A session to be created.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// What its user proved. If the credentials changed since, the login is refused.
    pub proof: Proof,
    /// A better hash of the same password, if the policy requires one.
    pub rehashed: Option<String>,
    /// The application acting for the user.
    pub client_id: String,
    /// The resource server.
    pub audience: String,
    /// The permissions that were requested.
    pub scope: Option<String>,
    /// The key that will authenticate the first refresh token.
    pub mac_key_id: u32,
    /// Life without refresh.
    pub idle_ttl: Seconds,
    /// Life altogether.
    pub absolute_ttl: Seconds,
    /// How many sessions the user may have; the oldest ends. 0: no limit.
    pub max_sessions: u32,
    /// `User-Agent` of the login.
    pub user_agent: Option<String>,
    /// Client address of the login.
    pub address: Option<String>,
    /// Hash of the network to be known for the user from now on.
    pub network: Option<String>,
}

/// A step of a session's refresh token, made only if the session still is as the caller saw it.
#[derive(Clone, Copy, Debug)]
pub enum Advance {
    /// The presented generation is outstanding: the normal case.
    Outstanding(Generation),
    /// The response to `accepted` was lost; `generation` is the newest one seen.
    Recover {
        /// The generation that was presented again.
        accepted: Generation,
        /// The newest generation that was read.
        generation: Generation,
    },
    /// The presented generation is ahead of the database (restored from a backup); `generation` is the newest one seen.
    FastForward {
        /// The generation that was presented.
        presented: Generation,
        /// The newest generation that was read.
        generation: Generation,
    },
}

/// The columns of [`read_live`]. Correlated by the table's own name, which both databases accept in RETURNING. The user is one column,
/// because each subquery costs the hot path as much as a third of a plain update: name, time of disabling, roles and claims, a line
/// each. See [`read_user`].
const LIVE: &str =
    "id, user_id, client_id, audience, scope, accepted, floor, generation, refreshed_at, mac_key_id,
    auth_time, amr, created_at, idle_expires_at, expires_at, ended_at, user_agent, address,
    (SELECT username || '
' || COALESCE(CAST(disabled_at AS TEXT), '') || '
' || COALESCE((SELECT string_agg(role || ' ' || permissions, '\"')
        FROM user_roles JOIN roles ON role = name WHERE user_roles.user_id = users.id), '') || '
' || claims FROM users WHERE users.id = sessions.user_id) AS user_lines,
    {now} AS now, {keys_version} AS keys_version";

pub(super) const ALIVE: &str = "ended_at IS NULL AND expires_at > {now} AND idle_expires_at > {now}";

impl SqlStore {
    /// Creates a session and records the login, in one transaction that first locks the user.
    ///
    /// `None`: the user is disabled or deleted, or the password was changed since it was checked. So no login with an old password
    /// can slip past the change.
    pub async fn create_session(
        &self,
        new: NewSession,
        event: AuditEvent,
    ) -> Result<Option<LiveSession>, StoreError> {
        self.transaction(async move |tx| {
            if !lock_user(tx, &new).await? {
                return Ok(Undo(None));
            }
            let live = insert(tx, &new).await?;
            enforce_limit(tx, &new).await?;
            if let Some(network) = &new.network {
                super::login::remember_network(tx, new.proof.user(), network).await?;
            }
            let now = live.seen.now;
            Ok(Keep(Some(live), vec![event.at(now)]))
        })
        .await
    }

    /// Moves a session's refresh token one step. One statement, one round trip; of any number of callers with the same step one
    /// gets the session.
    ///
    /// `None`: the session is not (or no longer) as the step expects it, or has ended or expired.
    pub async fn advance_session(
        &self,
        id: SessionId,
        step: Advance,
        mac_key_id: u32,
        idle_ttl: Seconds,
    ) -> Result<Option<LiveSession>, StoreError> {
        let (set, expected, shown, seen) = match step {
            Advance::Outstanding(presented) => (
                "accepted = $5, floor = generation, generation = generation + 1",
                "floor < $5 AND $5 <= generation",
                presented,
                None,
            ),
            Advance::Recover { accepted, generation } => (
                "generation = generation + 1",
                "accepted = $5 AND generation = $6",
                accepted,
                Some(generation),
            ),
            Advance::FastForward { presented, generation } => (
                "accepted = $5, floor = $5, generation = $5 + 1",
                "generation = $6 AND generation < $5",
                presented,
                Some(generation),
            ),
        };
        let sql = format!(
            "UPDATE sessions SET {set}, mac_key_id = $3, refreshed_at = {{now}}, idle_expires_at = {{now}} + $4
              WHERE id = $2 AND {expected} AND {ALIVE}
             RETURNING {LIVE}"
        );
        let mut arguments = arguments![id.to_string(), i64::from(mac_key_id), idle_ttl.0, i64::from(shown)];
        arguments.extend(seen.map(|generation| Argument::from(i64::from(generation))));
        self.write(sql, arguments, |rows| rows.first().map(read_live).transpose()).await
    }

    /// The session as it is now, also when it has ended or expired.
    pub async fn find_session(&self, id: SessionId) -> Result<Option<LiveSession>, StoreError> {
        let sql = format!("SELECT {LIVE} FROM sessions WHERE id = $2");
        let found =
            self.read(sql, arguments![id.to_string()], |rows| rows.first().map(read_live).transpose());
        let found = found.await?;
        if found.is_none() {
            // A standby that lags does not know it yet.
            self.confirmation().await?;
        }
        Ok(found)
    }

    /// Ends a session and records `event`. A session that already ended keeps its first end, and nothing is recorded.
    ///
    /// Returns whether this call ended it.
    pub async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        event: AuditEvent,
    ) -> Result<bool, StoreError> {
        self.end_where("id = $3 AND id <> $4", [id.to_string(), String::new()], reason, event)
            .await
            .map(|ended| ended > 0)
    }

    /// Ends all of a user's sessions except one, and records `event` if there were any. Returns how many.
    pub async fn end_sessions_of(
        &self,
        user: UserId,
        except: Option<SessionId>,
        reason: EndReason,
        event: AuditEvent,
    ) -> Result<u64, StoreError> {
        let except = except.map(|id| id.to_string()).unwrap_or_default();
        self.end_where("user_id = $3 AND id <> $4", [user.to_string(), except], reason, event).await
    }

    async fn end_where(
        &self,
        which: &'static str,
        values: [String; 2],
        reason: EndReason,
        event: AuditEvent,
    ) -> Result<u64, StoreError> {
        self.transaction(async move |tx| {
            let ended = end(tx, which, values.each_ref().map(String::as_str), reason).await?;
            Ok(match ended.now {
                Some(now) => Keep(ended.count, vec![event.at(now)]),
                None => Undo(0),
            })
        })
        .await
    }

    /// Ends those of the next `limit` sessions after the id `after` that are alive and began by `began_by`, and records `event` if there
    /// were any. One transaction: it reads and ends at most `limit` sessions, however many there are.
    ///
    /// Revokes only what may still have a token; see `revoke_recently_refreshed`.
    pub async fn end_batch(
        &self,
        after: String,
        limit: u32,
        began_by: UnixTime,
        reason: EndReason,
        event: Option<AuditEvent>,
    ) -> Result<EndedBatch, StoreError> {
        self.transaction(async move |tx| {
            let sql = "SELECT MAX(id) AS last FROM (SELECT id FROM sessions WHERE id > $1 ORDER BY id LIMIT $2) AS batch";
            let row = only(tx.fetch(sql, arguments![after.as_str(), i64::from(limit)]).await?, "sessions")?;
            let Some(last) = row.text_if_any("last")? else { return Ok(Undo(EndedBatch::default())) };
            let which = format!("id > $3 AND id <= $4 AND created_at <= {} AND {ALIVE}", began_by.0);
            let values = [after.as_str(), last.as_str()];
            let ended = mark_ended(tx, &which, values, reason).await?;
            let batch = EndedBatch { count: ended.count, last: Some(last.clone()) };
            let Some(now) = ended.now else { return Ok(Undo(batch)) };
            revoke_recently_refreshed(tx, "id > $3 AND id <= $4", values, now).await?;
            Ok(Keep(batch, event.iter().map(|event| event.at(now)).collect()))
        })
        .await
    }

    /// A user's live sessions, newest first; at most `limit`, after the last place of an earlier page.
    pub async fn sessions_of(
        &self,
        user: UserId,
        after: Option<(UnixTime, String)>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let sessions = self.live_after(Some(user), after, limit).await?;
        Ok(sessions.into_iter().map(|live| live.session).collect())
    }

    /// Live sessions of one user, newest first, or of all users, those that may live longest first; at most `limit`, after the last
    /// place of an earlier page.
    pub async fn live_sessions(
        &self,
        user: Option<UserId>,
        after: Option<SessionCursor>,
        limit: u32,
    ) -> Result<Vec<LiveSession>, StoreError> {
        let after = after.map(|place| {
            let at = if user.is_some() { place.created_at } else { place.expires_at };
            (at, place.id.to_string())
        });
        self.live_after(user, after, limit).await
    }

    /// Live sessions after a place: its time, which is `created_at` for one user and `expires_at` for all, and its id.
    async fn live_after(
        &self,
        user: Option<UserId>,
        after: Option<(UnixTime, String)>,
        limit: u32,
    ) -> Result<Vec<LiveSession>, StoreError> {
        // Each order has an index, so that a page costs the same however many sessions there are.
        let (condition, time) = match user {
            Some(_) => ("user_id = $2", "created_at"),
            None => ("$2 = ''", "expires_at"),
        };
        let (at, id) = after.unwrap_or((UnixTime(i64::MAX), String::new()));
        let sql = format!(
            "SELECT {LIVE} FROM sessions WHERE {condition} AND {ALIVE} AND ({time}, id) < ($3, $4)
              ORDER BY {time} DESC, id DESC LIMIT $5"
        );
        let user = user.map(|user| user.to_string()).unwrap_or_default();
        self.read(sql, arguments![user, at, id, i64::from(limit)], |rows| {
            rows.iter().map(read_live).collect()
        })
        .await
    }

    /// Deletes sessions that ended `keep_for` ago, at most `limit` of them. Returns how many.
    pub async fn purge_ended_sessions(&self, keep_for: Seconds, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM sessions WHERE id IN
            (SELECT id FROM sessions WHERE ended_at < {now} - $2 ORDER BY ended_at LIMIT $3) RETURNING 1";
        self.write_and_count(sql, arguments![keep_for.0, i64::from(limit)]).await
    }

    /// Deletes sessions that have been over for `keep_for`, at most `limit` of them. Returns how many.
    pub async fn purge_sessions(&self, keep_for: Seconds, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM sessions WHERE id IN
            (SELECT id FROM sessions WHERE expires_at < {now} - $2 ORDER BY expires_at LIMIT $3) RETURNING 1";
        self.write_and_count(sql, arguments![keep_for.0, i64::from(limit)]).await
    }
}

pub(super) struct Ended {
    pub(super) count: u64,
    /// The shared clock, when anything was ended.
    pub(super) now: Option<UnixTime>,
}

/// Ends the sessions of a user except one, which may be empty, and revokes their tokens.
pub(super) async fn end_of_user(
    tx: &mut Transaction,
    user: &str,
    except: &str,
    reason: EndReason,
) -> Result<Ended, StoreError> {
    end(tx, "user_id = $3 AND id <> $4", [user, except], reason).await
}

/// Ends the sessions that `which` selects by `$3` and `$4`, and revokes their tokens.
async fn end(
    tx: &mut Transaction,
    which: &str,
    values: [&str; 2],
    reason: EndReason,
) -> Result<Ended, StoreError> {
    let ended = mark_ended(tx, which, values, reason).await?;
    if let Some(now) = ended.now {
        revoke_sessions(tx, which, values, now).await?;
    }
    Ok(ended)
}

async fn mark_ended(
    tx: &mut Transaction,
    which: &str,
    [first, second]: [&str; 2],
    reason: EndReason,
) -> Result<Ended, StoreError> {
    let sql = format!(
        "UPDATE sessions SET ended_at = {{now}}, end_reason = $2 WHERE {which} AND ended_at IS NULL RETURNING ended_at"
    );
    let rows = tx.fetch(&sql, arguments![reason.as_str(), first, second]).await?;
    let now = rows.first().map(|row| row.time("ended_at")).transpose()?;
    Ok(Ended { count: rows.len() as u64, now })
}

async fn lock_user(tx: &mut Transaction, new: &NewSession) -> Result<bool, StoreError> {
    let sql = "UPDATE users SET last_login_at = {now}, password_hash = COALESCE($4, password_hash)
                WHERE id = $2 AND disabled_at IS NULL AND credential_version = $3 RETURNING id";
    let arguments =
        arguments![new.proof.user().to_string(), new.proof.credential_version(), new.rehashed.clone()];
    Ok(tx.first(sql, arguments).await?.is_some())
}

async fn insert(tx: &mut Transaction, new: &NewSession) -> Result<LiveSession, StoreError> {
    let sql = format!(
        "INSERT INTO sessions (id, user_id, client_id, audience, scope, accepted, floor, generation, mac_key_id, refreshed_at,
            auth_time, created_at, idle_expires_at, expires_at, user_agent, address, amr)
         VALUES ($2, $3, $4, $5, $6, 0, 0, 1, $7, {{now}}, $12, {{now}}, {{now}} + $8, {{now}} + $9, $10, $11, $13)
         RETURNING {LIVE}"
    );
    let arguments = arguments![
        new.id.to_string(),
        new.proof.user().to_string(),
        new.client_id.as_str(),
        new.audience.as_str(),
        new.scope.clone(),
        i64::from(new.mac_key_id),
        new.idle_ttl.0,
        new.absolute_ttl.0,
        new.user_agent.clone(),
        new.address.clone(),
        new.proof.at(),
        new.proof.amr(),
    ];
    read_live(&only(tx.fetch(&sql, arguments).await?, "sessions")?)
}

async fn enforce_limit(tx: &mut Transaction, new: &NewSession) -> Result<(), StoreError> {
    if new.max_sessions == 0 {
        return Ok(());
    }
    // The session just created has the newest time; among equals it must not be the one that ends.
    let sql = format!(
        "UPDATE sessions SET ended_at = {{now}}, end_reason = $5 WHERE id IN
            (SELECT id FROM sessions WHERE user_id = $2 AND id <> $3 AND {ALIVE}
              ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET $4) RETURNING ended_at"
    );
    let user = new.proof.user().to_string();
    let arguments = arguments![
        user.as_str(),
        new.id.to_string(),
        i64::from(new.max_sessions) - 1,
        EndReason::SessionLimit.as_str(),
    ];
    if let Some(row) = tx.first(&sql, arguments).await? {
        revoke_sessions(tx, "user_id = $3 AND id <> $4", [&user, ""], row.time("ended_at")?).await?;
    }
    Ok(())
}

fn read_live(row: &Row) -> Result<LiveSession, StoreError> {
    let unreadable = |what: &str| StoreError::Unreadable { table: "sessions", what: what.to_owned() };
    let number = |column: &str| -> Result<u32, StoreError> {
        u32::try_from(row.int(column)?).map_err(|_| unreadable(column))
    };
    let session = Session {
        id: SessionId::parse(&row.text("id")?).ok_or_else(|| unreadable("id"))?,
        user_id: UserId::parse(&row.text("user_id")?).ok_or_else(|| unreadable("user_id"))?,
        client_id: row.text("client_id")?,
        audience: row.text("audience")?,
        scope: row.text_if_any("scope")?,
        refresh: RefreshState {
            accepted: number("accepted")?,
            floor: number("floor")?,
            generation: number("generation")?,
            refreshed_at: row.time("refreshed_at")?,
            mac_key_id: number("mac_key_id")?,
        },
        auth_time: row.time("auth_time")?,
        amr: row.text("amr")?,
        created_at: row.time("created_at")?,
        idle_expires_at: row.time("idle_expires_at")?,
        expires_at: row.time("expires_at")?,
        ended_at: row.time_if_any("ended_at")?,
        user_agent: row.text_if_any("user_agent")?,
        address: row.text_if_any("address")?,
    };
    let user = read_user(&row.text("user_lines")?).ok_or_else(|| unreadable("user"))?;
    Ok(LiveSession { session, user, seen: Confirmation::read(row)? })
}

/// A line each: user name, time of disabling, roles, claims. Names hold no line breaks, and JSON escapes them. A role is its name and
/// its permissions, separated by spaces; roles are separated by a quotation mark, which no permission may contain.
fn read_user(lines: &str) -> Option<SessionUser> {
    let mut lines = lines.splitn(4, '\n');
    let (username, disabled_at, roles, claims) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let roles: Vec<(&str, &str)> =
        roles.split_terminator('"').filter_map(|role| role.split_once(' ')).collect();
    let mut names: Vec<String> = roles.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort_unstable();
    let permissions: Vec<&str> = roles
        .iter()
        .map(|(_, permissions)| *permissions)
        .filter(|permissions| !permissions.is_empty())
        .collect();
    let stored = PermissionSet::parse(&permissions.join(" ")).ok()?;
    Some(SessionUser {
        username: username.to_owned(),
        permissions: permissions_of(roles.iter().map(|(name, _)| *name), stored),
        roles: names,
        claims: serde_json::from_str(claims).ok()?,
        disabled_at: if disabled_at.is_empty() { None } else { Some(UnixTime(disabled_at.parse().ok()?)) },
    })
}
