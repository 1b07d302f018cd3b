//! How far a pod has come on its way up, or why it will not get there. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus, Pod, PodStatus};

use super::{
    evidence,
    pod::{INIT, MAIN, PROXY},
    service,
};
use crate::Error;

/// How far a pod has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// Its address, once it has one.
    pub ip: Option<IpAddr>,
    /// Proxy and main run.
    pub running: bool,
    /// The proxy runs: it has what the Secret held.
    pub placed: bool,
    /// A node has taken it.
    pub placed_on_node: bool,
    /// What it waits for.
    pub waiting: Option<Waiting>,
}

/// What a pod waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiting {
    /// No node has room for it, in the scheduler's words.
    Room(String),
    /// A pull that failed in a way that may pass, in the node's words.
    Pull(String),
    /// Anything else.
    Other(String),
}

/// What the pod's status says; an error where waiting does not help.
pub(super) fn progress(pod: &Pod) -> Result<Progress, Error> {
    let Some(status) = &pod.status else {
        return Ok(Progress::default());
    };
    if let Some(loss) = evidence::loss(status) {
        return Err(Error::Unavailable {
            operation: "start the pod",
            message: format!("{}: {}", loss.kind.as_str(), loss.message),
        });
    }
    let mut waiting = unschedulable(status);
    let statuses = || {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    };
    for container in statuses() {
        died(container)?;
        if let Some(state) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) {
            waiting = judge(container, state, waiting)?;
        }
    }
    let running = |name: &str| {
        let mut found = statuses();
        found.any(|one| one.name == name && one.state.as_ref().is_some_and(|state| state.running.is_some()))
    };
    Ok(Progress {
        ip: status.pod_ip.as_ref().and_then(|text| text.parse().ok()),
        running: running(MAIN) && running(PROXY),
        placed: running(PROXY),
        placed_on_node: pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()),
        waiting,
    })
}

fn unschedulable(status: &PodStatus) -> Option<Waiting> {
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    Some(Waiting::Room(condition.message.clone().unwrap_or_default()))
}

/// Init ends by itself when it is done; nothing else ends before the sandbox is ready.
fn died(container: &ContainerStatus) -> Result<(), Error> {
    let ended = evidence::ended(container);
    let Some(ended) = ended.filter(|ended| container.name != INIT || ended.exit_code != 0) else {
        return Ok(());
    };
    if ended.reason.as_deref() == Some("StartError") {
        return Err(refused(container, ended.message.as_deref().unwrap_or_default()));
    }
    Err(Error::Died {
        container: match container.name.as_str() {
            INIT => INIT,
            PROXY => PROXY,
            MAIN => MAIN,
            _ => "service",
        },
        code: i64::from(ended.exit_code),
        log: ended.message.clone().unwrap_or_default().trim_end().to_owned(),
    })
}

fn judge(
    container: &ContainerStatus,
    state: &ContainerStateWaiting,
    before: Option<Waiting>,
) -> Result<Option<Waiting>, Error> {
    let reason = state.reason.as_deref().unwrap_or_default();
    let message = state.message.as_deref().unwrap_or_default();
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" => Err(no_image(container)),
        "ErrImagePull" | "ImagePullBackOff" if is_not_there(message) => Err(no_image(container)),
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            Ok(Some(Waiting::Pull(format!("{}: {message}", container.image))))
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PreStartHookError" => Err(refused(container, message)),
        "" | "PodInitializing" | "ContainerCreating" => Ok(before),
        other => Ok(before.or_else(|| Some(Waiting::Other(format!("{other} {message}"))))),
    }
}

/// The registry answered, and it has no such image or does not show it to this node.
fn is_not_there(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "not found",
        "manifest unknown",
        "name unknown",
        "repository does not exist",
        "no such image",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// The task's images are the task's affair; ours are missing by a mistake of the installation.
fn no_image(container: &ContainerStatus) -> Error {
    if container.name == MAIN || service::of_container(&container.name).is_some() {
        return Error::NoImage(container.image.clone());
    }
    refused(
        container,
        &format!(
            "our own image {} does not exist where nodes look",
            container.image
        ),
    )
}

fn refused(container: &ContainerStatus, message: &str) -> Error {
    Error::Refused {
        operation: "start the pod",
        message: format!("container {}: {message}", container.name),
    }
}

#[cfg(test)]
mod tests;
