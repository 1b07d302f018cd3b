//! What the cluster knows about a pod that ended: exit codes, kills for memory, and why it was taken away. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::{
    pod::{INIT, MAIN, PROXY},
    service,
};
use crate::{Death, Evidence, Loss, LossKind};

/// From the pod's own status.
pub(super) fn evidence(pod: &Pod) -> Evidence {
    let Some(status) = &pod.status else {
        return Evidence::default();
    };
    let running = status.container_statuses.iter().flatten();
    let mut evidence = Evidence {
        lost: loss(status).or_else(|| removed(pod)),
        ..Evidence::default()
    };
    for container in running.chain(status.init_container_statuses.iter().flatten()) {
        let death = death(container);
        match container.name.as_str() {
            // Init ends by itself when the rules hold.
            INIT => evidence.init = death.filter(|death| death.code != 0),
            PROXY => evidence.proxy = death,
            MAIN => evidence.main = death,
            name => {
                let service = service::of_container(name).map(str::to_owned);
                evidence.services.extend(service.zip(death));
            }
        }
    }
    evidence.more_to_come = evidence.lost.is_none()
        && (evidence.proxy.is_some() || evidence.main.is_some())
        && status.phase.as_deref() == Some("Running");
    evidence
}

/// A pod that is deleted ends its containers one by one. That the proxy ends first says nothing about who ended it.
fn removed(pod: &Pod) -> Option<Loss> {
    pod.metadata.deletion_timestamp.as_ref()?;
    Some(Loss {
        kind: LossKind::Removed,
        message: "its pod was deleted".to_owned(),
    })
}

/// How a container ended. A proxy that the kubelet started again, as it does with a native sidecar, has ended all the
/// same: what it was assigned, and its account, were the first one's.
pub(super) fn ended(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let last = container.last_state.as_ref().filter(|_| container.name == PROXY);
    let states = [container.state.as_ref(), last];
    states
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())
}

fn death(container: &ContainerStatus) -> Option<Death> {
    let ended = ended(container)?;
    Some(Death {
        code: i64::from(ended.exit_code),
        oom: ended.reason.as_deref() == Some("OOMKilled"),
        log: ended.message.clone().unwrap_or_default().trim_end().to_owned(),
    })
}

/// Why the cluster took the pod away, if it did.
///
/// The condition `DisruptionTarget` says more than the pod's own reason and is looked at first. Nothing here can be
/// written by the workload.
pub(super) fn loss(status: &PodStatus) -> Option<Loss> {
    let message = status.message.clone().unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let disrupted = conditions.find(|one| one.type_ == "DisruptionTarget" && one.status == "True");
    if let Some(condition) = disrupted {
        let words = condition.message.clone().unwrap_or_else(|| message.clone());
        let kind = match condition.reason.as_deref().unwrap_or_default() {
            "PreemptionByScheduler" => LossKind::Preempted,
            "DeletionByTaintManager" | "DeletionByPodGC" => LossKind::NodeLost,
            // The kubelet says so for pressure and for a node that is being shut down alike.
            "TerminationByKubelet" if status.reason.as_deref() == Some("Terminated") => LossKind::NodeLost,
            _ => evicted(&message),
        };
        return Some(Loss { kind, message: words });
    }
    let kind = match status.reason.as_deref()? {
        "Evicted" => evicted(&message),
        "Preempting" => LossKind::Preempted,
        "NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated" => LossKind::NodeLost,
        "DeadlineExceeded" => LossKind::Deadline,
        "UnexpectedAdmissionError" | "NodeAffinity" | "TopologyAffinityError" => LossKind::Rejected,
        reason if reason.starts_with("OutOf") => LossKind::Rejected,
        _ => return None,
    };
    Some(Loss { kind, message })
}

/// The kubelet evicts for the sandbox's own limit on disk with words of its own. What the proxy writes is ours.
pub(super) fn evicted(message: &str) -> LossKind {
    let own = [
        "Container main exceeded its local ephemeral storage limit",
        "Pod ephemeral local storage usage exceeds the total limit of containers",
        "Usage of EmptyDir volume \"main\" exceeds the limit",
    ];
    if own.iter().any(|words| message.contains(words)) {
        LossKind::DiskFull
    } else {
        LossKind::Evicted
    }
}

#[cfg(test)]
mod tests;
