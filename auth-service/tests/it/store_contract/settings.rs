//! Settings change under the lock of the key ring.

use std::collections::BTreeMap;

use auth_service::domain::audit::EventKind;
use auth_service::domain::key::{Chain, RotationPolicy};
use auth_service::store::{SettingsChange, SettingsWrite, SqlStore};
use verifier::Seconds;

use super::bed::{Bed, race};
use super::keys::{CHAIN, POLICY, change as change_keys, go_on};

type Values = BTreeMap<String, String>;

fn change(values: &[(&str, Option<&str>)], expected: Option<i64>) -> SettingsChange {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
    SettingsChange { values: values.collect(), expected, actor: "test".to_owned() }
}

async fn write(
    store: &SqlStore,
    change: SettingsChange,
    lives: Vec<(Chain, RotationPolicy)>,
) -> SettingsWrite<&'static str> {
    // What no two operators may do together.
    let decide = move |values: &Values| {
        let both = values.contains_key("this") && values.contains_key("that");
        if both { Err("this does not go with that") } else { Ok(lives.clone()) }
    };
    store.change_settings(change, decide).await.unwrap()
}

pub(crate) async fn one_of_64_operators_with_the_same_version_wins(bed: Bed) {
    let seen = bed.store.settings().await.unwrap().version;
    let outcomes = race(&bed, |store| {
        let value = bed.fresh()[15].to_string();
        async move { write(&store, change(&[("this", Some(&value))], Some(seen)), Vec::new()).await }
    })
    .await;
    let won = outcomes.iter().filter(|outcome| matches!(outcome, SettingsWrite::Done)).count();
    let stale = outcomes.iter().filter(|outcome| matches!(outcome, SettingsWrite::Stale)).count();
    assert_eq!((won, stale), (1, 63));
    assert_eq!(bed.recorded(EventKind::SettingChanged).await, 1);
}

pub(crate) async fn of_64_changes_that_exclude_each_other_one_kind_is_done(bed: Bed) {
    let outcomes = race(&bed, |store| {
        let name = if bed.fresh()[15].is_multiple_of(2) { "this" } else { "that" };
        async move { write(&store, change(&[(name, Some("1"))], None), Vec::new()).await }
    })
    .await;
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, SettingsWrite::Refused(_))).count();
    assert_eq!(refused, 32);
    assert_eq!(bed.store.settings().await.unwrap().rows.len(), 1);
    assert_eq!(bed.recorded(EventKind::SettingChanged).await, 1);
}

pub(crate) async fn a_change_of_settings_is_all_or_nothing_and_counted(bed: Bed) {
    let version = async || bed.store.settings().await.unwrap().version;
    let before = version().await;
    write(&bed.store, change(&[("this", Some("1")), ("other", Some("2"))], None), Vec::new()).await;
    let first = bed.store.settings().await.unwrap();
    assert!(first.version > before);
    let told = bed.store.revocations(None).await.unwrap().settings;
    assert_eq!(told, first.version, "the read of the feed tells of it");
    let row = &first.rows[1];
    assert_eq!((row.name.as_str(), row.value.as_str(), row.changed_by.as_str()), ("this", "1", "test"));

    let refused = change(&[("that", Some("1")), ("other", None)], None);
    assert!(matches!(write(&bed.store, refused, Vec::new()).await, SettingsWrite::Refused(_)));
    assert_eq!(version().await, first.version);
    assert_eq!(bed.store.settings().await.unwrap().rows.len(), 2);

    let same = change(&[("this", Some("1")), ("never", None)], None);
    assert!(matches!(write(&bed.store, same, Vec::new()).await, SettingsWrite::Done));
    assert_eq!(version().await, first.version, "nothing is another value now");

    write(&bed.store, change(&[("other", None)], None), Vec::new()).await;
    assert!(version().await > first.version, "changes of one second are told apart");
    let left = bed.store.settings().await.unwrap();
    assert_eq!(left.values(), [("this".to_owned(), "1".to_owned())].into());
    assert_eq!(bed.recorded(EventKind::SettingChanged).await, 3);
}

pub(crate) async fn longer_lives_and_the_room_for_them_are_one_step(bed: Bed) {
    change_keys(&bed, CHAIN, "a", go_on).await.unwrap();
    change_keys(&bed, Chain::RefreshMac, "b", go_on).await.unwrap();
    let counted = async || bed.store.confirmation().await.unwrap().keys_version;
    let before = counted().await;
    let longer = RotationPolicy { life: Seconds(700), ..POLICY };
    write(&bed.store, change(&[("this", Some("1"))], None), vec![(CHAIN, longer)]).await;
    let lives = async || {
        let table = bed.store.key_table().await.unwrap();
        table.rows.iter().map(|row| row.key.schedule.life.unwrap().0).collect::<Vec<_>>()
    };
    assert_eq!(lives().await, [700, 30]);
    assert!(counted().await > before, "replicas read the keys again");

    let before = counted().await;
    let refused = change(&[("that", Some("1"))], None);
    let longest = RotationPolicy { life: Seconds(900), ..POLICY };
    write(&bed.store, refused, vec![(CHAIN, longest)]).await;
    write(&bed.store, change(&[("this", Some("2"))], None), vec![(CHAIN, POLICY)]).await;
    assert_eq!(lives().await, [700, 30], "a refusal changes no key, and shorter lives change none");
    assert_eq!(counted().await, before);
}
