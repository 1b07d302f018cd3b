//! What our manifests make of a cluster: what a pod may be, what a screener may do, what a sandbox may reach.
//!
//! `ASSAY_TEST_KUBERNETES` names the kubeconfig of a screener, `ASSAY_TEST_KUBECTL` the client, `ASSAY_TEST_REGISTRY` the
//! registry that nodes pull from (tests/cluster). What is missing is skipped, with the reason.

#[path = "cluster/admission.rs"]
mod admission;
#[path = "cluster/kubectl.rs"]
mod kubectl;
#[path = "cluster/rights.rs"]
mod rights;
