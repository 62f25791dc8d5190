//! Users, roles and their audit entries.

use auth_service::domain::audit::{AuditEvent, EventKind};
use auth_service::domain::authority::{AdminPermission, Authority};
use auth_service::domain::user::PermissionSet;
use auth_service::store::{RoleWrite, UserChange, UserPage, UserWrite};

use super::bed::{Bed, event, race};

fn operator(permissions: &str) -> Authority {
    Authority::Operator(PermissionSet::parse(permissions).unwrap())
}

pub(crate) async fn one_of_64_takes_the_name(bed: Bed) {
    let answers = race(&bed, |store| {
        let new = bed.new_user("ann", &[]);
        async move { store.create_user(new, Authority::Unlimited, event()).await.unwrap() }
    })
    .await;
    let (done, taken): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| matches!(answer, UserWrite::Done(_)));
    assert_eq!((done.len(), taken.len()), (1, 63));
    assert!(taken.iter().all(|answer| matches!(answer, UserWrite::NameTaken)));
    let page = UserPage { after: None, limit: 10 };
    assert_eq!(bed.store.users(page).await.unwrap().len(), 1);
}

pub(crate) async fn unknown_role_changes_nothing(bed: Bed) {
    bed.role("reader", "orders:read").await;
    let user = bed.user("ann", &["reader"]).await;
    let roles = Some(vec!["reader".to_owned(), "ghost".to_owned()]);
    let change = UserChange { roles, disabled: Some(true), ..UserChange::default() };
    let outcome = bed.store.change_user(user.id, change, Authority::Unlimited, event()).await.unwrap();
    assert!(matches!(outcome, UserWrite::UnknownRole(name) if name == "ghost"));
    let now = bed.store.find_user(user.id).await.unwrap().unwrap();
    assert_eq!((now.roles, now.disabled_at), (vec!["reader".to_owned()], None));
    let new = bed.new_user("bob", &["ghost"]);
    let outcome = bed.store.create_user(new, Authority::Unlimited, event()).await.unwrap();
    assert!(matches!(outcome, UserWrite::UnknownRole(_)));
    assert!(bed.store.find_user_named("bob").await.unwrap().is_none());
}

pub(crate) async fn operators_grant_only_permissions_they_hold(bed: Bed) {
    bed.role("keeper", "keys:write").await;
    bed.role("clerk", "users:write orders:read").await;
    let keeper = bed.user("keeper", &["keeper"]).await;
    let plain = bed.user("plain", &[]).await;
    let clerk = operator("users:write roles:write orders:read");
    let give = |role: &str| UserChange { roles: Some(vec![role.to_owned()]), ..UserChange::default() };

    let outcome = bed.store.change_user(plain.id, give("keeper"), clerk.clone(), event()).await.unwrap();
    assert!(matches!(outcome, UserWrite::Escalation), "granting a role");
    let outcome = bed.store.change_user(plain.id, give("clerk"), clerk.clone(), event()).await.unwrap();
    assert!(matches!(outcome, UserWrite::Done(_)), "granting what one holds");
    let outcome =
        bed.store.change_user(keeper.id, UserChange::default(), clerk.clone(), event()).await.unwrap();
    assert!(matches!(outcome, UserWrite::Escalation), "changing someone more powerful");
    let outcome = bed.store.delete_user(keeper.id, clerk.clone(), event()).await.unwrap();
    assert!(matches!(outcome, UserWrite::Escalation), "deleting someone more powerful");
    let new = bed.new_user("puppet", &["keeper"]);
    let outcome = bed.store.create_user(new, clerk.clone(), event()).await.unwrap();
    assert!(matches!(outcome, UserWrite::Escalation), "creating someone more powerful");

    let put = async |name: &str, permissions: &str, authority: Authority| {
        let permissions = PermissionSet::parse(permissions).unwrap();
        bed.store.put_role(name.to_owned(), permissions, authority, event()).await.unwrap()
    };
    assert_eq!(put("clerk", "keys:write", clerk.clone()).await, RoleWrite::Escalation, "adding to a role");
    assert_eq!(put("keeper", "", clerk.clone()).await, RoleWrite::Escalation, "weakening a stronger role");
    let outcome = bed.store.delete_role("keeper".to_owned(), clerk, event()).await.unwrap();
    assert_eq!(outcome, RoleWrite::Escalation, "deleting a stronger role");
    let all = operator(&AdminPermission::all().to_string());
    assert_eq!(put("pinger", "ping", all).await, RoleWrite::Created, "full operators define new permissions");
    assert_eq!(bed.store.find_user(keeper.id).await.unwrap().unwrap().roles, ["keeper"]);
}

pub(crate) async fn role_changes_reach_its_users(bed: Bed) {
    bed.role("reader", "orders:read").await;
    let user = bed.user("ann", &["reader"]).await;
    assert!(user.permissions.contains("orders:read"));
    bed.role("reader", "orders:list").await;
    let now = bed.store.find_user(user.id).await.unwrap().unwrap();
    assert_eq!(now.permissions, PermissionSet::parse("orders:list").unwrap());
    let outcome = bed.store.delete_role("reader".to_owned(), Authority::Unlimited, event()).await.unwrap();
    assert_eq!(outcome, RoleWrite::Changed);
    let now = bed.store.find_user(user.id).await.unwrap().unwrap();
    assert!(now.roles.is_empty() && now.permissions.is_empty());
    let outcome = bed.store.delete_role("reader".to_owned(), Authority::Unlimited, event()).await.unwrap();
    assert_eq!(outcome, RoleWrite::NotFound);
}

pub(crate) async fn audit_chain_is_consistent(bed: Bed) {
    race(&bed, |store| async move {
        let event = AuditEvent::new(EventKind::Login).by("someone").detail("a\nb");
        store.record(event).await.unwrap();
    })
    .await;
    let mut rows = bed.store.audit_page(None, 1_000).await.unwrap();
    assert_eq!(rows.len(), 64);
    rows.sort_by_key(|row| row.place.seq);
    let mut prev = String::new();
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(
            (row.place.seq, row.place.chain.as_str()),
            (i64::try_from(index).unwrap() + 1, "replica-a.1")
        );
        assert_eq!(row.prev, prev);
        let event = AuditEvent::new(EventKind::Login).by("someone").detail("a\nb");
        assert_eq!(row.hash, event.chained_hash(&prev, &row.place.chain, row.place.seq, row.place.at));
        prev.clone_from(&row.hash);
    }
    // Pages continue where the last one ended.
    let first = bed.store.audit_page(None, 40).await.unwrap();
    let rest = bed.store.audit_page(first.last().map(|row| row.place.clone()), 40).await.unwrap();
    assert_eq!((first.len(), rest.len()), (40, 24));
}
