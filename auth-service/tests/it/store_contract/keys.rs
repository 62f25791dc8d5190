//! Chains of keys change under one lock.

use auth_service::domain::audit::EventKind;
use auth_service::domain::authority::Actor;
use auth_service::domain::hex;
use auth_service::domain::key::{
    self, Chain, ChainKey, KeyPhase, NewKey, Plan, RotationError, RotationPolicy,
};
use auth_service::domain::session::{EndReason, SessionId};
use auth_service::store::{KeyRow, KeyTable, KeyWrite, SqlStore, StoreError};
use e2e::postgres::Postgres;
use futures_util::TryFutureExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::Duration;
use verifier::{Algorithm, Kid, ManualClock, Seconds, UnixTime};

use super::bed::{Bed, KEEP_FOR, event, race};

pub(crate) const CHAIN: Chain = Chain::Signing(Algorithm::EdDSA);
pub(crate) const POLICY: RotationPolicy =
    RotationPolicy { period: Seconds(1_000), publish_ahead: Seconds(100), tail: Seconds(50) };

pub(crate) type Decision = Result<Plan, RotationError>;

fn candidate(name: &str) -> NewKey {
    NewKey { kid: Kid::from(name), public_jwk: None, sealed: format!("sealed {name}") }
}

#[expect(clippy::unnecessary_wraps, reason = "the store asks for a decision that may be refused")]
pub(crate) fn go_on(keys: &[ChainKey], founding: bool, now: UnixTime) -> Decision {
    Ok(key::successor_if_due(keys, &POLICY, founding, now))
}

fn rotate(keys: &[ChainKey], _founding: bool, now: UnixTime) -> Decision {
    key::announce(keys, &POLICY, now)
}

pub(crate) async fn change(
    bed: &Bed,
    chain: Chain,
    name: &str,
    decide: fn(&[ChainKey], bool, UnixTime) -> Decision,
) -> Result<KeyWrite, RotationError> {
    bed.store.change_keys(chain, Some(candidate(name)), &Actor::system(), decide).await.unwrap()
}

fn phases(table: &KeyTable, chain: Chain) -> Vec<KeyPhase> {
    let in_chain = |row: &&KeyRow| row.chain == chain;
    table.rows.iter().filter(in_chain).map(|row| row.key.phase(table.seen.now)).collect()
}

/// 64 callers, each with its own key; returns how many of them announced it.
async fn winners(bed: &Bed, decide: fn(&[ChainKey], bool, UnixTime) -> Decision) -> usize {
    let answers =
        race(bed, |store| {
            let name = hex(&bed.fresh());
            async move {
                store.change_keys(CHAIN, Some(candidate(&name)), &Actor::system(), decide).await.unwrap()
            }
        })
        .await;
    answers.iter().filter(|answer| answer.as_ref().is_ok_and(|written| written.successor().is_some())).count()
}

pub(crate) async fn one_of_64_rotations_wins(bed: Bed) {
    assert_eq!(winners(&bed, go_on).await, 1, "the first key");
    assert_eq!(winners(&bed, rotate).await, 1, "its successor");
    let table = bed.store.key_table().await.unwrap();
    assert_eq!(phases(&table, CHAIN), [KeyPhase::Active, KeyPhase::Pending]);
    let [old, new] = &table.rows[..] else { panic!("two keys") };
    let end = old.key.schedule.end.expect("it has a successor");
    assert_eq!(end.retires_at, new.key.schedule.activates_at);
    assert_eq!(end.expires_at, end.retires_at + POLICY.tail);
    assert_eq!(winners(&bed, rotate).await, 0, "a second successor has to wait");
    assert_eq!(bed.recorded(EventKind::KeyAnnounced).await, 2);
}

pub(crate) async fn one_of_64_compromises_takes_effect(bed: Bed) {
    change(&bed, CHAIN, "first", go_on).await.unwrap();
    let acted = winners(&bed, |keys, _, now| Ok(key::compromise(keys, 1, &POLICY, now))).await;
    assert_eq!(acted, 1);
    let table = bed.store.key_table().await.unwrap();
    assert_eq!(phases(&table, CHAIN), [KeyPhase::Compromised, KeyPhase::Active]);
    assert!(table.rows[0].key.compromised_at.is_some());
    assert_eq!(bed.recorded(EventKind::KeyCompromised).await, 1);
}

pub(crate) async fn first_chains_start_immediately_and_later_ones_with_notice(bed: Bed) {
    let added = Chain::Signing(Algorithm::ES256);
    change(&bed, CHAIN, "a", go_on).await.unwrap();
    // Until the first administrator exists, no token was issued, so every chain may start immediately.
    change(&bed, Chain::RefreshMac, "mac", go_on).await.unwrap();
    bed.store.bootstrap(bed.new_user("admin", &[])).await.unwrap();
    change(&bed, added, "b", go_on).await.unwrap();
    let table = bed.store.key_table().await.unwrap();
    assert_eq!(phases(&table, CHAIN), [KeyPhase::Active]);
    assert_eq!(phases(&table, Chain::RefreshMac), [KeyPhase::Active]);
    assert_eq!(phases(&table, added), [KeyPhase::Pending]);
}

pub(crate) async fn expired_private_keys_are_erased(bed: Bed) {
    change(&bed, CHAIN, "old", go_on).await.unwrap();
    change(&bed, CHAIN, "new", rotate).await.unwrap();
    bed.advance(POLICY.publish_ahead.0 + POLICY.tail.0 - 2);
    assert_eq!(bed.store.erase_expired_keys().await.unwrap(), 0);
    bed.advance(2);
    assert_eq!(bed.store.erase_expired_keys().await.unwrap(), 1);
    let table = bed.store.key_table().await.unwrap();
    let sealed: Vec<_> = table.rows.iter().map(|row| (row.key.kid.as_str(), row.sealed.is_some())).collect();
    assert_eq!(sealed, [("old", false), ("new", true)]);
}

pub(crate) async fn mac_key_is_kept_while_a_live_session_may_hold_its_token(bed: Bed) {
    change(&bed, Chain::RefreshMac, "old", go_on).await.unwrap();
    let user = bed.user("ann", &[]).await;
    let session = bed.session_for(user.id, Seconds(10_000)).await;
    change(&bed, Chain::RefreshMac, "new", rotate).await.unwrap();
    bed.advance(POLICY.publish_ahead.0 + POLICY.tail.0);
    assert_eq!(bed.store.erase_expired_keys().await.unwrap(), 0);
    // A session that began after the key retired holds no token of it.
    bed.advance(300);
    bed.session_for(user.id, Seconds(10_000)).await;
    bed.store.end_session(session.session.id, EndReason::Logout, event()).await.unwrap();
    assert_eq!(bed.store.erase_expired_keys().await.unwrap(), 1);
}

pub(crate) async fn every_change_is_counted(bed: Bed) {
    let seen = async || bed.store.confirmation().await.unwrap();
    change(&bed, CHAIN, "a", go_on).await.unwrap();
    let first = seen().await;
    assert!(first.keys_version >= first.now.0 - 5, "higher than any count of a backup that is older");
    change(&bed, CHAIN, "b", go_on).await.unwrap();
    assert_eq!(seen().await.keys_version, first.keys_version, "nothing was due, so nothing changed");
    change(&bed, CHAIN, "c", rotate).await.unwrap();
    change(&bed, Chain::RefreshMac, "d", rotate).await.unwrap();
    let last = seen().await;
    assert!(last.keys_version >= first.keys_version + 2, "changes of one second are told apart");
    assert_eq!(bed.store.key_table().await.unwrap().seen.keys_version, last.keys_version);
}

/// Like a lagging standby, or a pooler in front of one: it responds, but its data may be minutes old.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL: ./test runs it"]
async fn read_only_server_confirms_nothing() {
    let url = tokio::task::spawn_blocking(|| Postgres::shared().create_database().url()).await.unwrap();
    let clock = std::sync::Arc::new(ManualClock::new(UnixTime(1_800_000_000)));
    let store = SqlStore::connect_postgres(&url, clock.clone(), "replica-a", KEEP_FOR).await.unwrap();
    store.migrate().await.unwrap();
    let mut operator = PgConnection::connect(&url).await.unwrap();
    let alter = |what: &str| {
        AssertSqlSafe(format!(
            "BEGIN READ WRITE;
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {what}', current_database()); END $$;
             COMMIT"
        ))
    };
    sqlx::raw_sql(alter("SET default_transaction_read_only = on")).execute(&mut operator).await.unwrap();
    // Connections opened from now on are read-only.
    let store = SqlStore::connect_postgres(&url, clock, "replica-a", KEEP_FOR).await.unwrap();
    assert!(matches!(store.confirmation().await, Err(StoreError::ReadOnly)));
    assert!(matches!(store.key_table().await, Err(StoreError::ReadOnly)));
    assert!(matches!(store.revocations(None).await, Err(StoreError::ReadOnly)));
    let unknown = SessionId::from_random([7; 16]);
    assert!(matches!(store.find_session(unknown).await, Err(StoreError::ReadOnly)));

    sqlx::raw_sql(alter("RESET default_transaction_read_only")).execute(&mut operator).await.unwrap();
    // Older connections are discarded at most once a second.
    let served = async {
        loop {
            match store.confirmation().and_then(|_| store.find_session(unknown)).await {
                Ok(session) => break session,
                Err(error) => assert!(matches!(error, StoreError::ReadOnly), "{error}"),
            }
        }
    };
    let session =
        tokio::time::timeout(Duration::from_secs(5), served).await.expect("the store opens new connections");
    assert!(session.is_none());
}
