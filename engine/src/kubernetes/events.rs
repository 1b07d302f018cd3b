//! What the cluster wrote down about a pod, for people.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use super::Kubernetes;

/// The warnings about a pod, the newest last, at most a few. Empty where they cannot be read: they only explain.
pub(super) async fn of_pod(engine: &Kubernetes, name: &str) -> String {
    let events: Api<Event> = Api::namespaced(engine.client.clone(), &engine.namespace);
    let about = ListParams::default().fields(&format!("involvedObject.name={name},type=Warning"));
    let found = match events.list(&about).await {
        Ok(found) => found.items,
        Err(error) => {
            tracing::debug!(%error, "events cannot be read");
            return String::new();
        }
    };
    let mut lines: Vec<String> = found
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

const MOST: usize = 3;
