//! Sessions change by compare-and-set.

use auth_service::domain::audit::{AuditEvent, EventKind};
use auth_service::domain::session::EndReason;
use auth_service::domain::user::PermissionSet;
use auth_service::store::{Advance, LiveSession, NewSession};
use verifier::Seconds;

use super::bed::{ABSOLUTE, Bed, IDLE, MAC_KEY, PROVED_AT, event, race};

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
