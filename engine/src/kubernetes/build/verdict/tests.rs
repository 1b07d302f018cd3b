use serde_json::{Value, json};

use super::*;

fn pod(containers: &[(&str, Value)], more: &Value) -> Pod {
    let status = |(name, state): &(&str, Value)| json!({"name": name, "state": state, "image": "i", "imageID": "", "ready": false, "restartCount": 0});
    let (first, last): (Vec<_>, Vec<_>) = containers.iter().partition(|(name, _)| *name != PUSH);
    let mut pod = json!({"metadata": {}, "status": {
        "phase": "Running",
        "initContainerStatuses": first.into_iter().map(status).collect::<Vec<_>>(),
        "containerStatuses": last.into_iter().map(status).collect::<Vec<_>>(),
    }});
    for (key, value) in more.as_object().unwrap() {
        pod["status"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn ended(code: i32, message: &str) -> Value {
    json!({"terminated": {"exitCode": code, "message": message, "reason": "Error"}})
}

fn end_of(containers: &[(&str, Value)]) -> End {
    match stage(&pod(containers, &json!({}))) {
        Stage::Ended(end) => end,
        other @ (Stage::Waiting { .. } | Stage::Running) => panic!("{other:?}"),
    }
}

const DONE: &str = r#"{"end":"done"}"#;

#[test]
fn each_containers_last_word_is_believed_for_what_it_may_say() {
    let fetched = (FETCH, ended(0, DONE));
    let task = end_of(&[
        fetched.clone(),
        (BUILD, ended(1, r#"{"end":"task","reason":"no"}"#)),
    ]);
    assert_eq!(task, End::Task("no".to_owned()));
    let late = end_of(&[fetched.clone(), (BUILD, ended(1, r#"{"end":"timed_out"}"#))]);
    assert_eq!(late, End::TimedOut);
    let pushed = format!(r#"{{"end":"pushed","digest":"sha256:{}"}}"#, "0".repeat(64));
    let good = [
        fetched.clone(),
        (BUILD, ended(0, DONE)),
        (PUSH, ended(0, &pushed)),
    ];
    assert_eq!(end_of(&good), End::Pushed);
    // The builder's container runs what strangers wrote: it cannot say that something was pushed.
    let forged = end_of(&[fetched, (BUILD, ended(0, &pushed))]);
    assert!(matches!(forged, End::Platform(_)), "{forged:?}");
}

#[test]
fn a_container_that_says_nothing_was_killed() {
    assert_eq!(end_of(&[(BUILD, ended(137, ""))]), End::OutOfMemory);
    let fetch = end_of(&[(FETCH, ended(137, ""))]);
    assert!(matches!(fetch, End::Platform(_)), "{fetch:?}");
}

#[test]
fn what_the_cluster_takes_away_is_its_own_fault_but_for_a_full_volume() {
    let evicted = |message: &str| {
        let status = json!({"phase": "Failed", "reason": "Evicted", "message": message});
        stage(&pod(&[(BUILD, ended(137, ""))], &status))
    };
    for own in [
        "Usage of EmptyDir volume \"storage\" exceeds the limit \"1Gi\". ",
        "Container build exceeded its local ephemeral storage limit \"1Gi\". ",
        "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
    ] {
        let own = evicted(own);
        assert!(matches!(own, Stage::Ended(End::Task(_))), "{own:?}");
    }
    let node = evicted("The node was low on resource: memory.");
    assert!(matches!(node, Stage::Ended(End::Platform(_))), "{node:?}");
}

#[test]
fn a_pod_without_room_waits_and_says_so() {
    let status = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]});
    let waiting = stage(&pod(&[], &status));
    assert_eq!(
        waiting,
        Stage::Waiting {
            room: true,
            words: "0/1 nodes".to_owned()
        }
    );
    let running = stage(&pod(
        &[
            (FETCH, json!({"running": {}})),
            (BUILD, json!({"waiting": {"reason": "PodInitializing"}})),
        ],
        &json!({}),
    ));
    assert_eq!(running, Stage::Running);
    let between = stage(&pod(
        &[
            (FETCH, ended(0, DONE)),
            (BUILD, json!({"waiting": {"reason": "ErrImagePull"}})),
        ],
        &json!({}),
    ));
    assert!(
        matches!(between, Stage::Waiting { room: false, .. }),
        "{between:?}"
    );
}
