//! Whose fault it is that Kaniko failed.
//!
//! It passes the code of a failing step on as its own, so the code says little; its last line says more. The rules were
//! read off the real program, v1.28.3, case by case; where one was read in its source instead, it says so.

use crate::{
    failure::{Failure, Fault},
    tail::Tail,
};

/// How its last line begins. Complaints of its arguments begin otherwise: [`Tail::complaint`].
const ENDS: [&str; 5] = [
    "error building image: ",
    "error checking push permissions: ",
    "error pushing image: ",
    // Before it begins (source).
    "error resolving relative paths",
    "error changing to root dir",
];
const IN_A_STEP: &str = "error building image: error building stage: failed to execute command: ";

/// A last line that begins so, and has one of the words (if there are any), means this.
struct Rule {
    begins: &'static str,
    has: &'static [&'static str],
    means: Fault,
}

/// The first one that fits counts; what fits none is the platform's.
const RULES: &[Rule] = &[
    rule(
        "Error: error resolving dockerfile path: please provide a valid path",
        &[],
        Fault::Task,
    ),
    // Arguments, context, a root that it cannot write to or that is not its own.
    rule("Error: ", &[], Fault::Platform),
    // It pushes nothing, so it fails to write what it has made.
    rule("error checking push permissions: ", &[], Fault::Platform),
    rule("error pushing image: ", &[], Fault::Platform),
    rule("error building image: parsing dockerfile: ", &[], Fault::Task),
    rule(
        "error building image: error building stage: failed to execute command: waiting for process to exit: ",
        &[],
        Fault::Task,
    ),
    // A capability is missing.
    rule(
        "error building image: error building stage: failed to get filesystem from image: ",
        &[],
        Fault::Platform,
    ),
    rule(
        "error building image: error building stage: failed to take snapshot: ",
        &[],
        Fault::Platform,
    ),
    rule(
        "error building image: error building stage: failed to execute command: starting command: ",
        &["operation not permitted"],
        Fault::Platform,
    ),
    rule("error building image: ", MACHINE, Fault::Platform),
    // Files that are not there, an image that we did not bring (source), arguments without a value.
    rule("error building image: ", &[], Fault::Task),
];

/// The disk, and our own registry: nobody else is ever reached for an image.
const MACHINE: &[&str] = &[
    "no space left on device",
    "input/output error",
    "read-only file system",
    "dial tcp 127.0.0.1:",
    "unexpected status code 5",
];
/// Where a mirror failed it says that the image is on none of them; what has happened stands in an earlier line (source).
const ON_NO_MIRROR: &str = "error building image: image not found on any configured mapped registries";
const MIRROR_FAILED: &str = "Failed to retrieve image ";
const NOT_ON_MIRROR: [&str; 2] = ["NAME_UNKNOWN", "MANIFEST_UNKNOWN"];

const fn rule(begins: &'static str, has: &'static [&'static str], means: Fault) -> Rule {
    Rule { begins, has, means }
}

/// Whose fault a failure is.
pub(crate) fn fault(failure: &Failure<'_>) -> Fault {
    let end = end(failure.log);
    // Killed before it could speak. Whoever terminates it lets it end by itself, with code 2.
    if failure.is_kill() && (failure.oom || end.is_none()) {
        return Fault::Memory;
    }
    let Some(word) = end.or(failure.log.complaint()) else {
        return Fault::Platform;
    };
    if failure.oom && is_of_a_killed_step(word) {
        return Fault::Memory;
    }
    if word.starts_with(ON_NO_MIRROR) && mirror_is_broken(failure.log) {
        return Fault::Platform;
    }
    let fits = |rule: &&Rule| {
        word.starts_with(rule.begins)
            && (rule.has.is_empty() || rule.has.iter().any(|words| word.contains(words)))
    };
    RULES.iter().find(fits).map_or(Fault::Platform, |rule| rule.means)
}

/// What it said last, if it said anything: the last line that begins as its last lines do, or else its complaint.
pub(crate) fn last_word(log: &Tail) -> Option<&str> {
    end(log).or(log.complaint())
}

fn end(log: &Tail) -> Option<&str> {
    let ends = |line: &&str| ENDS.iter().any(|begin| line.starts_with(begin));
    log.backwards().find(ends)
}

/// What the author of the Dockerfile is told: the end of the log, or, where that explains how it is used, its complaint.
pub(crate) fn reason(log: &Tail) -> String {
    match last_word(log) {
        Some(word) if Some(word) == log.complaint() => word.to_owned(),
        _ => log.text(),
    }
}

fn is_of_a_killed_step(word: &str) -> bool {
    word.starts_with(IN_A_STEP) && (word.contains("signal: killed") || word.contains("exit status 137"))
}

fn mirror_is_broken(log: &Tail) -> bool {
    let mut failures = log.backwards().filter(|line| line.contains(MIRROR_FAILED));
    failures.any(|line| !NOT_ON_MIRROR.iter().any(|word| line.contains(word)))
}

#[cfg(test)]
mod tests;
