//! Races of logins against everything that must stop them.

use std::sync::Arc;

use auth_service::domain::authority::{Actor, Authority};
use auth_service::domain::hex;
use auth_service::domain::password::PasswordHash;
use auth_service::domain::user::UserId;
use auth_service::flows::users::{self, UserError};
use auth_service::store::{AuditFilter, Bootstrap, NewSession, SqlStore, UserChange, UserWrite};
use verifier::Seconds;

use super::bed::{Bed, event, race};

/// 63 logins whose password was already checked, and one change that must stop them. Afterwards no session is
/// alive.
async fn race_against<F>(bed: &Bed, user: UserId, act: impl FnOnce(SqlStore) -> F)
where
    F: Future<Output = UserWrite> + Send + 'static,
{
    let barrier = Arc::new(tokio::sync::Barrier::new(64));
    let mut logins = Vec::new();
    for _ in 0..63 {
        let (store, new, barrier) = (bed.store.clone(), bed.new_session(user), Arc::clone(&barrier));
        logins.push(tokio::spawn(async move {
            barrier.wait().await;
            store.create_session(new, event()).await.unwrap()
        }));
    }
    let act = act(bed.store.clone());
    let stopping = tokio::spawn(async move {
        barrier.wait().await;
        act.await
    });
    assert!(matches!(stopping.await.unwrap(), UserWrite::Done(_)));
    let mut ids = Vec::new();
    for login in logins {
        ids.extend(login.await.unwrap().map(|live| live.session.id));
    }
    for id in ids {
        let alive = bed.store.find_session(id).await.unwrap();
        assert!(
            alive.is_none_or(|live| !live.session.is_alive(live.seen.now)),
            "session {id} got past the change"
        );
    }
    let late = NewSession { ..bed.new_session(user) };
    assert!(
        bed.store.create_session(late, event()).await.unwrap().is_none(),
        "a login that checked the old state"
    );
}

pub(crate) async fn no_login_survives_a_password_change(bed: Bed) {
    let user = bed.user("ann", &[]).await.id;
    let change = UserChange {
        password_hash: Some(PasswordHash::from_stored("$argon2id$new".to_owned())),
        ..UserChange::default()
    };
    race_against(&bed, user, |store| async move {
        store.change_user(user, change, Authority::Unlimited, event()).await.unwrap()
    })
    .await;
}

pub(crate) async fn no_login_survives_disabling(bed: Bed) {
    let user = bed.user("ann", &[]).await.id;
    let change = UserChange { disabled: Some(true), ..UserChange::default() };
    race_against(&bed, user, |store| async move {
        store.change_user(user, change, Authority::Unlimited, event()).await.unwrap()
    })
    .await;
}

pub(crate) async fn no_login_survives_deletion(bed: Bed) {
    let user = bed.user("ann", &[]).await.id;
    race_against(&bed, user, |store| async move {
        store.delete_user(user, Authority::Unlimited, event()).await.unwrap()
    })
    .await;
}

pub(crate) async fn failures_are_counted_and_forgotten(bed: Bed) {
    let forget_after = Seconds(900);
    race(&bed, |store| async move {
        store
            .record_failure(vec!["name".to_owned(), "address".to_owned()], forget_after, event())
            .await
            .unwrap();
    })
    .await;
    let attempt = async || {
        bed.store.login_attempt("nobody".to_owned(), "name".to_owned(), "other".to_owned()).await.unwrap()
    };
    let before = attempt().await;
    assert_eq!(before.name_failures.map(|failures| failures.count), Some(64));
    assert!(before.address_failures.is_none() && before.subject.is_none());
    bed.advance(902);
    bed.store.record_failure(vec!["name".to_owned()], forget_after, event()).await.unwrap();
    assert_eq!(attempt().await.name_failures.map(|failures| failures.count), Some(1));
    assert_eq!(bed.store.purge_failures(forget_after, 10).await.unwrap(), 1);
}

pub(crate) async fn bootstrap_happens_once(bed: Bed) {
    let admins: Vec<_> = (0..64).map(|_| bed.new_user("admin", &[])).collect();
    let admins = std::sync::Mutex::new(admins);
    let answers = race(&bed, |store| {
        let admin = admins.lock().unwrap().pop().unwrap();
        async move { store.bootstrap(admin).await.unwrap() }
    })
    .await;
    assert_eq!(answers.into_iter().filter(|answer| *answer == Bootstrap::Won).count(), 1);
    let admin = bed.store.find_user_named("admin").await.unwrap().unwrap();
    assert_eq!(admin.roles, ["admin"]);
    assert!(admin.permissions.contains("keys:write"));
    bed.store.delete_user(admin.id, Authority::Unconditional, event()).await.unwrap();
    let again = bed.store.bootstrap(bed.new_user("admin", &[])).await.unwrap();
    assert_eq!(again, Bootstrap::AlreadyDone, "deleting the administrator does not open the door again");
}

pub(crate) async fn unlocked_user_has_no_failures(bed: Bed) {
    let ann = bed.user("ann", &[]).await;
    let operator = Actor::command_line("alice@db1", Some("called us".parse().unwrap()));
    // As a failed login counts them: by a hash of the name, and by one of the address.
    let key = hex(&sha256(b"name\0ann"));
    let keys = || vec![key.clone(), "address".to_owned()];
    bed.store.record_failure(keys(), Seconds(900), event()).await.unwrap();
    assert!(users::unlock(&bed.store, &operator, "Ann").await.unwrap(), "the name as typed");
    let left = bed.store.login_attempt("ann".to_owned(), key, "address".to_owned()).await.unwrap();
    assert!(left.name_failures.is_none() && left.address_failures.is_some());
    assert!(!users::unlock(&bed.store, &operator, "ann").await.unwrap(), "there are none");
    let refused = users::unlock(&bed.store, &operator, "nobody").await;
    assert!(matches!(refused, Err(UserError::NotFound)));
    let filter = AuditFilter { event: Some("user_unlocked".to_owned()), ..AuditFilter::default() };
    let entries = bed.store.audit_page(&filter, None, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].subject, Some(ann.id.to_string()));
    assert!(entries[0].detail.as_ref().unwrap().ends_with("; reason: called us"));
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}
