use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};

use super::*;
use crate::kubernetes::PodOptions;

fn quota(hard: &[(&str, &str)], used: &[(&str, &str)]) -> ResourceQuota {
    let amounts = |all: &[(&str, &str)]| {
        let all = all.iter();
        Some(
            all.map(|(key, amount)| ((*key).to_owned(), Quantity((*amount).to_owned())))
                .collect(),
        )
    };
    ResourceQuota {
        status: Some(ResourceQuotaStatus {
            hard: amounts(hard),
            used: amounts(used),
        }),
        ..ResourceQuota::default()
    }
}

#[test]
fn a_quota_leaves_what_its_scarcest_amount_leaves() {
    let slot = Resources {
        cpu_milli: 1_000,
        memory_bytes: 512 << 20,
        pids: 100,
        disk_bytes: 1 << 30,
    };
    let needs = pod::needs(&slot, &PodOptions::default());
    let left = |hard: &[(&str, &str)], used: &[(&str, &str)]| left_by(&quota(hard, used), &needs);
    assert_eq!(left(&[("pods", "5")], &[("pods", "3")]), 2);
    // A sandbox reserves 1050m with its proxy.
    assert_eq!(left(&[("requests.cpu", "4")], &[("requests.cpu", "0")]), 3);
    assert_eq!(left(&[("pods", "9"), ("limits.memory", "1Gi")], &[]), 1);
    assert_eq!(left(&[("count/configmaps", "0")], &[]), u32::MAX);
}

#[test]
fn what_never_fits_a_quota_is_told_from_what_does_not_fit_now() {
    let words = "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=1050m, used: \
                 pods=3,requests.cpu=4, limited: pods=3,requests.cpu=4";
    assert!(!never_fits(words));
    assert!(never_fits(&words.replace("cpu=1050m", "cpu=64")));
    let gpus = "pods \"x\" is forbidden: exceeded quota: q, requested: requests.nvidia.com/gpu=4, used: \
                requests.nvidia.com/gpu=2, limited: requests.nvidia.com/gpu=";
    assert!(!never_fits(&format!("{gpus}4")));
    assert!(never_fits(&format!("{gpus}2")));
    assert!(!never_fits("something else"));
}

#[test]
fn the_scheduler_says_whether_any_node_could() {
    let full = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are \
                available: 1 No preemption victims found for incoming pod.";
    assert!(!no_node_could(full));
    let too_big = full.replace(
        "No preemption victims found for incoming pod",
        "Preemption is not helpful for scheduling",
    );
    assert!(no_node_could(&too_big));
    assert!(no_node_could(&too_big.replace("cpu", "nvidia.com/gpu")));
    let mixed = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 1 No preemption victims \
                 found for incoming pod, 2 Preemption is not helpful for scheduling.";
    assert!(!no_node_could(mixed));
}

#[test]
fn nodes_that_labels_leave_out_are_no_room_for_anybody_who_takes_nothing_away() {
    let never = "preemption: not eligible due to preemptionPolicy=Never.";
    let words =
        |reasons: &str| format!("0/3 nodes are available: {reasons}. no new claims to deallocate, {never}");
    assert!(no_node_could(&words(
        "3 node(s) didn't match Pod's node affinity/selector"
    )));
    assert!(!no_node_could(&words(
        "1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector"
    )));
    assert!(!no_node_could(&words("3 Insufficient memory")));
}
