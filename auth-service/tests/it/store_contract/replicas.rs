//! The list of replicas.

use auth_service::domain::audit::EventKind;
use auth_service::domain::replica::{
    FORGET_AFTER, KeyGenerations, ReplicaReport, ReplicaState, SILENT_AFTER,
};
use verifier::{Algorithm, Seconds};

use super::bed::{Bed, event};

fn report(id: &str) -> ReplicaReport {
    ReplicaReport {
        id: id.to_owned(),
        name: "host".to_owned(),
        version: "0.1.0".to_owned(),
        public_addr: "127.0.0.1:8080".to_owned(),
        admin_addr: "127.0.0.1:8081".to_owned(),
        state: ReplicaState::Ready,
        key_changes: 7,
        key_generations: KeyGenerations(vec![(Algorithm::ES256, 3)]),
        lease_left: Seconds(899),
        feed_lag_ms: None,
        settings_version: 5,
        is_refusing_settings: false,
        is_drain_wanted: false,
    }
}

async fn states(bed: &Bed) -> Vec<ReplicaState> {
    bed.store.replicas(None, 10).await.unwrap().iter().map(|row| row.report.state).collect()
}

pub(crate) async fn replica_without_heartbeats_goes_silent_and_is_removed(bed: Bed) {
    bed.start_of_a_second().await;
    assert!(!bed.store.beat(report("a")).await.unwrap());
    let rows = bed.store.replicas(None, 10).await.unwrap();
    let first = rows.first().unwrap().clone();
    assert_eq!((rows.len(), &first.report), (1, &report("a")));
    bed.advance(5);
    let mut changed = report("a");
    changed.state = ReplicaState::NotReady;
    changed.key_changes = 8;
    changed.key_generations = KeyGenerations(vec![(Algorithm::EdDSA, 1), (Algorithm::ES256, 4)]);
    changed.lease_left = Seconds(0);
    changed.feed_lag_ms = Some(1_500);
    changed.settings_version = 6;
    changed.is_refusing_settings = true;
    bed.store.beat(changed.clone()).await.unwrap();
    let row = bed.store.replicas(None, 10).await.unwrap().remove(0);
    assert_eq!((&row.report, row.started_at), (&changed, first.started_at));
    assert!(row.seen_at - first.seen_at >= Seconds(5));

    bed.start_of_a_second().await;
    bed.store.beat(report("a")).await.unwrap();
    bed.advance(SILENT_AFTER.0 - 1);
    bed.store.beat(report("b")).await.unwrap();
    assert_eq!(states(&bed).await, [ReplicaState::Ready, ReplicaState::Ready]);
    bed.advance(1);
    assert_eq!(states(&bed).await, [ReplicaState::Silent, ReplicaState::Ready]);
    bed.start_of_a_second().await;
    bed.store.beat(report("a")).await.unwrap();
    bed.advance(FORGET_AFTER.0 - 1);
    bed.store.beat(report("b")).await.unwrap();
    assert_eq!(bed.store.purge_replicas(FORGET_AFTER).await.unwrap(), 0);
    bed.advance(1);
    assert_eq!(bed.store.purge_replicas(FORGET_AFTER).await.unwrap(), 1);
    assert_eq!(bed.store.replicas(None, 10).await.unwrap().remove(0).report.id, "b");
    bed.store.forget_replica("b").await.unwrap();
    assert_eq!(states(&bed).await, []);
}

pub(crate) async fn drain_request_survives_heartbeats_and_is_restored_by_them(bed: Bed) {
    assert!(!bed.store.want_drain("a", true, event()).await.unwrap(), "nobody has this name");
    assert_eq!(bed.recorded(EventKind::UserChanged).await, 0);
    bed.store.beat(report("a")).await.unwrap();
    assert!(bed.store.want_drain("a", true, event()).await.unwrap());
    assert_eq!(bed.recorded(EventKind::UserChanged).await, 1);
    // An older heartbeat does not overwrite the request.
    assert!(bed.store.beat(report("a")).await.unwrap());
    let mut drained = report("a");
    drained.is_drain_wanted = true;
    assert_eq!(bed.store.replicas(None, 1).await.unwrap().remove(0).report, drained);
    // The row was removed while the replica could not reach the database: its next heartbeat restores the
    // request.
    bed.store.forget_replica("a").await.unwrap();
    assert!(bed.store.beat(drained.clone()).await.unwrap());
    assert!(bed.store.want_drain("a", false, event()).await.unwrap());
    assert!(!bed.store.beat(drained).await.unwrap());
}

pub(crate) async fn pages_contain_every_replica_once(bed: Bed) {
    for id in ["c", "a", "b"] {
        bed.store.beat(report(id)).await.unwrap();
    }
    let page = async |after: Option<&str>| {
        let rows = bed.store.replicas(after.map(str::to_owned), 2).await.unwrap();
        rows.into_iter().map(|row| row.report.id).collect::<Vec<_>>()
    };
    assert_eq!((page(None).await, page(Some("b")).await), (vec!["a".into(), "b".into()], vec!["c".into()]));
}
