//! What our manifests make of a cluster: what a pod may be, what a screener may do, what a sandbox may reach. And whole
//! installations whose sandboxes are there.
//!
//! `ASSAY_TEST_KUBERNETES` names the kubeconfig of a screener, `ASSAY_TEST_KUBECTL` the client, `ASSAY_TEST_REGISTRY` the
//! registry that nodes pull from, `ASSAY_TEST_KUBERNETES_ADMIN` the kubeconfig of who may do everything, `ASSAY_TEST_CNI` the
//! cluster's network, `ASSAY_TEST_KUBE_HELM` and `ASSAY_TEST_KUBE_KIND` these programs (tests/cluster). What is missing is skipped, with the reason.

#[path = "cluster/admission.rs"]
mod admission;
#[path = "cluster/build.rs"]
mod build;
#[path = "cluster/bypass.rs"]
mod bypass;
#[path = "cluster/chaos.rs"]
mod chaos;
#[path = "cluster/chart.rs"]
mod chart;
#[path = "cluster/control_plane.rs"]
mod control_plane;
#[path = "cluster/doctor.rs"]
mod doctor;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/flip.rs"]
mod flip;
#[path = "cluster/guard.rs"]
mod guard;
#[path = "cluster/keda.rs"]
mod keda;
#[path = "cluster/manifests.rs"]
mod manifests;
#[path = "cluster/network.rs"]
mod network;
#[path = "cluster/pod_network.rs"]
mod pod_network;
#[path = "cluster/pressure.rs"]
mod pressure;
#[path = "cluster/rights.rs"]
mod rights;
#[path = "cluster/room.rs"]
mod room;
#[path = "cluster/runs.rs"]
mod runs;
#[path = "cluster/sidecar.rs"]
mod sidecar;
#[path = "cluster/space.rs"]
mod space;
#[path = "cluster/taken.rs"]
mod taken;

use assay_tests::kubectl;
