//! What the cluster wrote down about a pod, for people.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, api::ListParams};

use super::{Kubernetes, evidence};
use crate::Loss;

/// The warnings about a pod, the newest last, at most a few. Empty where they cannot be read: they only explain.
pub(super) async fn of_pod(engine: &Kubernetes, name: &str) -> String {
    let mut lines: Vec<String> = warnings(engine, name)
        .await
        .into_iter()
        .map(|event| {
            let (reason, message) = (
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default(),
            );
            format!("{reason}: {message}")
        })
        .collect();
    lines.dedup();
    let from = lines.len().saturating_sub(MOST);
    lines.split_off(from).join("; ")
}

/// A kubelet that evicts a pod says so before it ends the first container; in the pod's own status it says so only once
/// all of the pod is put away, which on a node in need takes long.
pub(super) async fn eviction(engine: &Kubernetes, pod: &Pod) -> Option<Loss> {
    let name = pod.metadata.name.as_deref()?;
    let told = warnings(engine, name).await.into_iter().find(|event| {
        event.reason.as_deref() == Some("Evicted") && event.involved_object.uid == pod.metadata.uid
    })?;
    let message = told.message.unwrap_or_default();
    Some(Loss {
        kind: evidence::evicted(&message),
        message,
    })
}

async fn warnings(engine: &Kubernetes, pod: &str) -> Vec<Event> {
    let events: Api<Event> = Api::namespaced(engine.client.clone(), &engine.namespace);
    let about = ListParams::default().fields(&format!("involvedObject.name={pod},type=Warning"));
    events.list(&about).await.map_or_else(
        |error| {
            tracing::debug!(%error, "events cannot be read");
            Vec::new()
        },
        |found| found.items,
    )
}

const MOST: usize = 3;
