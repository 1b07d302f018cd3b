//! Bad input: a clear error, nothing lost, the platform stays up.
//!
//! Each row is one thing that goes wrong, met where a person would meet it: on a whole installation (PostgreSQL, two
//! API replicas, object store, screener, real containers, the scripted model service). A row asserts the exact code or
//! cause, the sentence, whether there is a score, that no container is left, and for rows with runs that the oracle
//! still scores 1 afterwards.
//!
//! | family | rows |
//! |---|---|
//! | [`task`] | `task.toml`: syntax, wrong type, unknown key; no test script |
//! | [`archive`] | `..`, absolute, link out, device, zeros, entries; digest mismatch before and after registration |
//! | [`build`] | a Dockerfile that fails, never ends, holds up others, fills the disk, starts from a forbidden image |
//! | [`bundle`] | agent bundles and patches that cannot be used |
//! | [`agent`] | agents that bomb, eat memory and disk, print, hold on, kill, plant, replace |
//! | [`setup`] | healthchecks of environment and step that never pass, a failing `setup.sh` |
//! | [`verifier`] | no reward, bad rewards, no end |
//! | [`services`] | containers beside the task's own: the example; those that never get healthy, end, cannot be built, reach too far |
//! | [`model`] | 429, 500, half a body, a cut stream, silence, bills that are never told |
//! | [`platform`] | wrong key; the object store gone for a minute |
//! | [`disk`] | an engine's small disk filled at full speed |
//!
//! Where a person never meets it, it is tested one level below: expired lease, stale fence and repeated report in
//! `api/tests/server/lease.rs`, every fault of an archive in `core/src/archive/tests.rs`, of a diff in
//! `core/src/patch.rs`, of a reward in `core/src/reward.rs`.
//!
//! One installation serves all rows of an engine, many at a time. Some rows of each family run on Podman too.

#[path = "bad_input/agent.rs"]
mod agent;
#[path = "bad_input/archive.rs"]
mod archive;
#[path = "bad_input/build.rs"]
mod build;
#[path = "bad_input/bundle.rs"]
mod bundle;
#[path = "bad_input/disk.rs"]
mod disk;
#[path = "bad_input/home.rs"]
mod home;
#[path = "bad_input/model.rs"]
mod model;
#[path = "bad_input/platform.rs"]
mod platform;
#[path = "bad_input/services.rs"]
mod services;
#[path = "bad_input/setup.rs"]
mod setup;
#[path = "bad_input/task.rs"]
mod task;
#[path = "bad_input/verifier.rs"]
mod verifier;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::Arguments;

use self::home::{After, Home};

/// The rows of a home: `family: row, row; …`.
macro_rules! rows {
    ($home:expr, $($after:ident $family:ident: $($row:ident),+;)+) => {
        vec![$($($home.trial(
            concat!(stringify!($family), "::", stringify!($row)),
            After::$after,
            |home| Box::pin($family::$row(home)),
        )),+),+]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Rows wait for sandboxes far more than they compute.
    arguments.test_threads = arguments.test_threads.or(Some(8));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let docker = Home::new("docker", "ASSAY_TEST_DOCKER", &runtime);
    let podman = Home::new("podman", "ASSAY_TEST_PODMAN", &runtime);
    let mut trials = Vec::new();
    if let Some(home) = &docker {
        trials.extend(on_docker(home));
    }
    if let Some(home) = &podman {
        trials.extend(on_podman(home));
    }
    let rows = libtest_mimic::run(&arguments, trials);
    let homes = [docker, podman].into_iter().flatten();
    let ends = homes.filter(|home| home.was_used()).map(Home::end).collect();
    let last = libtest_mimic::run(&Arguments::default(), ends);
    if rows.has_failed() || last.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn on_docker(home: &Arc<Home>) -> Vec<libtest_mimic::Trial> {
    rows!(home,
        // The longest first.
        Nothing platform: the_object_store_may_be_gone_for_a_minute;
        Nothing disk: is_filled_at_full_speed;
        Oracle model: a_service_that_answers_429, a_service_that_answers_500, a_service_that_answers_half_a_body,
            a_service_that_cuts_its_stream, a_service_that_says_nothing, a_service_that_recovers,
            a_service_that_keeps_its_bills_to_itself;
        Oracle agent: forks_a_bomb, allocates_all_memory, fills_the_disk, prints_a_gigabyte,
            prints_nul_and_invalid_utf8, listens_on_a_low_port, leaves_a_grandchild_holding_the_pipe, ignores_sigterm,
            runs_past_its_deadline, plants_a_reward, kills_every_process_it_can, replaces_the_shell;
        Oracle build: fails, never_ends, fills_the_disk, starts_from_what_the_policy_forbids;
        Oracle bundle: has_no_function, has_a_syntax_error, needs_python_that_is_not_there,
            patches_that_cannot_be_used, a_good_patch;
        Nothing build: holds_up_nobody;
        Nothing bundle: is_empty, is_too_big;
        Oracle verifier: leaves_no_reward, leaves_a_reward_that_is_none, leaves_two_keys, never_ends;
        Oracle archive: is_changed_in_the_store;
        Nothing archive: names_that_leave, links_that_leave, devices, ten_gigabytes_of_zeros,
            two_hundred_thousand_entries, another_digest;
        Oracle services: of_the_example, of_a_separate_verifier, that_never_get_healthy, that_end_under_the_agent,
            that_cannot_be_built, that_reach_for_more;
        Nothing services: that_ask_for_what_is_not_done;
        Nothing setup: an_environment_that_never_gets_healthy, a_step_that_never_gets_healthy, a_setup_that_fails;
        Nothing task: syntax_error, wrong_type, unknown_key, no_test_script;
        Nothing platform: a_wrong_key;
    )
}

/// Some of each family, and all that is about an engine's limits.
fn on_podman(home: &Arc<Home>) -> Vec<libtest_mimic::Trial> {
    rows!(home,
        Nothing model: a_service_that_recovers, a_service_that_cuts_its_stream;
        Nothing agent: forks_a_bomb, allocates_all_memory, fills_the_disk, plants_a_reward, runs_past_its_deadline,
            replaces_the_shell, listens_on_a_low_port;
        Nothing build: fails, never_ends;
        Nothing bundle: has_a_syntax_error, a_good_patch;
        Nothing verifier: leaves_a_reward_that_is_none, never_ends;
        Nothing services: of_the_example, that_never_get_healthy, that_reach_for_more;
        Oracle task: unknown_key;
    )
}
