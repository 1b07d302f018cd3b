//! How our containers are named and labelled, and how they are found by it.

use std::{collections::HashMap, fmt};

use assay_core::id::{AttemptId, RunId, SandboxId};

use crate::{
    SandboxRef,
    labels::{ATTEMPT, MANAGED_BY, OWNER, ROLE, RUN, SANDBOX, SERVICE},
};

/// The installation whose containers are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner(pub String);

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Packet rules; holds the network namespace.
    Init,
    /// The egress proxy.
    Proxy,
    /// The task's image with the runner.
    Main,
    /// A container beside main.
    Service,
}

impl Role {
    /// Those of which each sandbox has one.
    pub(super) const SINGLE: [Self; 3] = [Self::Init, Self::Proxy, Self::Main];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Proxy => "proxy",
            Self::Main => "main",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whom a sandbox serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub sandbox: SandboxId,
    pub run: RunId,
    pub attempt: AttemptId,
}

/// The container's name: one per sandbox and role, so that creating twice meets the first.
pub(super) fn name(sandbox: SandboxId, role: Role) -> String {
    format!("assay-{sandbox}-{role}")
}

/// The name of a service's container.
pub(super) fn service_name(sandbox: SandboxId, service: &str) -> String {
    format!("{}-{service}", name(sandbox, Role::Service))
}

/// The service that labels tell.
pub(super) fn service(labels: &HashMap<String, String>) -> Option<String> {
    labels.get(SERVICE).cloned()
}

/// The labels of a container; never changed.
pub(super) fn labels(owner: &Owner, identity: &Identity, role: Role) -> HashMap<String, String> {
    let mut all = of_volume(owner, identity);
    all.insert(ROLE.to_owned(), role.name().to_owned());
    all
}

/// The labels of a container's volume.
pub(super) fn of_volume(owner: &Owner, identity: &Identity) -> HashMap<String, String> {
    [
        (RUN, identity.run.to_string()),
        (ATTEMPT, identity.attempt.to_string()),
        (SANDBOX, identity.sandbox.to_string()),
        (OWNER, owner.0.clone()),
        (MANAGED_BY, "assay".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// A filter for everything of this installation.
pub(super) fn filter(owner: &Owner) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{OWNER}={}", owner.0)])])
}

/// A filter for everything of one sandbox.
pub(super) fn sandbox_filter(owner: &Owner, sandbox: SandboxId) -> HashMap<String, Vec<String>> {
    let labels = vec![format!("{OWNER}={}", owner.0), format!("{SANDBOX}={sandbox}")];
    HashMap::from([("label".to_owned(), labels)])
}

/// A filter for the services of one sandbox.
pub(super) fn services_filter(owner: &Owner, sandbox: SandboxId) -> HashMap<String, Vec<String>> {
    let mut filter = sandbox_filter(owner, sandbox);
    let role = format!("{ROLE}={}", Role::Service);
    filter.entry("label".to_owned()).or_default().push(role);
    filter
}

/// Whether the labels are this installation's.
pub(super) fn is_ours(owner: &Owner, labels: &HashMap<String, String>) -> bool {
    labels.get(OWNER) == Some(&owner.0)
}

/// The sandbox and attempt that labels tell.
pub(super) fn listed(labels: &HashMap<String, String>) -> Option<crate::Listed> {
    Some(crate::Listed {
        name: SandboxRef {
            sandbox: labels.get(SANDBOX)?.parse().ok()?,
        },
        attempt: labels.get(ATTEMPT)?.parse().ok()?,
    })
}
