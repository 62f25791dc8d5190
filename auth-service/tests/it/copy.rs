//! Refusals and detected changes of `copy`: the store's part, in one process. `tests/tests/it/growth.rs`
//! tests the whole migration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auth_service::domain::audit::{AuditEvent, EventKind};
use auth_service::domain::authority::{Actor, Authority};
use auth_service::domain::key::{Chain, Change, KeySchedule, NewKey, Plan};
use auth_service::domain::password::PasswordHash;
use auth_service::domain::user::{PermissionSet, UserId};
use auth_service::store::{CopyError, NewUser, SqlStore, UserWrite};
use e2e::postgres::Postgres;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use verifier::{Clock, Kid, Seconds, SystemClock, UnixTime};

const KEEP_FOR: Seconds = Seconds(400);

/// A used installation that is not open.
struct Source {
    folder: TempDir,
}

impl Source {
    async fn new(first_key: &str) -> Self {
        let source = Self { folder: tempfile::tempdir().unwrap() };
        let store = SqlStore::open_sqlite(&source.path(), clock(), "old", KEEP_FOR).await.unwrap();
        store.migrate().await.unwrap();
        let key =
            NewKey { kid: Kid::from(first_key.to_owned()), public_jwk: None, sealed: "sealed".to_owned() };
        let schedule = KeySchedule::starting(UnixTime(0));
        let announce = move |_: &[_], _, _| {
            Ok(Plan { changes: vec![Change::Announce { generation: 1, schedule }], successor: Some(1) })
        };
        store.change_keys(Chain::RefreshMac, Some(key), &Actor::system(), announce).await.unwrap().unwrap();
        // Capitals and punctuation, which databases may sort differently from bytes.
        for (number, name) in ["Zoe", "anna", "Äpfel", "_x", "éa", "B-1"].iter().enumerate() {
            add_user(&store, number, name).await;
        }
        for number in 0..1_200 {
            let permissions = PermissionSet::parse("read").unwrap();
            let name = format!("{}role-{number}", ["", "R", "_", "-"][number % 4]);
            store.put_role(name, permissions, Authority::Unlimited, event()).await.unwrap();
        }
        store.close().await;
        source
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("auth.db")
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn event() -> AuditEvent {
    AuditEvent::new(EventKind::UserChanged).by("test")
}

async fn add_user(store: &SqlStore, number: usize, name: &str) {
    let mut id = [7; 16];
    id[0] = u8::try_from(number).unwrap();
    let user = NewUser {
        id: UserId::from_random(id),
        username: name.to_owned(),
        password_hash: PasswordHash::from_stored("$argon2id$".to_owned()),
        roles: Vec::new(),
        claims: serde_json::Map::new(),
    };
    let outcome = store.create_user(user, Authority::Unlimited, event()).await.unwrap();
    assert!(matches!(outcome, UserWrite::Done(_)), "{outcome:?}");
}

async fn target() -> SqlStore {
    let url =
        tokio::task::spawn_blocking(|| Postgres::shared().create_database_in_english().url()).await.unwrap();
    SqlStore::connect_postgres(&url, clock(), "new", KEEP_FOR).await.unwrap()
}

/// Changes the file without the store.
fn change(path: &Path, sql: &'static str) {
    let url = format!("sqlite://{}", path.display());
    let work = async move {
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime().block_on(work)).join().unwrap();
}

/// Ends a copy when the target holds all users and some roles.
async fn interrupt(source: &Source, target: &SqlStore) {
    let (reached, mut is_reached) = tokio::sync::watch::channel(false);
    let path = source.path();
    let copy = target.copy_from(&path, |progress| {
        if progress.table == "roles" && progress.copied > 0 {
            reached.send_replace(true);
        }
    });
    tokio::select! {
        outcome = copy => panic!("it was not interrupted: {outcome:?}"),
        _ = is_reached.changed() => {}
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn copy_is_complete_and_the_target_opens_only_then() {
    let (source, target) = (Source::new("k1").await, target().await);
    interrupt(&source, &target).await;
    let refusal = target.migrate().await.unwrap_err().to_string();
    assert!(refusal.contains("run `auth-service copy` again"), "{refusal}");

    let mut there_already = 0;
    let compared = target
        .copy_from(&source.path(), |progress| {
            if progress.table == "roles" && there_already == 0 {
                there_already = progress.copied;
            }
        })
        .await
        .unwrap();
    assert!((500..1_200).contains(&there_already), "it goes on where it was: {there_already}");
    let rows = |name| compared.iter().find(|table| table.table == name).unwrap().rows;
    assert_eq!((rows("users"), rows("roles"), rows("audit")), (6, 1_200, 1_207));
    assert!(target.migrate().await.unwrap().is_empty(), "it is an ordinary database now");
    let again = target.copy_from(&source.path(), |_| {}).await;
    assert!(matches!(again, Err(CopyError::TargetInUse("users"))), "{again:?}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn source_changes_during_a_copy_are_detected() {
    let (source, target) = (Source::new("k1").await, target().await);
    let mut changed = false;
    let outcome = target
        .copy_from(&source.path(), |progress| {
            if progress.table == "audit" && !changed {
                changed = true;
                change(&source.path(), "UPDATE users SET last_login_at = 1");
            }
        })
        .await;
    assert!(matches!(outcome, Err(CopyError::SourceChanged)), "{outcome:?}");
    assert!(target.migrate().await.is_err(), "the target stays closed");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn source_changes_between_two_runs_are_detected() {
    let (source, target) = (Source::new("k1").await, target().await);
    interrupt(&source, &target).await;
    change(&source.path(), "UPDATE users SET credential_version = 1 WHERE username = 'anna'");
    let outcome = target.copy_from(&source.path(), |_| {}).await;
    assert!(matches!(outcome, Err(CopyError::Differs { table: "users", .. })), "{outcome:?}");
    assert!(target.migrate().await.is_err(), "the target stays closed");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn target_of_another_installation_is_refused() {
    let (source, other, target) = (Source::new("k1").await, Source::new("k2").await, target().await);
    interrupt(&source, &target).await;
    let outcome = target.copy_from(&other.path(), |_| {}).await;
    assert!(matches!(outcome, Err(CopyError::TargetIsAnothers)), "{outcome:?}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn live_target_is_refused() {
    let (source, target) = (Source::new("k1").await, target().await);
    target.migrate().await.unwrap();
    add_user(&target, 0, "somebody").await;
    let outcome = target.copy_from(&source.path(), |_| {}).await;
    assert!(matches!(outcome, Err(CopyError::TargetInUse("users"))), "{outcome:?}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn source_that_cannot_be_copied_stays_unchanged() {
    let (folder, target) = (tempfile::tempdir().unwrap(), target().await);
    let missing = folder.path().join("auth.db");
    let outcome = target.copy_from(&missing, |_| {}).await;
    assert!(matches!(outcome, Err(CopyError::File { .. })), "{outcome:?}");
    assert!(!missing.exists(), "nothing is created");

    let source = Source::new("k1").await;
    change(&source.path(), "DELETE FROM schema_migrations WHERE version > 3");
    let outcome = target.copy_from(&source.path(), |_| {}).await;
    assert!(matches!(outcome, Err(CopyError::SourceSchema)), "{outcome:?}");

    let never_started = SqlStore::open_sqlite(&missing, clock(), "old", KEEP_FOR).await.unwrap();
    never_started.migrate().await.unwrap();
    never_started.close().await;
    let outcome = target.copy_from(&missing, |_| {}).await;
    assert!(matches!(outcome, Err(CopyError::SourceIsEmpty)), "{outcome:?}");
    tokio::time::timeout(Duration::from_secs(5), target.close()).await.unwrap();
}
