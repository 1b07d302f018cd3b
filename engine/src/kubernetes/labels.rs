//! How our objects are named and labelled, and how they are found by it.

use std::collections::BTreeMap;

use assay_core::{
    id::{AttemptId, RunId, SandboxId},
    phase::EgressPhase,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    Listed, SandboxRef,
    labels::{ATTEMPT, MANAGED_BY, OWNER, PHASE, ROLE, RUN, SANDBOX},
};

/// The installation whose objects are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner(pub String);

/// Whom a sandbox serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub sandbox: SandboxId,
    pub run: RunId,
    pub attempt: AttemptId,
}

/// The name of a sandbox's pod and of its Secret: one per sandbox, so that creating twice meets the first.
pub(super) fn name(sandbox: SandboxId) -> String {
    format!("assay-{sandbox}")
}

/// Name, namespace and the labels that never change.
pub(super) fn metadata(owner: &Owner, identity: &Identity, namespace: &str) -> ObjectMeta {
    let labels = [
        (RUN, identity.run.to_string()),
        (ATTEMPT, identity.attempt.to_string()),
        (SANDBOX, identity.sandbox.to_string()),
        (OWNER, owner.0.clone()),
        (ROLE, "sandbox".to_owned()),
        (MANAGED_BY, "assay".to_owned()),
    ];
    ObjectMeta {
        name: Some(name(identity.sandbox)),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
        ..ObjectMeta::default()
    }
}

/// The phase as the network policies know it.
pub(super) fn phase(phase: EgressPhase) -> (String, String) {
    let value = match phase {
        EgressPhase::Build => "build",
        EgressPhase::Setup => "setup",
        EgressPhase::Agent => "agent",
        EgressPhase::Verify => "verification",
    };
    (PHASE.to_owned(), value.to_owned())
}

/// Selects every object of this installation.
pub(super) fn selector(owner: &Owner) -> String {
    format!("{OWNER}={}", owner.0)
}

/// Whether the object is this installation's.
pub(super) fn is_ours(owner: &Owner, metadata: &ObjectMeta) -> bool {
    label(metadata, OWNER) == Some(&owner.0)
}

/// The sandbox and attempt that labels tell; the sandbox by the object's name where an older version gave it no label.
pub(super) fn listed(metadata: &ObjectMeta) -> Option<Listed> {
    let of_name = || metadata.name.as_ref()?.strip_prefix("assay-")?.parse().ok();
    let of_label = label(metadata, SANDBOX).and_then(|text| text.parse().ok());
    Some(Listed {
        name: SandboxRef {
            sandbox: of_label.or_else(of_name)?,
        },
        attempt: label(metadata, ATTEMPT)?.parse().ok()?,
    })
}

/// Is it a value that a label may have? An installation's id becomes one.
pub(super) fn may_be_label(value: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && edge(value.chars().next())
        && edge(value.chars().last())
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a String> {
    let labels: &BTreeMap<String, String> = metadata.labels.as_ref()?;
    labels.get(key)
}
