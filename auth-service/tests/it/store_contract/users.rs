//! Users, roles and their audit entries.

use std::sync::Arc;

use auth_service::domain::audit::{AuditEvent, EventKind};
use auth_service::domain::authority::{AdminPermission, Authority};
use auth_service::domain::user::{PermissionSet, UserId};
use auth_service::store::{AuditFilter, RoleWrite, SqlStore, StoreError, UserChange, UserPage, UserWrite};
use verifier::Seconds;

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
    let mut rows = bed.store.audit_page(&AuditFilter::default(), None, 1_000).await.unwrap();
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
    let first = bed.store.audit_page(&AuditFilter::default(), None, 40).await.unwrap();
    let rest = bed
        .store
        .audit_page(&AuditFilter::default(), first.last().map(|row| row.place.clone()), 40)
        .await
        .unwrap();
    assert_eq!((first.len(), rest.len()), (40, 24));
}

/// A change that reduces the rights of one user.
#[derive(Clone, Copy, Debug)]
enum Attack {
    Disable,
    Demote,
    Delete,
}

impl Attack {
    const ALL: [Self; 3] = [Self::Disable, Self::Demote, Self::Delete];

    async fn make(self, store: &SqlStore, id: UserId, authority: Authority) -> UserWrite {
        let change = match self {
            Self::Delete => return store.delete_user(id, authority, event()).await.unwrap(),
            Self::Disable => UserChange { disabled: Some(true), ..UserChange::default() },
            Self::Demote => UserChange { roles: Some(Vec::new()), ..UserChange::default() },
        };
        store.change_user(id, change, authority, event()).await.unwrap()
    }
}

fn full_rights() -> Authority {
    Authority::Operator(AdminPermission::all())
}

pub(crate) async fn last_administrator_stays_unless_confirmed(bed: Bed) {
    let root = bed.user("root", &["admin"]).await;
    bed.user("clerk", &[]).await;
    for attack in Attack::ALL {
        for authority in [full_rights(), Authority::Unlimited] {
            let refused = attack.make(&bed.store, root.id, authority).await;
            assert!(matches!(refused, UserWrite::LastAdministrator), "{attack:?}: {refused:?}");
        }
    }
    assert_eq!(bed.store.find_user(root.id).await.unwrap().unwrap().roles, ["admin"]);
    // With another administrator, each of them may go; a disabled one does not count.
    for attack in Attack::ALL {
        let other = bed.user(&format!("{attack:?}"), &["admin"]).await;
        assert!(matches!(attack.make(&bed.store, other.id, full_rights()).await, UserWrite::Done(_)));
        let refused = Attack::Disable.make(&bed.store, root.id, full_rights()).await;
        assert!(matches!(refused, UserWrite::LastAdministrator), "after {attack:?}: {refused:?}");
    }
    assert_eq!(bed.store.administrators().await.unwrap(), ["root"]);
    let confirmed = Attack::Delete.make(&bed.store, root.id, Authority::Unconditional).await;
    assert!(matches!(confirmed, UserWrite::Done(_)), "{confirmed:?}");
    assert!(bed.store.administrators().await.unwrap().is_empty());
    // There is no administrator whom this could take away.
    let clerk = bed.store.find_user_named("clerk").await.unwrap().unwrap();
    assert!(matches!(Attack::Disable.make(&bed.store, clerk.id, full_rights()).await, UserWrite::Done(_)));
}

pub(crate) async fn roles_of_the_last_administrator_keep_their_permissions(bed: Bed) {
    let (first, rest) = AdminPermission::ALL.split_at(5);
    let text = |half: &[AdminPermission]| {
        half.iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(" ")
    };
    bed.role("first", &format!("{} orders:read", text(first))).await;
    bed.role("rest", &text(rest)).await;
    let ann = bed.user("ann", &["first", "rest"]).await;
    assert_eq!(bed.store.administrators().await.unwrap(), ["ann"]);
    let put = async |name: &str, permissions: &str, authority| {
        let permissions = PermissionSet::parse(permissions).unwrap();
        bed.store.put_role(name.to_owned(), permissions, authority, event()).await.unwrap()
    };
    assert_eq!(put("rest", &text(&rest[1..]), full_rights()).await, RoleWrite::LastAdministrator);
    assert_eq!(put("first", "orders:read", Authority::Unlimited).await, RoleWrite::LastAdministrator);
    let delete = async |name: &str, authority| {
        bed.store.delete_role(name.to_owned(), authority, event()).await.unwrap()
    };
    assert_eq!(delete("first", full_rights()).await, RoleWrite::LastAdministrator);
    assert_eq!(
        bed.store.find_user(ann.id).await.unwrap().unwrap().permissions,
        AdminPermission::all().union(&PermissionSet::parse("orders:read").unwrap())
    );
    assert_eq!(put("first", &text(first), full_rights()).await, RoleWrite::Changed, "other permissions");
    bed.user("bob", &["admin"]).await;
    assert_eq!(delete("first", full_rights()).await, RoleWrite::Changed, "another administrator stays");
    assert_eq!(bed.store.administrators().await.unwrap(), ["bob"]);
}

/// Many rounds, because the two transactions must overlap between decision and commit.
pub(crate) async fn of_two_administrators_who_attack_each_other_one_stays(bed: Bed) {
    // A role of its own for each, so that the users share no row except that of the built-in role.
    for role in ["left", "right"] {
        bed.role(role, &AdminPermission::all().to_string()).await;
    }
    let replicas = [bed.another().await, bed.another().await];
    for round in 0..90 {
        let attacks = [Attack::ALL[round % 3], Attack::ALL[round / 3 % 3]];
        let [left, right] = [
            bed.user(&format!("left{round}"), &["left"]).await,
            bed.user(&format!("right{round}"), &["right"]).await,
        ];
        let barrier = Arc::new(tokio::sync::Barrier::new(2));
        let mut tasks = Vec::new();
        for (index, (attack, victim)) in attacks.into_iter().zip([right.id, left.id]).enumerate() {
            // Transactions of one replica that write to the audit log wait for each other.
            let (store, barrier) = (replicas[index].clone(), Arc::clone(&barrier));
            tasks.push(tokio::spawn(async move {
                barrier.wait().await;
                attack.make(&store, victim, full_rights()).await
            }));
        }
        let mut done = 0;
        for task in tasks {
            let outcome = task.await.unwrap();
            assert!(matches!(outcome, UserWrite::Done(_) | UserWrite::LastAdministrator), "{outcome:?}");
            done += usize::from(matches!(outcome, UserWrite::Done(_)));
        }
        let left_over = bed.store.administrators().await.unwrap();
        assert_eq!((done, left_over.len()), (1, 1), "round {round}: {attacks:?}");
        let last = bed.store.find_user_named(&left_over[0]).await.unwrap().unwrap();
        Attack::Delete.make(&bed.store, last.id, Authority::Unconditional).await;
    }
}

pub(crate) async fn new_administrator_restores_control_although_the_role_is_gone(bed: Bed) {
    bed.user("root", &["admin"]).await;
    let deleted = bed.store.delete_role("admin".to_owned(), Authority::Unconditional, event()).await.unwrap();
    assert_eq!(deleted, RoleWrite::Changed);
    assert!(bed.store.find_role("admin").await.unwrap().is_none());
    assert!(bed.store.administrators().await.unwrap().is_empty());
    let eve = bed.user("eve", &["admin"]).await;
    assert!(eve.permissions.is_superset(&AdminPermission::all()));
    assert_eq!(bed.store.administrators().await.unwrap(), ["eve"]);
}

pub(crate) async fn audit_filter_selects_entries_in_either_order(bed: Bed) {
    let record = async |kind, actor: &str, subject: &str| {
        bed.store.record(AuditEvent::new(kind).by(actor).on(subject).in_session(subject)).await.unwrap();
    };
    record(EventKind::Login, "ann", "one").await;
    record(EventKind::UserChanged, "bob", "ann").await;
    bed.advance(10);
    record(EventKind::Login, "bob", "two").await;
    let all = bed.store.audit_page(&AuditFilter::default(), None, 10).await.unwrap();
    let read = async |filter: AuditFilter| {
        let (mut seen, mut after) = (Vec::new(), None);
        // A page for each entry, so that every cursor is used.
        while let Some(row) = bed.store.audit_page(&filter, after, 1).await.unwrap().pop() {
            seen.push(all.iter().position(|other| other.hash == row.hash).unwrap());
            after = Some(row.place);
        }
        seen
    };
    let filter = AuditFilter::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(read(filter()).await, [0, 1, 2]);
    assert_eq!(read(AuditFilter { newest_first: true, ..filter() }).await, [2, 1, 0]);
    assert_eq!(read(AuditFilter { people: vec!["ann".to_owned()], ..filter() }).await, [0, 1]);
    let people = vec!["two".to_owned(), "ann".to_owned()];
    assert_eq!(read(AuditFilter { people, newest_first: true, ..filter() }).await, [2, 1, 0]);
    assert_eq!(read(AuditFilter { event: text("login"), ..filter() }).await, [0, 2]);
    assert_eq!(read(AuditFilter { session: text("two"), ..filter() }).await, [2]);
    let at = all[2].place.at;
    assert_eq!(read(AuditFilter { since: Some(at), ..filter() }).await, [2]);
    assert_eq!(read(AuditFilter { since: Some(at + Seconds(1)), ..filter() }).await, [0; 0]);
    assert_eq!(read(AuditFilter { until: Some(at), ..filter() }).await, [0, 1]);
    assert_eq!(read(AuditFilter { until: Some(at + Seconds(1)), ..filter() }).await, [0, 1, 2]);
    let event = text("login");
    assert_eq!(
        read(AuditFilter { event, people: vec!["bob".to_owned()], until: Some(at), ..filter() }).await,
        [0; 0]
    );
}

/// The transactions that take the lock of the administrators, and those that only add rights, in every mixture.
pub(crate) async fn changes_of_users_and_roles_at_the_same_time_never_deadlock(bed: Bed) {
    bed.user("root", &["admin"]).await;
    let mut ids = Vec::new();
    for index in 0..6 {
        ids.push(bed.user(&format!("user{index}"), &[]).await.id);
    }
    let mut tasks = Vec::new();
    for worker in 0..6_usize {
        let new: Vec<_> = (0..20)
            .map(|round| bed.new_user(&format!("new{worker}-{round}"), &["two", "admin", "one"]))
            .collect();
        let (store, ids) = (bed.another().await, ids.clone());
        tasks.push(tokio::spawn(async move {
            let permissions = || PermissionSet::parse("orders:read audit:read").unwrap();
            let roles = [["one", "two", "admin"], ["admin", "two", "one"]];
            for (round, new) in new.into_iter().enumerate() {
                let step = round + worker;
                for role in roles[step % 2].iter().filter(|role| **role != "admin") {
                    store.put_role((*role).to_owned(), permissions(), Authority::Unlimited, event()).await?;
                }
                store.create_user(new, Authority::Unlimited, event()).await?;
                let granted = roles[step % 2].iter().map(|role| (*role).to_owned()).collect();
                let change = UserChange { roles: Some(granted), ..UserChange::default() };
                store.change_user(ids[step % 6], change, Authority::Unlimited, event()).await?;
                let change = UserChange { disabled: Some(round % 2 == 0), ..UserChange::default() };
                store.change_user(ids[(step + 1) % 6], change, Authority::Unlimited, event()).await?;
                store.delete_role(["one", "two"][step % 2].to_owned(), Authority::Unlimited, event()).await?;
            }
            Ok::<_, StoreError>(())
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(bed.deadlocks().await, 0);
}
