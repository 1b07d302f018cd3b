//! The labels that containers and pods carry: the same words on every engine.

pub(crate) const RUN: &str = "assay.dev/run";
pub(crate) const ATTEMPT: &str = "assay.dev/attempt";
pub(crate) const ROLE: &str = "assay.dev/role";
/// The name of a service, beside that role.
pub(crate) const SERVICE: &str = "assay.dev/service";
pub(crate) const OWNER: &str = "assay.dev/owner";
pub(crate) const SANDBOX: &str = "assay.dev/sandbox";
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The one label that changes, on Kubernetes alone: its network policies go by it.
pub(crate) const PHASE: &str = "assay.dev/phase";
