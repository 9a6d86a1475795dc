//! What any implementation of the store must do, as functions over one.
//!
//! Each gets a store of its own, empty. [`crate::sqlite`] runs them all on SQLite; another
//! database runs the same list through [`for_each_conformance_test`].

pub(crate) mod agents;
pub(crate) mod dialect;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod routes;
pub(crate) mod runs;
pub(crate) mod sessions;
pub(crate) mod steps;
pub(crate) mod workers;

/// Calls `$run!{ module: test, test, …; module: … }` with every conformance test.
macro_rules! for_each_conformance_test {
    ($run:ident) => {
        $run! {
            agents:
                create_answers_the_record,
                conflicts_are_named,
                list_is_newest_first_by_status_with_offset,
                update_replaces_what_is_given,
                empty_update_changes_nothing,
                delete_spares_owners_of_sessions,
                ensure_finds_the_oldest_or_creates;
            sessions:
                create_answers_the_record,
                conflicts_are_named,
                json_comes_back_to_the_letter,
                expiry_follows_ttl,
                renewal_and_expiry_exclude_each_other,
                names_address_sessions,
                lists_filter_and_page,
                update_replaces_what_is_given,
                update_names_what_the_request_named,
                empty_update_changes_nothing,
                delete_takes_steps_and_workers,
                idempotency_key_creates_once,
                count_follows;
            steps:
                accept_numbers_and_queues,
                repeated_id_finds_the_first,
                conflicts_are_named,
                finish_records_once,
                an_end_is_seen_once_it_is_handed_in,
                a_given_sequence_is_kept_while_it_is_free,
                an_outcome_brings_its_step_along,
                large_output_shows_head_and_tail,
                unfinished_come_in_order_with_input,
                lists_page_by_sequence;
            dialect:
                an_id_is_its_owners,
                a_released_id_can_be_had_again;
            workers:
                a_terminal_is_no_interpreter,
                a_terminal_changes,
                generations_grow,
                conflicts_are_named,
                exit_is_recorded_once,
                crash_marks_the_session,
                crash_of_a_predecessor_does_not,
                crash_leaves_ended_sessions_alone,
                restart_revives_only_the_crashed;
            events:
                client_events_come_back_to_the_letter,
                lists_filter_and_page,
                followers_miss_nothing,
                watch_shows_the_last_commit,
                refused_changes_leave_no_event;
            jobs:
                create_answers_the_job,
                a_job_key_creates_once,
                the_first_end_counts_and_cleaned_jobs_are_not_under_way;
            routes:
                insert_answers_the_route,
                insert_finds_the_first,
                one_of_many_inserts_wins,
                update_needs_the_generation,
                remove_needs_the_generation,
                a_change_of_a_removed_route_misses_its_successor,
                lists_page_by_session,
                overdue_come_first_and_ended_not_at_all,
                only_the_ended_are_forgotten;
            runs:
                a_run_is_created_once_for_its_id,
                a_run_key_names_one_run,
                a_run_ends_once_and_keeps_what_came_of_it;
        }
    };
}
pub(crate) use for_each_conformance_test;
