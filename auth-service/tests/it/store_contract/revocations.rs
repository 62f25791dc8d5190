//! Revocations are written together with the changes that cause them, and only with those.

use auth_service::domain::authority::Authority;
use auth_service::domain::key;
use auth_service::domain::password::PasswordHash;
use auth_service::domain::revocation::{Revocation, Revoked};
use auth_service::domain::session::{EndReason, SessionId};
use auth_service::store::{Deadline, LiveSession, NewSession, SqlStore, StoreError, UserChange, UserWrite};
use e2e::postgres::Postgres;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Duration, timeout};
use verifier::{Kid, ManualClock, Seconds, UnixTime};

use super::bed::{Bed, IDLE, KEEP_FOR, event, race};
use super::keys::{CHAIN, POLICY, change, go_on};

/// All revocations that must still be kept.
async fn all(bed: &Bed) -> Vec<Revoked> {
    let mut rows = bed.store.revocations(None).await.unwrap().rows;
    rows.sort_by(|a, b| a.what.cmp(&b.what));
    rows
}

/// The revoked sessions, in order; there must be no other revocations.
async fn sessions(bed: &Bed) -> Vec<SessionId> {
    let only_sessions = |revoked: Revoked| match revoked.what {
        Revocation::Session(id) => id,
        Revocation::Key(kid) => panic!("{kid}"),
    };
    all(bed).await.into_iter().map(only_sessions).collect()
}

fn ids(sessions: &[&LiveSession]) -> Vec<SessionId> {
    let mut ids: Vec<SessionId> = sessions.iter().map(|live| live.session.id).collect();
    ids.sort();
    ids
}

async fn end(bed: &Bed, live: &LiveSession) -> bool {
    bed.store.end_session(live.session.id, EndReason::Logout, event()).await.unwrap()
}

pub(crate) async fn only_ended_sessions_are_revoked_and_only_once(bed: Bed) {
    let (ann, bob) = (bed.user("ann", &[]).await.id, bed.user("bob", &[]).await.id);
    let [one, two, three, other] =
        [bed.session(ann).await, bed.session(ann).await, bed.session(ann).await, bed.session(bob).await];
    assert!(sessions(&bed).await.is_empty());
    assert!(end(&bed, &one).await);
    let first = all(&bed).await;
    assert_eq!(first.len(), 1);
    bed.advance(5);
    assert!(!end(&bed, &one).await);
    assert_eq!(all(&bed).await, first, "the first end counts");
    let except = Some(three.session.id);
    assert_eq!(bed.store.end_sessions_of(ann, except, EndReason::EndedByUser, event()).await.unwrap(), 1);
    assert_eq!(sessions(&bed).await, ids(&[&one, &two]));
    bed.store.end_sessions_of(ann, None, EndReason::EndedByAdmin, event()).await.unwrap();
    assert_eq!(sessions(&bed).await, ids(&[&one, &two, &three]));
    end(&bed, &other).await;
    assert_eq!(sessions(&bed).await, ids(&[&one, &two, &three, &other]));
}

pub(crate) async fn user_changes_revoke_the_sessions_that_they_end(bed: Bed) {
    let new_password = || Some(PasswordHash::from_stored("$argon2id$new".to_owned()));
    let change = async |id, change| {
        let outcome = bed.store.change_user(id, change, Authority::Unlimited, event()).await.unwrap();
        assert!(matches!(outcome, UserWrite::Done(_)), "{outcome:?}");
    };
    let ann = bed.user("ann", &[]).await.id;
    let [kept, gone] = [bed.session(ann).await, bed.session(ann).await];
    let keep = UserChange {
        password_hash: new_password(),
        keep_session: Some(kept.session.id),
        ..UserChange::default()
    };
    change(ann, keep).await;
    assert_eq!(sessions(&bed).await, ids(&[&gone]), "a new password");
    change(ann, UserChange { disabled: Some(true), ..UserChange::default() }).await;
    assert_eq!(sessions(&bed).await, ids(&[&gone, &kept]), "disabling");

    let bob = bed.user("bob", &[]).await.id;
    let theirs = bed.session(bob).await;
    bed.store.delete_user(bob, Authority::Unlimited, event()).await.unwrap();
    assert_eq!(sessions(&bed).await, ids(&[&gone, &kept, &theirs]), "deletion");
}

pub(crate) async fn refused_change_revokes_nothing(bed: Bed) {
    let ann = bed.user("ann", &[]).await.id;
    let live = bed.session(ann).await;
    // Detected after the sessions were ended, so the transaction is rolled back.
    let change =
        UserChange { disabled: Some(true), roles: Some(vec!["ghost".to_owned()]), ..UserChange::default() };
    let outcome = bed.store.change_user(ann, change, Authority::Unlimited, event()).await.unwrap();
    assert!(matches!(outcome, UserWrite::UnknownRole(_)), "{outcome:?}");
    assert!(bed.store.find_session(live.session.id).await.unwrap().unwrap().session.ended_at.is_none());
    assert!(sessions(&bed).await.is_empty());
}

pub(crate) async fn session_ended_at_the_limit_is_revoked(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let mut created = Vec::new();
    for _ in 0..5 {
        let new = NewSession { max_sessions: 3, ..bed.new_session(user.id) };
        created.push(bed.store.create_session(new, event()).await.unwrap().unwrap());
        bed.advance(1);
    }
    assert_eq!(sessions(&bed).await, ids(&[&created[0], &created[1]]));
}

pub(crate) async fn long_expired_sessions_are_ended_without_a_revocation(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let idle = bed.session(user.id).await;
    bed.advance(IDLE.0 + KEEP_FOR.0 - 60);
    // Expired a moment ago: its last access token may still be valid.
    let short = NewSession { absolute_ttl: Seconds(40), ..bed.new_session(user.id) };
    let expired = bed.store.create_session(short, event()).await.unwrap().unwrap();
    bed.advance(61);
    let count = bed.store.end_sessions_of(user.id, None, EndReason::EndedByAdmin, event()).await.unwrap();
    assert_eq!(count, 2);
    assert!(idle.session.id != expired.session.id);
    assert_eq!(sessions(&bed).await, ids(&[&expired]));
}

pub(crate) async fn one_of_64_ends_is_revoked(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let live = bed.session(user.id).await;
    let id = live.session.id;
    race(&bed, |store| async move { store.end_session(id, EndReason::Logout, event()).await.unwrap() }).await;
    assert_eq!(sessions(&bed).await, ids(&[&live]));
}

pub(crate) async fn no_end_of_64_sessions_is_lost(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let mut live = Vec::new();
    for _ in 0..64 {
        live.push(bed.session(user.id).await);
    }
    let from = bed.store.revocations(None).await.unwrap().seen.now;
    let next = std::sync::atomic::AtomicUsize::new(0);
    // Half of them are ended one by one, the other half by a concurrent statement.
    race(&bed, |store| {
        let turn = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = live[turn].session.id;
        async move {
            if turn % 32 == 31 {
                store.end_sessions_of(user.id, None, EndReason::EndedByAdmin, event()).await.map(drop)
            } else {
                store.end_session(id, EndReason::Logout, event()).await.map(drop)
            }
            .unwrap();
        }
    })
    .await;
    let live: Vec<&LiveSession> = live.iter().collect();
    assert_eq!(sessions(&bed).await, ids(&live));
    let recent = bed.store.revocations(Some(from)).await.unwrap().rows;
    assert_eq!(recent.len(), 64, "and the next poll finds them");
}

pub(crate) async fn compromised_key_stays_revoked(bed: Bed) {
    change(&bed, CHAIN, "first", go_on).await.unwrap();
    change(&bed, CHAIN, "second", |keys, _, now| Ok(key::compromise(keys, 1, &POLICY, now))).await.unwrap();
    let expected = [Revoked { what: Revocation::Key(Kid::from("first")), forget_at: None }];
    assert_eq!(all(&bed).await, expected);
    change(&bed, CHAIN, "third", |keys, _, now| Ok(key::compromise(keys, 1, &POLICY, now))).await.unwrap();
    bed.advance(100 * 365 * 86_400);
    assert_eq!(bed.store.purge_revocations(10).await.unwrap(), 0);
    assert_eq!(all(&bed).await, expected);
    assert_eq!(bed.store.adopt_revoked_keys().await.unwrap(), 0, "it is there already");
}

pub(crate) async fn revocation_is_forgotten_exactly_at_its_second(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let now = async || bed.store.confirmation().await.unwrap().now;
    for (at, is_kept) in [(-1, true), (0, false), (1, false)] {
        // PostgreSQL's clock runs during the test. A round that took more than one second proves nothing.
        let mut fits = false;
        for _ in 0..20 {
            let live = bed.session(user.id).await;
            let before = now().await;
            end(&bed, &live).await;
            let ended = before..=now().await;
            let revoked = all(&bed).await;
            let [Revoked { what, forget_at: Some(forget_at) }] = &revoked[..] else { panic!("{revoked:?}") };
            assert_eq!(*what, Revocation::Session(live.session.id));
            assert!(ended.contains(&(*forget_at - KEEP_FOR)), "{forget_at:?} of {ended:?}");

            bed.start_of_a_second().await;
            let then = *forget_at + Seconds(at);
            bed.advance((then - now().await).0);
            let table = bed.store.revocations(None).await.unwrap();
            let purged = bed.store.purge_revocations(10).await.unwrap();
            fits = table.seen.now == then && now().await == then;
            if fits {
                assert_eq!(
                    (table.rows.len(), purged),
                    (usize::from(is_kept), u64::from(!is_kept)),
                    "at {at}"
                );
            }
            bed.advance(KEEP_FOR.0);
            bed.store.purge_revocations(10).await.unwrap();
            if fits {
                break;
            }
        }
        assert!(fits, "some round takes less than a second");
    }
}

pub(crate) async fn expired_revocation_is_not_read_before_it_is_purged(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    end(&bed, &bed.session(user.id).await).await;
    bed.advance(KEEP_FOR.0 + 1);
    assert!(sessions(&bed).await.is_empty());
    assert_eq!(bed.store.purge_revocations(10).await.unwrap(), 1, "it was there");
}

pub(crate) async fn purging_works_in_batches_and_keeps_unexpired_revocations(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    for _ in 0..7 {
        let live = bed.session(user.id).await;
        end(&bed, &live).await;
    }
    assert_eq!(bed.store.purge_revocations(10).await.unwrap(), 0);
    bed.advance(KEEP_FOR.0 - 30);
    let young = bed.session(user.id).await;
    end(&bed, &young).await;
    bed.advance(31);
    let purged = [5, 5, 5].map(|limit| bed.store.purge_revocations(limit));
    let mut counts = Vec::new();
    for purge in purged {
        counts.push(purge.await.unwrap());
    }
    assert_eq!(counts, [5, 2, 0]);
    assert_eq!(sessions(&bed).await, ids(&[&young]));
}

pub(crate) async fn read_overlaps_the_previous_one_by_a_minute(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let live = bed.session(user.id).await;
    end(&bed, &live).await;
    let revoked_at = all(&bed).await[0].forget_at.unwrap() - KEEP_FOR;
    let found = async |since| bed.store.revocations(Some(since)).await.unwrap().rows.len();
    assert_eq!(found(revoked_at).await, 1);
    bed.advance(200);
    assert_eq!(found(revoked_at + Seconds(60)).await, 1);
    assert_eq!(found(revoked_at + Seconds(61)).await, 0);
    // The shared clock was set back after the last read: the reader's own time counts.
    let live = bed.session(user.id).await;
    end(&bed, &live).await;
    assert_eq!(found(revoked_at + Seconds(100_000)).await, 1);
}

pub(crate) async fn readers_are_notified_of_commits_but_not_of_rollbacks(bed: Bed) {
    let told = async || timeout(Duration::from_millis(200), bed.store.revoked().notified()).await.is_ok();
    let user = bed.user("ann", &[]).await;
    let live = bed.session(user.id).await;
    assert!(!told().await, "a login");
    let change =
        UserChange { disabled: Some(true), roles: Some(vec!["ghost".to_owned()]), ..UserChange::default() };
    bed.store.change_user(user.id, change, Authority::Unlimited, event()).await.unwrap();
    assert!(!told().await, "a change that was undone");
    end(&bed, &live).await;
    assert!(told().await, "a logout");
    end(&bed, &live).await;
    assert!(!told().await, "a logout that changed nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn unanswered_feed_reads_do_not_use_up_the_connections_of_requests() {
    let url = tokio::task::spawn_blocking(|| Postgres::shared().create_database().url()).await.unwrap();
    let clock = std::sync::Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
    let store = SqlStore::connect_postgres(&url, clock, "replica-a", KEEP_FOR).await.unwrap();
    store.migrate().await.unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE revocations").execute(&mut other).await.unwrap();
    // More reads than the pool has connections.
    for _ in 0..20 {
        let deadline = Deadline::of_background_read(Duration::from_millis(50));
        let read = store.within(deadline).revocations(None).await;
        assert!(matches!(read, Err(StoreError::Timeout)), "{read:?}");
    }
    store.within(Deadline::of_request()).confirmation().await.unwrap();
}
