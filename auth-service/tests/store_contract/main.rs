//! What the store promises, asked of SQLite and of PostgreSQL alike.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod keys;
mod logins;
mod sessions;
mod users;

/// Runs each case on both databases.
macro_rules! contract {
    ($($case:path as $name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                $case(crate::bed::Bed::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                $case(crate::bed::Bed::postgres().await).await;
            })*
        }
    };
}

contract![
    crate::sessions::one_of_64_advances_wins as one_of_64_advances_wins,
    crate::sessions::one_of_64_recoveries_wins as one_of_64_recoveries_wins,
    crate::sessions::one_of_64_fast_forwards_wins as one_of_64_fast_forwards_wins,
    crate::sessions::one_of_64_ends_is_recorded as one_of_64_ends_is_recorded,
    crate::sessions::ended_session_does_not_advance as ended_session_does_not_advance,
    crate::sessions::expiry_is_exact_to_the_second as expiry_is_exact_to_the_second,
    crate::sessions::newest_rights_come_with_each_step as newest_rights_come_with_each_step,
    crate::sessions::oldest_session_makes_room as oldest_session_makes_room,
    crate::sessions::pages_hold_every_live_session_once as pages_hold_every_live_session_once,
    crate::sessions::old_sessions_are_purged as old_sessions_are_purged,
    crate::logins::no_login_survives_a_password_change as no_login_survives_a_password_change,
    crate::logins::no_login_survives_disabling as no_login_survives_disabling,
    crate::logins::no_login_survives_deletion as no_login_survives_deletion,
    crate::logins::failures_are_counted_and_forgotten as failures_are_counted_and_forgotten,
    crate::logins::bootstrap_happens_once as bootstrap_happens_once,
    crate::users::one_of_64_takes_the_name as one_of_64_takes_the_name,
    crate::users::unknown_role_changes_nothing as unknown_role_changes_nothing,
    crate::users::nobody_grants_more_than_they_hold as nobody_grants_more_than_they_hold,
    crate::users::role_changes_reach_its_users as role_changes_reach_its_users,
    crate::users::audit_chain_holds_together as audit_chain_holds_together,
    crate::keys::one_of_64_rotations_wins as one_of_64_rotations_wins,
    crate::keys::one_of_64_compromises_acts as one_of_64_compromises_acts,
    crate::keys::chains_are_founded_at_once_and_added_with_notice
        as chains_are_founded_at_once_and_added_with_notice,
    crate::keys::expired_private_keys_are_erased as expired_private_keys_are_erased,
    crate::keys::every_change_is_counted as every_change_is_counted,
];
