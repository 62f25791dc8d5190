//! What the store promises, asked of SQLite and of PostgreSQL alike.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod keys;
mod logins;
mod replicas;
mod revocations;
mod sessions;
mod settings;
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
    crate::settings::one_of_64_operators_who_saw_the_same_wins as one_of_64_operators_who_saw_the_same_wins,
    crate::settings::of_64_changes_that_exclude_each_other_one_kind_is_done
        as of_64_changes_that_exclude_each_other_one_kind_is_done,
    crate::settings::a_change_of_settings_is_all_or_nothing_and_counted
        as a_change_of_settings_is_all_or_nothing_and_counted,
    crate::settings::longer_lives_and_the_room_for_them_are_one_step
        as longer_lives_and_the_room_for_them_are_one_step,
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
    crate::replicas::a_beat_is_seen_and_a_replica_that_stops_beating_goes_silent_and_is_forgotten
        as a_beat_is_seen_and_a_replica_that_stops_beating_goes_silent_and_is_forgotten,
    crate::replicas::what_operators_want_outlives_beats_and_comes_back_with_them
        as what_operators_want_outlives_beats_and_comes_back_with_them,
    crate::replicas::pages_hold_every_replica_once as pages_hold_every_replica_once,
    crate::revocations::ended_sessions_are_revoked_once_and_no_others
        as ended_sessions_are_revoked_once_and_no_others,
    crate::revocations::changes_of_a_user_revoke_the_sessions_that_they_end
        as changes_of_a_user_revoke_the_sessions_that_they_end,
    crate::revocations::a_change_that_is_refused_revokes_nothing as a_change_that_is_refused_revokes_nothing,
    crate::revocations::a_session_that_makes_room_is_revoked as a_session_that_makes_room_is_revoked,
    crate::revocations::long_expired_sessions_are_ended_without_a_revocation
        as long_expired_sessions_are_ended_without_a_revocation,
    crate::revocations::one_of_64_ends_is_revoked as one_of_64_ends_is_revoked,
    crate::revocations::no_end_of_64_sessions_is_lost as no_end_of_64_sessions_is_lost,
    crate::revocations::a_compromised_key_is_revoked_for_ever as a_compromised_key_is_revoked_for_ever,
    crate::revocations::a_revocation_is_forgotten_exactly_at_its_second
        as a_revocation_is_forgotten_exactly_at_its_second,
    crate::revocations::a_revocation_past_its_second_is_not_read_although_nobody_purged_it
        as a_revocation_past_its_second_is_not_read_although_nobody_purged_it,
    crate::revocations::purging_goes_in_batches_and_keeps_what_is_still_needed
        as purging_goes_in_batches_and_keeps_what_is_still_needed,
    crate::revocations::a_read_goes_back_a_minute_before_the_last_one
        as a_read_goes_back_a_minute_before_the_last_one,
    crate::revocations::who_waits_is_told_of_a_commit_and_of_no_rollback
        as who_waits_is_told_of_a_commit_and_of_no_rollback,
];
