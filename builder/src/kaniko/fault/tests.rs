//! Every row of what was measured with the real program: its exit code and its last words, as they were. `R` is the
//! registry that it was pointed at, on loopback like ours.

use super::*;
use crate::failure::Purpose;

const USAGE: &str = "Usage:\n  executor [flags]\n  executor [command]\n\nFlags:\n";
const IMAGE: &str = "error building image: ";
const AWAY: &str = "error building image: unable to complete operation after 0 attempts, last error: ";
const STEP: &str = "error building image: error building stage: ";
const ENDED: &str = "failed to execute command: waiting for process to exit: ";

fn found(code: Option<i32>, oom: bool, text: &str) -> Fault {
    let mut log = Tail::default();
    log.take(b"INFO[0000] Retrieving image manifest debian:12\nINFO[0001] RUN make\n");
    log.take(text.as_bytes());
    fault(&Failure {
        purpose: Purpose::Build,
        code,
        oom,
        log: &log,
    })
}

#[track_caller]
fn same(rows: &[(&str, i32, &str, Fault)]) {
    for (case, code, text, expected) in rows {
        assert_eq!(found(Some(*code), false, text), *expected, "{case}: {text}");
    }
}

#[test]
fn a_base_that_is_not_there_is_the_dockerfiles_and_one_that_cannot_be_asked_for_is_not() {
    let name = format!(
        "{AWAY}GET http://127.0.0.1:5080/v2/base/nosuch/manifests/1: NAME_UNKNOWN: repository name not known to registry\n"
    );
    let tag = format!(
        "{AWAY}GET http://127.0.0.1:5080/v2/base/x/manifests/99: MANIFEST_UNKNOWN: manifest unknown; map[reference:99]\n"
    );
    let denied = format!(
        "{AWAY}GET http://127.0.0.1:5080/v2/secret/x/manifests/1: DENIED: requested access to the resource is denied\n"
    );
    let down = format!(
        "{AWAY}Get \"https://127.0.0.1:5080/v2/\": dial tcp 127.0.0.1:5080: connect: connection refused; \
         Get \"http://127.0.0.1:5080/v2/\": dial tcp 127.0.0.1:5080: connect: connection refused\n"
    );
    same(&[
        ("unknown base repository", 1, &name, Fault::Task),
        ("unknown base tag", 1, &tag, Fault::Task),
        ("base denied", 1, &denied, Fault::Task),
        ("the base's registry is down", 1, &down, Fault::Platform),
    ]);
}

/// Not measured but read in the source: with maps and without a fallback the last line does not say what has happened.
#[test]
fn a_base_that_no_map_leads_to_is_judged_by_what_the_maps_registry_said() {
    let last = "error building image: image not found on any configured mapped registries for index.docker.io/library/x:1\n";
    let warned = |what: &str| {
        format!(
            "WARN[0000] Failed to retrieve image 127.0.0.1:4711/h0/library/x:1 from remapped registry 127.0.0.1:4711: \
             unable to complete operation after 0 attempts, last error: {what}. Will try with the next registry, or \
             fallback to the original registry.\n{last}"
        )
    };
    let unknown =
        warned("GET http://127.0.0.1:4711/v2/h0/library/x/manifests/1: MANIFEST_UNKNOWN: manifest unknown");
    let broken =
        warned("Get \"http://127.0.0.1:4711/v2/\": dial tcp 127.0.0.1:4711: connect: connection refused");
    let elsewhere = format!("{AWAY}Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io: no such host\n");
    same(&[
        ("unknown", 1, &unknown, Fault::Task),
        ("our registry is gone", 1, &broken, Fault::Platform),
        (
            "a registry that we did not bring anything from",
            1,
            &elsewhere,
            Fault::Task,
        ),
    ]);
}

#[test]
fn a_step_that_fails_is_the_dockerfiles_whatever_it_exits_with() {
    let exit = format!("{STEP}{ENDED}exit status 7\n");
    let killed = format!("{STEP}{ENDED}signal: killed\n");
    let full =
        format!("sh: 1: cannot create /small/x: No space left on device\n{STEP}{ENDED}exit status 2\n");
    let forged = format!("error pushing image: x\nError: unknown flag\n{STEP}{ENDED}exit status 1\n");
    same(&[
        ("exit 7", 7, &exit, Fault::Task),
        ("killed by a signal", 255, &killed, Fault::Task),
        ("disk full on a tmpfs", 2, &full, Fault::Task),
        ("a step that talks like Kaniko", 1, &forged, Fault::Task),
    ]);
}

#[test]
fn memory_is_told_by_the_kernels_count_or_by_silence() {
    let child = format!("Killed\n{STEP}{ENDED}exit status 137\n");
    assert_eq!(found(Some(137), true, &child), Fault::Memory, "a step's child");
    let step = format!("{STEP}{ENDED}signal: killed\n");
    assert_eq!(found(Some(255), true, &step), Fault::Memory, "the step itself");
    let silent = "INFO[0012] Taking snapshot of full filesystem...\n";
    assert_eq!(
        found(Some(137), false, silent),
        Fault::Memory,
        "Kaniko itself, by its code"
    );
    assert_eq!(
        found(None, false, silent),
        Fault::Memory,
        "Kaniko itself, by its signal"
    );
    assert_eq!(found(None, true, silent), Fault::Memory);
    let said = "Error: what a step once said\nINFO[0012] Taking snapshot of full filesystem...\n";
    assert_eq!(
        found(Some(137), false, said),
        Fault::Memory,
        "what steps say is not its word"
    );
    // What a build survives, or does to itself, is its own affair.
    assert_eq!(found(Some(137), false, &child), Fault::Task);
    let exit = format!("{STEP}{ENDED}exit status 7\n");
    assert_eq!(found(Some(7), true, &exit), Fault::Task);
}

#[test]
fn files_of_the_context_are_the_dockerfiles_and_the_context_itself_is_ours() {
    let copy = format!(
        "{STEP}failed to get files used from context: failed to get fileinfo for /assay/context/environment/nothere: \
         lstat /assay/context/environment/nothere: no such file or directory\n"
    );
    let error = |what: &str| format!("Error: error resolving source context: {what}\n{USAGE}");
    same(&[
        ("source of COPY missing", 1, &copy, Fault::Task),
        (
            "context missing",
            1,
            &error("open /nowhere.tar.gz: no such file or directory"),
            Fault::Platform,
        ),
        ("no gzip", 1, &error("gzip: invalid header"), Fault::Platform),
        ("cut", 1, &error("unexpected EOF"), Fault::Platform),
        ("empty", 1, &error("EOF"), Fault::Platform),
    ]);
}

#[test]
fn a_dockerfile_that_cannot_be_read_is_its_authors() {
    let missing = format!(
        "Error: error resolving dockerfile path: please provide a valid path to a Dockerfile within the build context \
         with --dockerfile\n{USAGE}"
    );
    let syntax = format!(
        "{IMAGE}parsing dockerfile: dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)\n"
    );
    let empty = format!("{IMAGE}parsing dockerfile: file with no instructions\n");
    same(&[
        ("missing", 1, &missing, Fault::Task),
        ("syntax", 1, &syntax, Fault::Task),
        ("empty", 1, &empty, Fault::Task),
    ]);
}

#[test]
fn arguments_and_whatever_is_about_pushing_are_ours() {
    let check = "error checking push permissions: ";
    let push = "error pushing image: failed to push to destination 127.0.0.1:5080/apps/e:1: ";
    let rows = [
        (
            "bad destination",
            format!("{check}getting tag for destination: repository can only contain the characters x\n"),
        ),
        (
            "no destination",
            format!("Error: you must provide --destination, or use --no-push\n{USAGE}"),
        ),
        (
            "unknown flag",
            format!("Error: unknown flag: --bogus-flag\n{USAGE}"),
        ),
        (
            "push 403",
            format!("{check}checking push permission for \"R/apps/e:1\": POST http://R: DENIED: no\n"),
        ),
        (
            "push 401, zot",
            format!("{check}unexpected status code 401 Unauthorized: {{\"code\":\"UNAUTHORIZED\"}}\n"),
        ),
        (
            "push 401",
            format!("{check}UNAUTHORIZED: authentication required; [map[]]\n"),
        ),
        (
            "push 403, unchecked",
            format!("{push}POST http://R/v2/apps/e/blobs/uploads/: DENIED: no\n"),
        ),
        (
            "manifest refused",
            format!("{push}PUT http://R: MANIFEST_INVALID: manifest invalid\n"),
        ),
        (
            "registry down at start",
            format!("{check}creating push check transport for R failed: connection refused\n"),
        ),
        (
            "registry dies",
            format!("WARN[0020] Retrying operation after 1s due to x\n{push}connection refused\n"),
        ),
    ];
    for (case, text) in rows {
        assert_eq!(found(Some(1), false, &text), Fault::Platform, "{case}: {text}");
    }
}

#[test]
fn a_container_that_gives_kaniko_too_little_is_ours() {
    let dockerfile = "Error: error resolving dockerfile path: copying dockerfile: ";
    let rows = [
        (
            "read-only root",
            format!("{dockerfile}creating file: open /kaniko/Dockerfile: read-only file system\n{USAGE}"),
        ),
        (
            "not root",
            format!("{dockerfile}open /workspace/Dockerfile: operation not permitted\n{USAGE}"),
        ),
        (
            "no CHOWN",
            format!(
                "{STEP}failed to get filesystem from image: chown /etc/gshadow: operation not permitted\n"
            ),
        ),
        (
            "no FOWNER",
            format!("{STEP}failed to take snapshot: open /tmp/uid: operation not permitted\n"),
        ),
        (
            "no DAC_OVERRIDE",
            format!("{STEP}failed to take snapshot: open /d/f: permission denied\n"),
        ),
        (
            "no SETUID",
            format!(
                "{STEP}failed to execute command: starting command: fork/exec /bin/sh: operation not permitted\n"
            ),
        ),
        (
            "disk full",
            format!("{STEP}failed to save snapshot to image: write /kaniko/1: no space left on device\n"),
        ),
    ];
    for (case, text) in rows {
        assert_eq!(found(Some(1), false, &text), Fault::Platform, "{case}: {text}");
    }
    let no_shell = format!(
        "{STEP}failed to execute command: starting command: fork/exec /bin/sh: no such file or directory\n"
    );
    assert_eq!(
        found(Some(1), false, &no_shell),
        Fault::Task,
        "an image without a shell"
    );
}

#[test]
fn whoever_is_terminated_has_said_nothing_about_the_dockerfile() {
    assert_eq!(found(Some(2), false, ""), Fault::Platform);
}

#[test]
fn the_author_is_told_the_end_of_the_log_or_the_complaint_above_the_usage() {
    let mut log = Tail::default();
    log.take(format!("Error: error resolving dockerfile path: x\n{}", USAGE.repeat(20)).as_bytes());
    assert_eq!(reason(&log), "Error: error resolving dockerfile path: x");
    let mut log = Tail::default();
    log.take(format!("seen\n{STEP}{ENDED}exit status 7\n").as_bytes());
    assert_eq!(reason(&log), format!("seen\n{STEP}{ENDED}exit status 7"));
    assert_eq!(last_word(&Tail::default()), None);
}
