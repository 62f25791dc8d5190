//! The contract of the store, tested on SQLite and PostgreSQL.

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
    settings::of_64_mutually_exclusive_changes_one_kind_is_applied,
    settings::settings_change_is_all_or_nothing_and_counted,
    sessions::one_of_64_advances_wins,
    sessions::one_of_64_recoveries_wins,
    sessions::one_of_64_fast_forwards_wins,
    sessions::one_of_64_ends_is_recorded,
    sessions::ended_session_does_not_advance,
    sessions::expiry_is_exact_to_the_second,
    sessions::every_refresh_reads_the_current_rights,
    sessions::oldest_session_ends_at_the_limit,
    sessions::pages_contain_every_live_session_once,
    sessions::old_sessions_are_purged,
    logins::no_login_survives_a_password_change,
    logins::no_login_survives_disabling,
    logins::no_login_survives_deletion,
    logins::a_burst_gets_the_free_tries_and_no_more,
    logins::refused_try_leaves_nothing_behind,
    logins::one_stranger_in_each_second,
    logins::counters_are_forgotten_unless_they_are_kept_or_reserved,
    logins::network_of_a_login_is_known_for_thirty_days,
    logins::unknown_name_costs_what_some_user_costs,
    logins::bootstrap_happens_once,
    users::one_of_64_takes_the_name,
    users::unknown_role_changes_nothing,
    users::operators_grant_only_permissions_they_hold,
    users::role_changes_reach_its_users,
    users::audit_chain_is_consistent,
    users::last_administrator_stays_unless_confirmed,
    users::roles_of_the_last_administrator_keep_their_permissions,
    users::of_two_administrators_who_attack_each_other_one_stays,
    users::changes_of_users_and_roles_at_the_same_time_never_deadlock,
    users::new_administrator_restores_control_although_the_role_is_gone,
    users::audit_filter_selects_entries_in_either_order,
    sessions::everyone_is_logged_out_in_batches_and_the_feed_names_the_recently_refreshed,
    sessions::ending_everyone_continues_after_it_was_cut_off,
    sessions::lists_contain_every_live_session_once,
    logins::unlocked_user_has_no_failures,
    keys::one_of_64_rotations_wins,
    keys::one_of_64_compromises_takes_effect,
    keys::first_chains_start_immediately_and_later_ones_with_notice,
    keys::expired_private_keys_are_erased,
    keys::mac_key_is_kept_while_a_live_session_may_hold_its_token,
    keys::every_change_is_counted,
    replicas::replica_without_heartbeats_goes_silent_and_is_removed,
    replicas::drain_request_survives_heartbeats_and_is_restored_by_them,
    replicas::pages_contain_every_replica_once,
    revocations::only_ended_sessions_are_revoked_and_only_once,
    revocations::user_changes_revoke_the_sessions_that_they_end,
    revocations::refused_change_revokes_nothing,
    revocations::session_ended_at_the_limit_is_revoked,
    revocations::long_expired_sessions_are_ended_without_a_revocation,
    revocations::one_of_64_ends_is_revoked,
    revocations::no_end_of_64_sessions_is_lost,
    revocations::compromised_key_stays_revoked,
    revocations::revocation_is_forgotten_exactly_at_its_second,
    revocations::expired_revocation_is_not_read_before_it_is_purged,
    revocations::purging_works_in_batches_and_keeps_unexpired_revocations,
    revocations::read_overlaps_the_previous_one_by_a_minute,
    revocations::readers_are_notified_of_commits_but_not_of_rollbacks,
];
