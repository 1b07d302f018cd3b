use serde_json::json;

use super::*;

fn pod(status: &serde_json::Value) -> Pod {
    serde_json::from_value(json!({ "status": status })).unwrap()
}

fn waiting(name: &str, reason: &str, message: &str) -> serde_json::Value {
    json!({ "name": name, "image": "r/task:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": message } } })
}

fn running(name: &str) -> serde_json::Value {
    json!({ "name": name, "image": "x", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": {} } })
}

#[test]
fn a_pod_on_its_way_has_an_address_before_it_runs() {
    let seen = progress(&pod(&json!({
        "phase": "Pending", "podIP": "10.244.0.9",
        "initContainerStatuses": [running("init")],
        "containerStatuses": [waiting("main", "PodInitializing", ""), waiting("proxy", "PodInitializing", "")],
    })))
    .unwrap();
    assert_eq!(seen.ip, Some("10.244.0.9".parse().unwrap()));
    assert!(!seen.running);
    assert_eq!(seen.waiting, None);
    let seen = progress(&pod(
        &json!({ "containerStatuses": [running("main"), running("proxy")] }),
    ))
    .unwrap();
    assert!(seen.running);
}

#[test]
fn an_image_that_is_not_there_is_final_and_a_registry_that_is_away_is_not() {
    let of = |reason: &str, message: &str| {
        progress(&pod(
            &json!({ "containerStatuses": [waiting("main", reason, message)] }),
        ))
    };
    // As containerd says it.
    let message = "failed to pull and unpack image \"r/task:1\": failed to resolve reference \"r/task:1\": r/task:1: not found";
    assert!(matches!(of("ErrImagePull", message), Err(Error::NoImage(name)) if name == "r/task:1"));
    assert!(matches!(of("InvalidImageName", ""), Err(Error::NoImage(_))));
    let away = "failed to do request: Head \"http://10.250.0.1:5000/v2/\": dial tcp 10.250.0.1:5000: connect: connection refused";
    let seen = of("ErrImagePull", away).unwrap();
    assert!(matches!(seen.waiting, Some(Waiting::Pull(words)) if words.contains("connection refused")));
    assert!(matches!(
        of("CreateContainerError", "no"),
        Err(Error::Refused { .. })
    ));
}

#[test]
fn a_pod_without_a_node_waits_for_room_in_the_schedulers_words() {
    let words = "0/1 nodes are available: 1 Insufficient cpu.";
    let seen = progress(&pod(&json!({ "phase": "Pending", "conditions": [
        { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words } ] })))
    .unwrap();
    assert_eq!(seen.waiting, Some(Waiting::Room(words.to_owned())));
}

#[test]
fn init_may_end_well_and_nothing_else_may_end() {
    let ended = |name: &str, code: i32| {
        json!({ "name": name, "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "terminated": { "exitCode": code, "reason": "Error", "message": "why\n" } } })
    };
    assert!(progress(&pod(&json!({ "initContainerStatuses": [ended("init", 0)] }))).is_ok());
    let died = progress(&pod(&json!({ "initContainerStatuses": [ended("init", 77)] }))).unwrap_err();
    assert!(
        matches!(&died, Error::Died { container: "init", code: 77, log } if log == "why"),
        "{died}"
    );
    assert!(matches!(
        progress(&pod(&json!({ "containerStatuses": [ended("main", 0)] }))),
        Err(Error::Died {
            container: "main",
            ..
        })
    ));
}
