//! Sessions change by compare-and-set.

use auth_service::domain::audit::{AuditEvent, EventKind};
use auth_service::domain::authority::{Actor, Authority};
use auth_service::domain::revocation::Revocation;
use auth_service::domain::session::EndReason;
use auth_service::domain::user::PermissionSet;
use auth_service::flows::sessions::{self, SessionError};
use auth_service::store::{Advance, AuditFilter, AuditRow, LiveSession, NewSession, SessionCursor};
use verifier::Seconds;

use super::bed::{ABSOLUTE, Bed, IDLE, KEEP_FOR, MAC_KEY, PROVED_AT, event, race};

async fn advance(bed: &Bed, live: &LiveSession, step: Advance) -> Option<LiveSession> {
    bed.store.advance_session(live.session.id, step, MAC_KEY, IDLE).await.unwrap()
}

/// Runs one step in parallel, checks that exactly one caller succeeds, and returns the state afterwards.
async fn one_wins(bed: &Bed, live: &LiveSession, step: Advance) -> LiveSession {
    let id = live.session.id;
    let answers =
        race(bed, |store| async move { store.advance_session(id, step, MAC_KEY, IDLE).await.unwrap() }).await;
    let winners: Vec<_> = answers.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    let now = bed.store.find_session(id).await.unwrap().unwrap();
    assert_eq!(now.session, winners[0].session);
    now
}

fn generations(live: &LiveSession) -> (u32, u32, u32) {
    let state = live.session.refresh;
    (state.accepted, state.floor, state.generation)
}

pub(crate) async fn one_of_64_advances_wins(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let live = bed.session(user.id).await;
    assert_eq!(generations(&live), (0, 0, 1));
    assert_eq!((live.session.auth_time, live.session.amr.as_str()), (PROVED_AT, "pwd"));
    let live = one_wins(&bed, &live, Advance::Outstanding(1)).await;
    assert_eq!(generations(&live), (1, 1, 2));
    let live = one_wins(&bed, &live, Advance::Outstanding(2)).await;
    assert_eq!(generations(&live), (2, 2, 3));
}

pub(crate) async fn one_of_64_recoveries_wins(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let live = bed.session(user.id).await;
    let live = advance(&bed, &live, Advance::Outstanding(1)).await.unwrap();
    let live = one_wins(&bed, &live, Advance::Recover { accepted: 1, generation: 2 }).await;
    assert_eq!(generations(&live), (1, 1, 3));
    // Both outstanding tokens are valid until one of them is presented.
    let live = one_wins(&bed, &live, Advance::Outstanding(2)).await;
    assert_eq!(generations(&live), (2, 3, 4));
    assert!(advance(&bed, &live, Advance::Outstanding(3)).await.is_none());
}

pub(crate) async fn one_of_64_fast_forwards_wins(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let live = bed.session(user.id).await;
    let live = one_wins(&bed, &live, Advance::FastForward { presented: 9, generation: 1 }).await;
    assert_eq!(generations(&live), (9, 9, 10));
}

pub(crate) async fn one_of_64_ends_is_recorded(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let id = bed.session(user.id).await.session.id;
    let answers = race(&bed, |store| async move {
        store
            .end_session(id, EndReason::RefreshReuse, AuditEvent::new(EventKind::RefreshReuse))
            .await
            .unwrap()
    })
    .await;
    assert_eq!(answers.into_iter().filter(|ended| *ended).count(), 1);
    assert_eq!(bed.recorded(EventKind::RefreshReuse).await, 1);
}

pub(crate) async fn ended_session_does_not_advance(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let live = bed.session(user.id).await;
    let first = bed.store.end_session(live.session.id, EndReason::Logout, event()).await.unwrap();
    bed.advance(5);
    let second = bed.store.end_session(live.session.id, EndReason::EndedByAdmin, event()).await.unwrap();
    assert_eq!((first, second), (true, false));
    assert!(advance(&bed, &live, Advance::Outstanding(1)).await.is_none());
    let ended = bed.store.find_session(live.session.id).await.unwrap().unwrap();
    let ended_at = ended.session.ended_at.expect("it was ended");
    assert!(ended.seen.now - ended_at >= Seconds(5), "the first end is kept");
}

pub(crate) async fn expiry_is_exact_to_the_second(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let short = NewSession { absolute_ttl: Seconds(40), ..bed.new_session(user.id) };
    let live = bed.store.create_session(short, event()).await.unwrap().unwrap();
    let session = &live.session;
    assert_eq!(session.idle_expires_at - session.created_at, IDLE);
    assert_eq!(session.expires_at - session.created_at, Seconds(40));
    // PostgreSQL's clock runs during the test, so the boundary is derived from the time that a statement
    // reports.
    let now = bed.store.find_session(session.id).await.unwrap().unwrap().seen.now;
    bed.advance((session.expires_at - now).0 - 2);
    let live = advance(&bed, &live, Advance::Outstanding(1)).await.expect("it is alive before its expiry");
    bed.advance(2);
    assert!(advance(&bed, &live, Advance::Outstanding(2)).await.is_none(), "it is dead at its expiry");
}

pub(crate) async fn every_refresh_reads_the_current_rights(bed: Bed) {
    bed.role("reader", "orders:read ping").await;
    bed.role("writer", "orders:write ping").await;
    let user = bed.user("ann", &["writer", "reader"]).await;
    let live = bed.session(user.id).await;
    assert_eq!(live.user.roles, ["reader", "writer"]);
    assert_eq!(live.user.permissions, PermissionSet::parse("orders:read orders:write ping").unwrap());
    assert_eq!(live.user.username, "ann");
    bed.role("writer", "orders:audit").await;
    let live = advance(&bed, &live, Advance::Outstanding(1)).await.unwrap();
    assert_eq!(live.user.permissions, PermissionSet::parse("orders:audit orders:read ping").unwrap());
}

pub(crate) async fn oldest_session_ends_at_the_limit(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let new = NewSession { max_sessions: 3, ..bed.new_session(user.id) };
        sessions.push(bed.store.create_session(new, event()).await.unwrap().unwrap());
        bed.advance(1);
    }
    for (index, live) in sessions.iter().enumerate() {
        let now = bed.store.find_session(live.session.id).await.unwrap().unwrap();
        assert_eq!(now.session.is_alive(now.seen.now), index > 0, "session {index}");
    }
}

pub(crate) async fn pages_contain_every_live_session_once(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.push(bed.session(user.id).await.session.id);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = bed.store.sessions_of(user.id, after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.id.to_string()));
        seen.extend(page.iter().map(|session| session.id));
    }
    seen.sort_by_key(|id| *id.as_bytes());
    expected.sort_by_key(|id| *id.as_bytes());
    assert_eq!(seen, expected);
}

pub(crate) async fn old_sessions_are_purged(bed: Bed) {
    let user = bed.user("ann", &[]).await;
    let old = bed.session(user.id).await.session.id;
    bed.advance(ABSOLUTE.0 + 61);
    let young = bed.session(user.id).await.session.id;
    assert_eq!(bed.store.purge_sessions(Seconds(60), 10).await.unwrap(), 1);
    assert!(bed.store.find_session(old).await.unwrap().is_none());
    assert!(bed.store.find_session(young).await.unwrap().is_some());
}

/// Fewer than 1,000 sessions do not fill a batch.
const MANY: usize = 1_050;

pub(crate) async fn everyone_is_logged_out_in_batches_and_the_feed_names_the_recently_refreshed(bed: Bed) {
    let (ann, bob) = (bed.user("ann", &[]).await.id, bed.user("bob", &[]).await.id);
    let idle = bed.session(ann).await;
    let refreshed = bed.session(bob).await;
    // Half a minute to both sides: the clock of PostgreSQL runs.
    bed.advance(KEEP_FOR.0 - 30);
    advance(&bed, &refreshed, Advance::Outstanding(1)).await.expect("it is alive");
    bed.advance(60);
    let mut expected = vec![refreshed.session.id];
    for _ in 0..MANY {
        expected.push(bed.session(ann).await.session.id);
    }
    expected.sort();

    let operator = Actor::command_line("alice@db1", Some("laptop stolen".parse().unwrap()));
    let mut seen = Vec::new();
    let ended = sessions::end_everyone(&bed.store, &operator, |count| seen.push(count)).await.unwrap();
    assert_eq!(ended, MANY as u64 + 2);
    assert_eq!(seen, [1_000, ended]);
    assert!(bed.store.live_sessions(None, None, 10).await.unwrap().is_empty());
    for id in [idle.session.id, refreshed.session.id] {
        let live = bed.store.find_session(id).await.unwrap().unwrap();
        assert!(!live.session.is_alive(live.seen.now));
    }
    let mut revoked: Vec<_> =
        bed.store.revocations(None).await.unwrap().rows.into_iter().map(|row| row.what).collect();
    revoked.sort();
    assert_eq!(revoked, expected.into_iter().map(Revocation::Session).collect::<Vec<_>>());

    let filter = AuditFilter { event: Some("session_ended".to_owned()), ..AuditFilter::default() };
    let entries = bed.store.audit_page(&filter, None, 10).await.unwrap();
    let told = |row: &AuditRow| (row.actor.clone().unwrap(), row.detail.clone().unwrap());
    let expected = ("cli:alice@db1".to_owned(), "all sessions; reason: laptop stolen".to_owned());
    assert_eq!(entries.iter().map(told).collect::<Vec<_>>(), [expected]);
}

pub(crate) async fn ending_everyone_continues_after_it_was_cut_off(bed: Bed) {
    let ann = bed.user("ann", &[]).await.id;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(bed.session(ann).await.session.id);
    }
    let now = bed.store.confirmation().await.unwrap().now;
    let batch = bed.store.end_batch(String::new(), 4, now, EndReason::EndedByAdmin, None).await.unwrap();
    assert_eq!(batch.count, 4);
    bed.advance(5);
    let late = bed.session(ann).await.session.id;
    let next = bed.store.end_batch(String::new(), 100, now, EndReason::EndedByAdmin, None).await.unwrap();
    assert_eq!(next.count, 6, "the rest, but not the session that began later");
    let live = bed.store.live_sessions(None, None, 10).await.unwrap();
    assert_eq!(live.iter().map(|live| live.session.id).collect::<Vec<_>>(), [late]);
    let operator = Actor::command_line("alice@db1", None);
    assert_eq!(sessions::end_everyone(&bed.store, &operator, |_| {}).await.unwrap(), 1);
    assert_eq!(sessions::end_everyone(&bed.store, &operator, |_| {}).await.unwrap(), 0);
    assert_eq!(bed.recorded(EventKind::SessionEnded).await, 1, "a call that ends nothing is not recorded");
    let clerk = Authority::Operator(PermissionSet::parse("sessions:write").unwrap());
    let clerk = Actor { authority: clerk, ..operator };
    let refused = sessions::end_everyone(&bed.store, &clerk, |_| {}).await;
    assert!(matches!(refused, Err(SessionError::Escalation)));
}

pub(crate) async fn lists_contain_every_live_session_once(bed: Bed) {
    let users = [bed.user("ann", &[]).await, bed.user("bob", &[]).await];
    let mut expected = Vec::new();
    for index in 0..14 {
        expected.push(bed.session(users[index % 2].id).await.session.id);
        bed.advance(i64::try_from(index % 3).unwrap());
    }
    bed.store.end_session(expected.remove(4), EndReason::Logout, event()).await.unwrap();
    for (user, count) in [(None, 13), (Some(users[0].id), 6), (Some(users[1].id), 7)] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = bed.store.live_sessions(user, after, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(SessionCursor::at(&last.session));
            seen.extend(page.into_iter().filter(|live| user.is_none_or(|user| user == live.session.user_id)));
        }
        assert!(seen.iter().all(|live| ["ann", "bob"].contains(&live.user.username.as_str())));
        assert!(seen.is_sorted_by(|one, next| one.session.created_at >= next.session.created_at));
        let mut ids: Vec<_> = seen.iter().map(|live| live.session.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), seen.len()), (count, count));
        assert!(ids.iter().all(|id| expected.contains(id)));
    }
}
