//! What the pod of a build says about its end. Pure.

use assay_core::control::build::Verdict;
use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
};

use super::job::{BUILD, FETCH, PUSH};
use crate::kubernetes::evidence::loss;

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The image is in the registry.
    Pushed,
    /// Nobody builds, and nobody says how it ended.
    Vanished,
    /// The Dockerfile's fault.
    Task(String),
    /// A step ran out of memory.
    OutOfMemory,
    /// The build ran past its time.
    TimedOut,
    /// Registry, object store or node.
    Platform(String),
}

/// How far a build has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing runs yet. Why, where the cluster says so.
    Waiting {
        /// No node has room.
        room: bool,
        /// In the cluster's words.
        words: String,
    },
    /// Something runs.
    Running,
    /// It ended.
    Ended(End),
}

/// What the pod's status says.
pub(super) fn stage(pod: &Pod) -> Stage {
    let Some(status) = &pod.status else {
        return Stage::Waiting {
            room: false,
            words: String::new(),
        };
    };
    for name in [FETCH, BUILD, PUSH] {
        let Some(ended) = ended(status, name) else {
            continue;
        };
        match end(name, ended) {
            Some(Verdict::Done) => {}
            Some(verdict) => return Stage::Ended(meaning(verdict)),
            None => return Stage::Ended(silent(status, name, ended)),
        }
    }
    if let Some(end) = taken(status) {
        return Stage::Ended(end);
    }
    waiting(status).unwrap_or(Stage::Running)
}

/// Has the builder itself begun?
pub(super) fn has_log(pod: &Pod) -> bool {
    let status = pod.status.as_ref().and_then(|status| of(status, BUILD));
    let state = status.and_then(|status| status.state.as_ref());
    state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

/// Did the Job end, as its own conditions say?
pub(super) fn is_over(job: &Job) -> bool {
    condition(job, "Failed").or(condition(job, "Complete")).is_some()
}

/// Why the Job failed, in the cluster's words.
pub(super) fn failure(job: &Job) -> Option<String> {
    condition(job, "Failed")
}

fn condition(job: &Job, kind: &str) -> Option<String> {
    let conditions = |status: &JobStatus| status.conditions.clone();
    let mut all = job.status.as_ref().and_then(conditions).into_iter().flatten();
    let found = all.find(|one| one.type_ == kind && one.status == "True")?;
    let (reason, message) = (
        found.reason.unwrap_or_default(),
        found.message.unwrap_or_default(),
    );
    Some(format!("{reason}: {message}"))
}

fn of<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let first = status.init_container_statuses.iter().flatten();
    let mut all = first.chain(status.container_statuses.iter().flatten());
    all.find(|one| one.name == name)
}

fn ended<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStateTerminated> {
    of(status, name)?.state.as_ref()?.terminated.as_ref()
}

/// The container's last word; `None` where it could not say one. Good words of what failed are not believed.
fn end(name: &str, ended: &ContainerStateTerminated) -> Option<Verdict> {
    let verdict: Verdict = serde_json::from_str(ended.message.as_deref()?).ok()?;
    let may_say = match &verdict {
        Verdict::Pushed { .. } => name == PUSH && ended.exit_code == 0,
        Verdict::Done => name != PUSH && ended.exit_code == 0,
        Verdict::OutOfMemory | Verdict::TimedOut => name == BUILD,
        Verdict::Task { .. } | Verdict::Platform { .. } => true,
    };
    may_say.then_some(verdict)
}

fn meaning(verdict: Verdict) -> End {
    match verdict {
        Verdict::Pushed { .. } => End::Pushed,
        Verdict::Done => End::Platform("a container ended before its time".to_owned()),
        Verdict::Task { reason } => End::Task(reason),
        Verdict::OutOfMemory => End::OutOfMemory,
        Verdict::TimedOut => End::TimedOut,
        Verdict::Platform { message } => End::Platform(message),
    }
}

/// It ended and said nothing: the kernel or the cluster ended it.
fn silent(status: &PodStatus, name: &str, ended: &ContainerStateTerminated) -> End {
    if let Some(end) = taken(status) {
        return end;
    }
    let reason = ended.reason.as_deref().unwrap_or_default();
    // A container that is killed whole has no time to speak: 137, and nothing after the last line of its log.
    if name == BUILD && (reason == "OOMKilled" || ended.exit_code == 137) {
        return End::OutOfMemory;
    }
    let said = ended.message.as_deref().unwrap_or_default();
    End::Platform(format!(
        "{name} ended with code {} {reason} {said}",
        ended.exit_code
    ))
}

fn taken(status: &PodStatus) -> Option<End> {
    let loss = loss(status)?;
    // What a Dockerfile fills: its volumes, and the root of a builder that unpacks there.
    let own = [
        "\"storage\" exceeds",
        "\"layout\" exceeds",
        "Container build exceeded",
        "Pod ephemeral local storage usage exceeds",
    ];
    if own.iter().any(|words| loss.message.contains(words)) {
        return Some(End::Task(format!(
            "the build wrote more than it may: {}",
            loss.message
        )));
    }
    Some(End::Platform(format!("{}: {}", loss.kind.as_str(), loss.message)))
}

/// Whether nothing has begun yet.
fn waiting(status: &PodStatus) -> Option<Stage> {
    let mut conditions = status.conditions.iter().flatten();
    if let Some(refused) = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "False") {
        return Some(Stage::Waiting {
            room: true,
            words: refused.message.clone().unwrap_or_default(),
        });
    }
    let all = [FETCH, BUILD, PUSH].map(|name| of(status, name));
    let with_state = all
        .into_iter()
        .flatten()
        .filter_map(|one| Some((one, one.state.as_ref()?)));
    for (container, state) in with_state {
        let Some(waits) = &state.waiting else {
            if state.running.is_some() {
                return None;
            }
            continue;
        };
        return Some(Stage::Waiting {
            room: false,
            words: format!(
                "{} {}: {} {}",
                container.name,
                container.image,
                waits.reason.as_deref().unwrap_or_default(),
                waits.message.as_deref().unwrap_or_default()
            ),
        });
    }
    None
}

#[cfg(test)]
mod tests;
