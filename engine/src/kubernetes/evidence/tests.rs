use serde_json::json;

use super::*;

fn evidence_of(status: &serde_json::Value) -> Evidence {
    evidence(&serde_json::from_value(json!({ "status": status })).unwrap())
}

fn ended(name: &str, code: i32, reason: &str) -> serde_json::Value {
    json!({ "name": name, "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": code, "reason": reason } } })
}

#[test]
fn an_init_that_did_its_work_is_no_death() {
    let evidence = evidence_of(&json!({ "initContainerStatuses": [ended("init", 0, "Completed")] }));
    assert_eq!(evidence, Evidence::default());
}

#[test]
fn a_kill_for_memory_is_told_from_other_ends() {
    let of = |reason: &str| {
        let evidence = evidence_of(&json!({ "containerStatuses": [ended("main", 137, reason)] }));
        let main = evidence.main.unwrap();
        (main.code, main.oom, evidence.lost)
    };
    assert_eq!(of("OOMKilled"), (137, true, None));
    assert_eq!(of("Error"), (137, false, None));
}

/// A native sidecar, which the kubelet starts again.
#[test]
fn a_proxy_that_was_started_again_has_ended() {
    let mut again = ended("proxy", 137, "OOMKilled");
    again["lastState"] = again["state"].take();
    again["state"] = json!({ "running": {} });
    let proxy = evidence_of(&json!({ "initContainerStatuses": [again] }))
        .proxy
        .unwrap();
    assert_eq!((proxy.code, proxy.oom), (137, true));
    again["name"] = json!("main");
    assert_eq!(evidence_of(&json!({ "containerStatuses": [again] })).main, None);
}

/// The first status of a pod that a kubelet evicts shows only that something ended.
#[test]
fn a_pod_that_still_runs_without_one_of_its_containers_has_more_to_tell() {
    let of = |phase: &str| {
        evidence_of(&json!({ "phase": phase, "containerStatuses": [ended("proxy", 137, "Error")] }))
    };
    assert!(of("Running").more_to_come && !of("Running").explains());
    assert!(!of("Failed").more_to_come && of("Failed").explains());
    let evicted = evidence_of(
        &json!({ "phase": "Running", "reason": "Evicted", "message": "memory",
                                       "containerStatuses": [ended("proxy", 137, "Error")] }),
    );
    assert!(evicted.explains());
    assert!(
        !evidence_of(&json!({ "phase": "Running" })).explains(),
        "nothing has ended"
    );
}

/// The proxy ends before main when somebody deletes the pod, which is neither's fault.
#[test]
fn a_pod_that_somebody_deletes_was_taken_away() {
    let deleted = json!({ "metadata": { "deletionTimestamp": "2026-11-21T16:00:00Z" },
                          "status": { "containerStatuses": [ended("proxy", 0, "Completed")] } });
    let evidence = evidence(&serde_json::from_value(deleted).unwrap());
    assert_eq!(evidence.lost.unwrap().kind, LossKind::Removed);
}

/// Statuses as clusters write them.
#[test]
fn each_way_of_being_taken_away_has_its_own_name() {
    let disrupted = |reason: &str| {
        json!({ "phase": "Failed", "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": reason,
                "message": "words of the cluster" }] })
    };
    let ended =
        |reason: &str, message: &str| json!({ "phase": "Failed", "reason": reason, "message": message });
    let memory = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 12Mi.";
    let disk = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.";
    let volume = "Usage of EmptyDir volume \"main\" exceeds the limit \"64Mi\". ";
    let table = [
        (ended("Evicted", memory), LossKind::Evicted),
        (ended("Evicted", disk), LossKind::DiskFull),
        (ended("Evicted", volume), LossKind::DiskFull),
        (
            ended("Evicted", &volume.replace("main", "proxy")),
            LossKind::Evicted,
        ),
        (disrupted("PreemptionByScheduler"), LossKind::Preempted),
        (
            ended("Preempting", "Preempted in order to admit critical pod"),
            LossKind::Preempted,
        ),
        (disrupted("DeletionByTaintManager"), LossKind::NodeLost),
        (disrupted("DeletionByPodGC"), LossKind::NodeLost),
        (
            ended(
                "Terminated",
                "Pod was terminated in response to imminent node shutdown.",
            ),
            LossKind::NodeLost,
        ),
        (disrupted("EvictionByEvictionAPI"), LossKind::Evicted),
        (
            ended("OutOfcpu", "Node didn't have enough resource: cpu"),
            LossKind::Rejected,
        ),
        (
            ended(
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            ),
            LossKind::Deadline,
        ),
    ];
    for (status, kind) in table {
        let lost = evidence_of(&status).lost;
        assert_eq!(lost.map(|loss| loss.kind), Some(kind), "{status}");
    }
    assert_eq!(evidence_of(&json!({ "phase": "Running" })).lost, None);
}

#[test]
fn the_limit_on_disk_is_found_behind_the_kubelets_condition() {
    let evidence = evidence_of(&json!({
        "phase": "Failed", "reason": "Evicted",
        "message": "Container main exceeded its local ephemeral storage limit \"1Gi\". ",
        "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
                         "message": "The node was low on resource: ephemeral-storage." }],
        "containerStatuses": [ended("main", 137, "Error")],
    }));
    assert_eq!(evidence.lost.unwrap().kind, LossKind::DiskFull);
}
