//! A migrated database of either kind, with a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::proof::proof;
use auth_service::domain::audit::{AuditEvent, EventKind};
use auth_service::domain::authority::Authority;
use auth_service::domain::password::PasswordHash;
use auth_service::domain::session::SessionId;
use auth_service::domain::user::{PermissionSet, UserId};
use auth_service::store::{AuditFilter, LiveSession, NewSession, NewUser, SqlStore, UserRow, UserWrite};
use e2e::postgres::Postgres;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use verifier::{ManualClock, Seconds, UnixTime};

pub(crate) struct Bed {
    pub(crate) store: SqlStore,
    clock: Arc<ManualClock>,
    next_id: AtomicU64,
    /// Of a SQLite file.
    folder: Option<TempDir>,
    /// Of PostgreSQL.
    url: String,
}

pub(crate) const MAC_KEY: u32 = 1;
/// The retention of revocations.
pub(crate) const KEEP_FOR: Seconds = Seconds(400);
pub(crate) const IDLE: Seconds = Seconds(1_000);
pub(crate) const ABSOLUTE: Seconds = Seconds(5_000);

/// When the users of the sessions authenticated.
pub(crate) const PROVED_AT: UnixTime = UnixTime(1_700_000_000);

impl Bed {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
        let path = folder.path().join("auth.db");
        let store = SqlStore::open_sqlite(&path, clock.clone(), "replica-a", KEEP_FOR).await.unwrap();
        Self::migrated(store, clock, Some(folder), String::new()).await
    }

    pub(crate) async fn postgres() -> Self {
        let clock = Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
        let url = tokio::task::spawn_blocking(|| Postgres::shared().create_database().url()).await.unwrap();
        let store = SqlStore::connect_postgres(&url, clock.clone(), "replica-a", KEEP_FOR).await.unwrap();
        Self::migrated(store, clock, None, url).await
    }

    async fn migrated(
        store: SqlStore,
        clock: Arc<ManualClock>,
        folder: Option<TempDir>,
        url: String,
    ) -> Self {
        let all = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations")).unwrap().count();
        assert_eq!(store.migrate().await.unwrap().len(), all);
        assert!(store.migrate().await.unwrap().is_empty(), "a second run applies nothing");
        Self { store, clock, next_id: AtomicU64::new(1), folder, url }
    }

    /// The same database as another replica sees it; its clock is not moved. SQLite serves one process, so there it is the same store.
    pub(crate) async fn another(&self) -> SqlStore {
        if self.folder.is_some() {
            return self.store.clone();
        }
        let name = format!("replica-{}", self.next_id.fetch_add(1, Ordering::Relaxed));
        SqlStore::connect_postgres(&self.url, self.clock.clone(), &name, KEEP_FOR).await.unwrap()
    }

    /// Advances the clock of the database's statements.
    pub(crate) fn advance(&self, seconds: i64) {
        self.clock.advance(Seconds(seconds));
        self.store.shift_server_clock(seconds);
    }

    /// Waits for the start of a second on PostgreSQL, so that the next statements run within it. SQLite's
    /// clock is manual.
    pub(crate) async fn start_of_a_second(&self) {
        if self.folder.is_none() {
            let second = async || self.store.confirmation().await.unwrap().now;
            let before = second().await;
            while second().await == before {}
        }
    }

    /// How often PostgreSQL had to break a deadlock in this database.
    pub(crate) async fn deadlocks(&self) -> i64 {
        if self.folder.is_some() {
            return 0;
        }
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        // A session hands its counts in when it ends, or a second after its last statement.
        sqlx::query("SELECT pg_stat_force_next_flush()").execute(&mut connection).await.unwrap();
        let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    }

    /// Sixteen bytes that are unique within this bed.
    pub(crate) fn fresh(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&self.next_id.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes
    }

    pub(crate) async fn role(&self, name: &str, permissions: &str) {
        let permissions = PermissionSet::parse(permissions).unwrap();
        self.store.put_role(name.to_owned(), permissions, Authority::Unlimited, event()).await.unwrap();
    }

    pub(crate) fn new_user(&self, username: &str, roles: &[&str]) -> NewUser {
        NewUser {
            id: UserId::from_random(self.fresh()),
            username: username.to_owned(),
            password_hash: PasswordHash::from_stored("$argon2id$".to_owned()),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            claims: serde_json::Map::new(),
        }
    }

    pub(crate) async fn user(&self, username: &str, roles: &[&str]) -> UserRow {
        let new = self.new_user(username, roles);
        let outcome = self.store.create_user(new, Authority::Unlimited, event()).await.unwrap();
        let UserWrite::Done(user) = outcome else { panic!("{outcome:?}") };
        *user
    }

    pub(crate) fn new_session(&self, user_id: UserId) -> NewSession {
        NewSession {
            id: SessionId::from_random(self.fresh()),
            proof: proof(user_id, PROVED_AT),
            rehashed: None,
            client_id: "first-party".to_owned(),
            audience: "api".to_owned(),
            scope: None,
            mac_key_id: MAC_KEY,
            idle_ttl: IDLE,
            absolute_ttl: ABSOLUTE,
            max_sessions: 0,
            user_agent: Some("test/1".to_owned()),
            address: Some("192.0.2.1".to_owned()),
            network: None,
        }
    }

    pub(crate) async fn session(&self, user: UserId) -> LiveSession {
        self.store
            .create_session(self.new_session(user), event())
            .await
            .unwrap()
            .expect("the user may log in")
    }

    /// A session whose idle and absolute expiry are both `ttl`.
    pub(crate) async fn session_for(&self, user: UserId, ttl: Seconds) -> LiveSession {
        let new = NewSession { idle_ttl: ttl, absolute_ttl: ttl, ..self.new_session(user) };
        self.store.create_session(new, event()).await.unwrap().expect("the user may log in")
    }

    /// The number of audit entries of this kind.
    pub(crate) async fn recorded(&self, kind: EventKind) -> usize {
        let rows = self.store.audit_page(&AuditFilter::default(), None, 10_000).await.unwrap();
        rows.iter().filter(|row| row.event == kind.as_str()).count()
    }
}

pub(crate) fn event() -> AuditEvent {
    AuditEvent::new(EventKind::UserChanged).by("test")
}

/// Runs the same operation in 64 parallel tasks and returns their results.
pub(crate) async fn race<T, F>(bed: &Bed, act: impl Fn(SqlStore) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(tokio::sync::Barrier::new(64));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (barrier, act) = (Arc::clone(&barrier), act(bed.store.clone()));
            tokio::spawn(async move {
                barrier.wait().await;
                act.await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}
