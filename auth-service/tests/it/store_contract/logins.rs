//! Races of logins against everything that must stop them.

use std::sync::Arc;

use auth_service::domain::authority::{Actor, Authority};
use auth_service::domain::hex;
use auth_service::domain::limit::{KNOWN_FOR, Limit};
use auth_service::domain::password::PasswordHash;
use auth_service::domain::user::UserId;
use auth_service::flows::users::{self, UserError};
use auth_service::store::{Applied, AuditFilter, Bootstrap, NewSession, SqlStore, UserChange, UserWrite};
use verifier::{Seconds, UnixTime};

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

fn limits() -> Vec<Applied> {
    let applied = |subject: &str, limit| Applied { subject: subject.to_owned(), limit };
    vec![applied("network a", Limit::Failures(20)), applied("guesses b a", Limit::Failures(5))]
}

/// How many of 64 tries at the same moment are reserved, and when.
async fn burst(bed: &Bed, limits: Vec<Applied>) -> (usize, UnixTime) {
    let answers = race(bed, |store| {
        let limits = limits.clone();
        async move { store.reserve(&limits).await.unwrap() }
    })
    .await;
    let reserved: Vec<UnixTime> = answers.into_iter().flatten().collect();
    (reserved.len(), reserved.first().copied().unwrap_or_default())
}

pub(crate) async fn a_burst_gets_the_free_tries_and_no_more(bed: Bed) {
    let (reserved, at) = burst(&bed, limits()).await;
    assert_eq!(reserved, 5);
    for _ in 0..5 {
        bed.store.fail(&limits(), at, event()).await.unwrap();
    }
    assert_eq!(burst(&bed, limits()).await.0, 0, "a wait begins");
    let other = vec![Applied { subject: "guesses b c".to_owned(), limit: Limit::Failures(5) }];
    assert_eq!(burst(&bed, other).await.0, 5, "another network has tries of its own");
    bed.advance(2);
    let (reserved, at) = burst(&bed, limits()).await;
    assert_eq!(reserved, 1, "after the wait, one");
    bed.store.give_back(&limits(), at).await.unwrap();
    assert_eq!(burst(&bed, limits()).await.0, 1, "what is given back can be reserved again");
}

pub(crate) async fn refused_try_leaves_nothing_behind(bed: Bed) {
    let full = Applied { subject: "guesses b a".to_owned(), limit: Limit::Failures(0) };
    let free = Applied { subject: "network z".to_owned(), limit: Limit::Failures(20) };
    bed.store.fail(std::slice::from_ref(&full), UnixTime(0), event()).await.unwrap();
    let refused = bed.store.reserve(&[free.clone(), full.clone()]).await.unwrap().unwrap_err();
    assert_eq!(refused.by, full);
    assert!(
        bed.store
            .forget_counters(vec![free.subject], "-".to_owned(), event())
            .await
            .is_ok_and(|found| !found)
    );
}

pub(crate) async fn one_stranger_in_each_second(bed: Bed) {
    let strangers = || vec![Applied { subject: "strangers b".to_owned(), limit: Limit::OneASecond }];
    let mut reserved = burst(&bed, strangers()).await.0;
    bed.advance(1);
    reserved += burst(&bed, strangers()).await.0;
    // The clock of a server may reach another second during a burst.
    assert!((2..=4).contains(&reserved), "{reserved}");
}

pub(crate) async fn counters_are_forgotten_unless_they_are_kept_or_reserved(bed: Bed) {
    let applied = |subject: &str| vec![Applied { subject: subject.to_owned(), limit: Limit::Failures(5) }];
    for subject in ["network a", "device b"] {
        let at = bed.store.reserve(&applied(subject)).await.unwrap().unwrap();
        bed.store.fail(&applied(subject), at, event()).await.unwrap();
    }
    bed.advance(890);
    bed.store.reserve(&applied("network open")).await.unwrap().unwrap();
    let purge =
        async || bed.store.purge_counters(Seconds(900), ("device ", Seconds(2_000)), 10).await.unwrap();
    assert_eq!(purge().await, 0);
    bed.advance(12);
    assert_eq!(purge().await, 1, "the network");
    bed.advance(30);
    assert_eq!(purge().await, 1, "a reservation that has expired");
    bed.advance(1_100);
    assert_eq!(purge().await, 1, "the device");
}

pub(crate) async fn network_of_a_login_is_known_for_thirty_days(bed: Bed) {
    let user = bed.user("ann", &[]).await.id;
    let knows = async |network: &str| {
        let attempt = bed.store.login_attempt("ann".to_owned(), network.to_owned(), user).await.unwrap();
        attempt.is_known_network
    };
    assert!(!knows("a").await);
    let new = NewSession { network: Some("a".to_owned()), ..bed.new_session(user) };
    bed.store.create_session(new, event()).await.unwrap().unwrap();
    assert_eq!((knows("a").await, knows("b").await), (true, false));
    bed.advance(KNOWN_FOR.0 - 10);
    assert!(knows("a").await);
    assert_eq!(bed.store.purge_networks(10).await.unwrap(), 0);
    bed.advance(20);
    assert!(!knows("a").await);
    assert_eq!(bed.store.purge_networks(10).await.unwrap(), 1);
}

pub(crate) async fn unknown_name_costs_what_some_user_costs(bed: Bed) {
    let users = [bed.user("ann", &[]).await, bed.user("bob", &[]).await];
    let decoy = async |name: &str, from| {
        bed.store.login_attempt(name.to_owned(), String::new(), from).await.unwrap().decoy.unwrap()
    };
    for user in &users {
        let own = bed.store.login_attempt(user.username.clone(), String::new(), user.id).await.unwrap();
        let own = own.subject.unwrap().password_hash.unwrap();
        assert_eq!(decoy("nobody", user.id).await.as_str(), own.as_str(), "the first user from there on");
    }
    let last = UserId::from_random([0xff; 16]);
    assert!(users.iter().all(|user| user.id < last), "the search begins again at the first user");
    decoy("nobody", last).await;
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
    let name = &hex(&sha256(b"name\0ann"))[..32];
    // As failed logins from two networks count them.
    let [here, there] = ["a", "b"].map(|network| {
        vec![Applied { subject: format!("guesses {name} {network}"), limit: Limit::Failures(1) }]
    });
    for limits in [&here, &there] {
        bed.store.fail(limits, UnixTime(0), event()).await.unwrap();
        assert!(bed.store.reserve(limits).await.unwrap().is_err());
    }
    assert!(users::unlock(&bed.store, &operator, "Ann").await.unwrap(), "the name as typed");
    for limits in [&here, &there] {
        assert!(bed.store.may_reserve(limits).await.unwrap().is_ok());
    }
    assert!(!users::unlock(&bed.store, &operator, "ann").await.unwrap(), "none were left");
    let missing = users::unlock(&bed.store, &operator, "nobody").await;
    assert!(matches!(missing, Err(UserError::NotFound)), "{missing:?}");
    let rows = bed.store.audit_page(&AuditFilter::default(), None, 100).await.unwrap();
    let unlocked: Vec<_> = rows.iter().filter(|row| row.event == "user_unlocked").collect();
    assert_eq!(unlocked.len(), 1, "only what changed something is recorded");
    assert_eq!(unlocked[0].subject, Some(ann.id.to_string()));
    assert_eq!(unlocked[0].detail.as_deref(), Some("reason: called us"));
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}
