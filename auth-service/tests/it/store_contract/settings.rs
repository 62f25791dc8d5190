//! Settings change under the lock of the key ring.

use std::collections::BTreeMap;

use auth_service::domain::audit::EventKind;
use auth_service::domain::authority::Actor;
use auth_service::store::{SettingsChange, SettingsWrite, SqlStore};

use super::bed::{Bed, race};

type Values = BTreeMap<String, String>;

fn change(values: &[(&str, Option<&str>)], expected: Option<i64>) -> SettingsChange {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
    SettingsChange {
        values: values.collect(),
        expected,
        actor: Actor { name: "test".to_owned(), ..Actor::system() },
    }
}

async fn write(store: &SqlStore, change: SettingsChange) -> SettingsWrite<&'static str> {
    // Each of the two settings is valid without the other.
    let check = |values: &Values| {
        let both = values.contains_key("this") && values.contains_key("that");
        if both { Err("this does not go with that") } else { Ok(()) }
    };
    store.change_settings(change, check).await.unwrap()
}

pub(crate) async fn one_of_64_operators_with_the_same_version_wins(bed: Bed) {
    let seen = bed.store.settings().await.unwrap().version;
    let outcomes = race(&bed, |store| {
        let value = bed.fresh()[15].to_string();
        async move { write(&store, change(&[("this", Some(&value))], Some(seen))).await }
    })
    .await;
    let won = outcomes.iter().filter(|outcome| matches!(outcome, SettingsWrite::Done)).count();
    let stale = outcomes.iter().filter(|outcome| matches!(outcome, SettingsWrite::Stale)).count();
    assert_eq!((won, stale), (1, 63));
    assert_eq!(bed.recorded(EventKind::SettingChanged).await, 1);
}

pub(crate) async fn of_64_mutually_exclusive_changes_one_kind_is_applied(bed: Bed) {
    let outcomes = race(&bed, |store| {
        let name = if bed.fresh()[15].is_multiple_of(2) { "this" } else { "that" };
        async move { write(&store, change(&[(name, Some("1"))], None)).await }
    })
    .await;
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, SettingsWrite::Refused(_))).count();
    assert_eq!(refused, 32);
    assert_eq!(bed.store.settings().await.unwrap().rows.len(), 1);
    assert_eq!(bed.recorded(EventKind::SettingChanged).await, 1);
}

pub(crate) async fn settings_change_is_all_or_nothing_and_counted(bed: Bed) {
    let version = async || bed.store.settings().await.unwrap().version;
    let before = version().await;
    write(&bed.store, change(&[("this", Some("1")), ("other", Some("2"))], None)).await;
    let first = bed.store.settings().await.unwrap();
    assert!(first.version > before);
    let told = bed.store.revocations(None).await.unwrap().settings;
    assert_eq!(told, first.version, "the read of the feed tells of it");
    let row = &first.rows[1];
    assert_eq!((row.name.as_str(), row.value.as_str(), row.changed_by.as_str()), ("this", "1", "test"));

    let refused = change(&[("that", Some("1")), ("other", None)], None);
    assert!(matches!(write(&bed.store, refused).await, SettingsWrite::Refused(_)));
    assert_eq!(version().await, first.version);
    assert_eq!(bed.store.settings().await.unwrap().rows.len(), 2);

    let same = change(&[("this", Some("1")), ("never", None)], None);
    assert!(matches!(write(&bed.store, same).await, SettingsWrite::Done));
    assert_eq!(version().await, first.version, "nothing is another value now");

    write(&bed.store, change(&[("other", None)], None)).await;
    assert!(version().await > first.version, "changes of one second are told apart");
    let left = bed.store.settings().await.unwrap();
    assert_eq!(left.values(), [("this".to_owned(), "1".to_owned())].into());
    assert_eq!(bed.recorded(EventKind::SettingChanged).await, 3);
}
