//! One session in a database: in memory, or in a real one that has to agree with the one in memory at every
//! step.

use std::path::Path;
use std::sync::Arc;

use crate::proof::proof;
use auth_service::domain::audit::{AuditEvent, EventKind};
use auth_service::domain::authority::Authority;
use auth_service::domain::password::PasswordHash;
use auth_service::domain::session::{EndReason, RefreshState, Session, SessionId};
use auth_service::domain::user::UserId;
use auth_service::store::{Advance, LiveSession, NewSession, NewUser, SqlStore, UserWrite};
use e2e::postgres::Postgres;
use tempfile::TempDir;
use verifier::{ManualClock, Seconds, UnixTime};

pub(crate) const MAC_KEY: u32 = 1;
/// Longer than any history.
pub(crate) const LIFE: Seconds = Seconds(365 * 86_400);
const START: UnixTime = UnixTime(1_800_000_000);

/// The statements of a replica.
pub(crate) trait Database {
    /// Advances the database's clock.
    fn wait(&mut self, seconds: i64);
    async fn advance(&mut self, step: Advance) -> Option<Session>;
    /// The session and the database's clock.
    async fn find(&mut self) -> (Session, UnixTime);
    async fn end(&mut self);
    fn backup(&self) -> Session;
    async fn restore(&mut self, backup: Session);
}

/// The statements of `store/sessions.rs`, condition by condition.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    session: Session,
    now: UnixTime,
}

impl Model {
    pub(crate) fn new() -> Self {
        let refresh =
            RefreshState { accepted: 0, floor: 0, generation: 1, refreshed_at: START, mac_key_id: MAC_KEY };
        let session = Session {
            id: SessionId::from_random([7; 16]),
            user_id: UserId::from_random([8; 16]),
            client_id: "first-party".to_owned(),
            audience: "api".to_owned(),
            scope: None,
            refresh,
            auth_time: START,
            amr: "pwd".to_owned(),
            created_at: START,
            idle_expires_at: START + LIFE,
            expires_at: START + LIFE,
            ended_at: None,
            user_agent: None,
            address: None,
        };
        Self { session, now: START }
    }

    fn advance_now(&mut self, step: Advance) -> Option<Session> {
        let RefreshState { accepted, floor, generation, .. } = self.session.refresh;
        let next = |accepted, floor, generation| RefreshState {
            accepted,
            floor,
            generation,
            refreshed_at: self.now,
            mac_key_id: MAC_KEY,
        };
        let moved = match step {
            Advance::Outstanding(shown) if floor < shown && shown <= generation => {
                next(shown, generation, generation + 1)
            }
            Advance::Recover { accepted: shown, generation: seen }
                if accepted == shown && generation == seen =>
            {
                next(accepted, floor, generation + 1)
            }
            Advance::FastForward { presented, generation: seen }
                if generation == seen && generation < presented =>
            {
                next(presented, presented, presented + 1)
            }
            _ => return None,
        };
        if !self.session.is_alive(self.now) {
            return None;
        }
        self.session.refresh = moved;
        self.session.idle_expires_at = self.now + LIFE;
        Some(self.session.clone())
    }

    fn end_now(&mut self) {
        self.session.ended_at.get_or_insert(self.now);
    }
}

impl Database for Model {
    fn wait(&mut self, seconds: i64) {
        self.now = self.now + Seconds(seconds);
    }

    async fn advance(&mut self, step: Advance) -> Option<Session> {
        self.advance_now(step)
    }

    async fn find(&mut self) -> (Session, UnixTime) {
        (self.session.clone(), self.now)
    }

    async fn end(&mut self) {
        self.end_now();
    }

    fn backup(&self) -> Session {
        self.session.clone()
    }

    async fn restore(&mut self, backup: Session) {
        self.session = backup;
    }
}

/// A session in a migrated database of either kind.
#[derive(Debug)]
pub(crate) struct Real {
    store: SqlStore,
    clock: Arc<ManualClock>,
    id: SessionId,
    /// Runs the same steps and must reach the same state.
    model: Model,
    raw: Raw,
}

/// Direct access to the database, to replace a new row with an old one.
#[derive(Clone, Debug)]
enum Raw {
    Sqlite { pool: sqlx::SqlitePool, _folder: Arc<TempDir> },
    Postgres(sqlx::PgPool),
}

impl Real {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.db");
        let clock = Arc::new(ManualClock::new(START));
        let store = SqlStore::open_sqlite(&path, clock.clone(), "replica-a", Seconds(400)).await.unwrap();
        store.migrate().await.unwrap();
        let pool = sqlx::SqlitePool::connect_lazy(&url(&path)).unwrap();
        Self::with_user(store, clock, Raw::Sqlite { pool, _folder: Arc::new(folder) }).await
    }

    pub(crate) async fn postgres() -> Self {
        let url = tokio::task::spawn_blocking(|| Postgres::shared().create_database().url()).await.unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let store = SqlStore::connect_postgres(&url, clock.clone(), "replica-a", Seconds(400)).await.unwrap();
        store.migrate().await.unwrap();
        let pool = sqlx::PgPool::connect_lazy(&url).unwrap();
        Self::with_user(store, clock, Raw::Postgres(pool)).await
    }

    async fn with_user(store: SqlStore, clock: Arc<ManualClock>, raw: Raw) -> Self {
        let new = NewUser {
            id: UserId::from_random([8; 16]),
            username: "ann".to_owned(),
            password_hash: PasswordHash::from_stored("$argon2id$".to_owned()),
            roles: Vec::new(),
            claims: serde_json::Map::new(),
        };
        let created =
            store.create_user(new, Authority::Unlimited, event(EventKind::UserCreated)).await.unwrap();
        assert!(matches!(created, UserWrite::Done(_)), "{created:?}");
        Self { store, clock, id: SessionId::from_random([0; 16]), model: Model::new(), raw }
    }

    /// Another session in the same database.
    pub(crate) async fn session(&self, number: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        let id = SessionId::from_random(bytes);
        let new = NewSession {
            id,
            proof: proof(UserId::from_random([8; 16]), START),
            rehashed: None,
            client_id: "first-party".to_owned(),
            audience: "api".to_owned(),
            scope: None,
            mac_key_id: MAC_KEY,
            idle_ttl: LIFE,
            absolute_ttl: LIFE,
            max_sessions: 0,
            user_agent: None,
            address: None,
            network: None,
        };
        let live = self.store.create_session(new, event(EventKind::Login)).await.unwrap().unwrap();
        let model = Model { session: live.session, now: live.seen.now };
        let (store, clock, raw) = (self.store.clone(), Arc::clone(&self.clock), self.raw.clone());
        Self { store, clock, id, model, raw }
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn store(&self) -> &SqlStore {
        &self.store
    }

    /// Compares the session with the model.
    fn agree(&mut self, live: &LiveSession) {
        assert_eq!(self.model.session, live.session, "the model and the database differ");
        self.model.now = live.seen.now;
    }
}

impl Database for Real {
    fn wait(&mut self, seconds: i64) {
        self.clock.advance(Seconds(seconds));
        self.store.shift_server_clock(seconds);
    }

    async fn advance(&mut self, step: Advance) -> Option<Session> {
        let advanced = self.store.advance_session(self.id, step, MAC_KEY, LIFE).await.unwrap();
        if let Some(live) = &advanced {
            self.model.now = live.seen.now;
        }
        let modelled = self.model.advance_now(step);
        assert_eq!(advanced.as_ref().map(|live| &live.session), modelled.as_ref(), "{step:?}");
        modelled
    }

    async fn find(&mut self) -> (Session, UnixTime) {
        let live = self.store.find_session(self.id).await.unwrap().unwrap();
        self.agree(&live);
        (live.session, live.seen.now)
    }

    async fn end(&mut self) {
        let ended = self
            .store
            .end_session(self.id, EndReason::RefreshReuse, event(EventKind::RefreshReuse))
            .await
            .unwrap();
        assert_eq!(ended, self.model.session.ended_at.is_none());
        let live = self.store.find_session(self.id).await.unwrap().unwrap();
        self.model.session.ended_at = self.model.session.ended_at.or(live.session.ended_at);
        assert!(live.session.ended_at.is_some());
        self.agree(&live);
    }

    fn backup(&self) -> Session {
        self.model.session.clone()
    }

    async fn restore(&mut self, backup: Session) {
        let sql = "UPDATE sessions SET accepted = $1, floor = $2, generation = $3, refreshed_at = $4,
                          idle_expires_at = $5, ended_at = NULL, end_reason = NULL WHERE id = $6";
        let state = backup.refresh;
        macro_rules! restore {
            ($pool:expr) => {
                sqlx::query(sql)
                    .bind(i64::from(state.accepted))
                    .bind(i64::from(state.floor))
                    .bind(i64::from(state.generation))
                    .bind(state.refreshed_at.0)
                    .bind(backup.idle_expires_at.0)
                    .bind(self.id.to_string())
                    .execute($pool)
                    .await
                    .unwrap()
                    .rows_affected()
            };
        }
        let rows = match &self.raw {
            Raw::Sqlite { pool, .. } => restore!(pool),
            Raw::Postgres(pool) => restore!(pool),
        };
        assert_eq!(rows, 1);
        self.model.session = backup;
    }
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

fn event(kind: EventKind) -> AuditEvent {
    AuditEvent::new(kind).by("test")
}
