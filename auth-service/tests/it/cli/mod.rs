//! The command line: the real program, run as a process in an empty folder and with an empty environment, on both databases.

mod administrators;
mod commands;
mod doctor;
mod documents;
mod golden;
mod help;
mod nothing_created;
mod printed;
mod shells;
mod site;
mod terminal;
mod token;

site::on_both_databases![
    administrators::audit_entries_name_the_person_and_the_reason,
    administrators::commands_name_their_database_unless_they_are_quiet,
    administrators::exit_code_is_2_for_wrong_usage_and_1_for_a_refusal,
    administrators::former_spellings_still_work,
    administrators::the_last_administrator_is_lost_only_with_consent_and_control_comes_back,
    commands::every_command_prints_the_same_on_both_databases,
    doctor::exit_code_is_that_of_the_worst_finding,
    doctor::first_passwords_that_lie_about_or_are_weak_are_found,
    doctor::issuers_that_are_unreachable_or_of_another_installation_are_found,
    doctor::key_chains_without_a_key_are_found,
    doctor::master_keys_that_are_missing_or_wrong_are_found,
    doctor::open_files_are_found,
    doctor::replicas_that_are_silent_or_drained_are_found,
    doctor::settings_that_are_overridden_and_open_listeners_are_found,
    nothing_created::an_older_schema_is_refused_and_not_migrated,
    nothing_created::serve_creates_an_installation_that_commands_can_use,
    printed::audit_options_select_entries,
    token::flags_default_to_the_local_configuration_and_the_feed_tells_ended_sessions,
];
