//! What the store promises, asked of SQLite and of PostgreSQL alike.

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
    ($($topic:ident::$case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                super::$topic::$case(super::bed::Bed::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            #[ignore = "needs PostgreSQL: ./test runs it"]
            async fn $case() {
                super::$topic::$case(super::bed::Bed::postgres().await).await;
            })*
        }
    };
}

contract![
    settings::one_of_64_operators_with_the_same_version_wins,
    settings::of_64_changes_that_exclude_each_other_one_kind_is_done,
    settings::a_change_of_settings_is_all_or_nothing_and_counted,
    sessions::one_of_64_advances_wins,
    sessions::one_of_64_recoveries_wins,
    sessions::one_of_64_fast_forwards_wins,
    sessions::one_of_64_ends_is_recorded,
    sessions::ended_session_does_not_advance,
    sessions::expiry_is_exact_to_the_second,
    sessions::newest_rights_come_with_each_step,
    sessions::oldest_session_makes_room,
    sessions::pages_hold_every_live_session_once,
    sessions::old_sessions_are_purged,
    logins::no_login_survives_a_password_change,
    logins::no_login_survives_disabling,
    logins::no_login_survives_deletion,
    logins::failures_are_counted_and_forgotten,
    logins::bootstrap_happens_once,
    users::one_of_64_takes_the_name,
    users::unknown_role_changes_nothing,
    users::nobody_grants_more_than_they_hold,
    users::role_changes_reach_its_users,
    users::audit_chain_holds_together,
    keys::one_of_64_rotations_wins,
    keys::one_of_64_compromises_acts,
    keys::first_chains_start_immediately_and_later_ones_with_notice,
    keys::expired_private_keys_are_erased,
    keys::a_mac_key_is_kept_while_a_session_that_may_hold_its_token_is_alive,
    keys::every_change_is_counted,
    replicas::a_beat_is_seen_and_a_replica_that_stops_beating_goes_silent_and_is_forgotten,
    replicas::what_operators_want_outlives_beats_and_comes_back_with_them,
    replicas::pages_hold_every_replica_once,
    revocations::ended_sessions_are_revoked_once_and_no_others,
    revocations::changes_of_a_user_revoke_the_sessions_that_they_end,
    revocations::a_change_that_is_refused_revokes_nothing,
    revocations::a_session_that_makes_room_is_revoked,
    revocations::long_expired_sessions_are_ended_without_a_revocation,
    revocations::one_of_64_ends_is_revoked,
    revocations::no_end_of_64_sessions_is_lost,
    revocations::a_compromised_key_stays_revoked,
    revocations::a_revocation_is_forgotten_exactly_at_its_second,
    revocations::a_revocation_past_its_second_is_not_read_although_nobody_purged_it,
    revocations::purging_goes_in_batches_and_keeps_what_is_still_needed,
    revocations::a_read_goes_back_a_minute_before_the_last_one,
    revocations::readers_are_notified_of_a_commit_and_of_no_rollback,
];
