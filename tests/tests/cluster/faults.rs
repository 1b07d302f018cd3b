//! Bad input of a cluster: credentials that have expired, an API server that is not up to it, what older versions have left,
//! names that are there twice, clocks that differ. Each ends in words or in the same verdict as without it.
//!
//! Elsewhere: more than a node has, a full quota, a selector that matches nothing in [`super::room`]; a Dockerfile that fails in
//! [`super::build`]; missing walls in [`super::guard`].

use std::time::{Duration, Instant};

use assay_core::{
    cause::Cause,
    clock::{Clock as _, SystemClock},
    control::signature::Signer,
    id::SandboxId,
    money::PicoUsd,
    policy::Policy,
    wire::people::{Evaluation, RunState},
};
use assay_engine::{Engine as _, Error, SandboxRef, SandboxSpec, kubernetes::Kubernetes, trial};
use assay_tests::{
    installation::files::shell_agent,
    person::{Ended, Person},
    processes::{Cluster, Fault, Faulty, Installation},
};
use serde_json::json;

use super::{runs, space::Space};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_is_named_and_charged_to_nobody() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let person = Person { api: kit.api.clone() };
    let task = runs::task_of("debian:no-such-tag");
    let ended = runs::run(&kit, &person, &task, None, Policy::default()).await;
    assert_eq!(
        (ended.run.state, ended.run.score),
        (RunState::GaveUp, None),
        "{ended:#?}"
    );
    assert_eq!(ended.run.cause, Some(Cause::ImageUnavailable), "{ended:#?}");
    assert!(
        ended.detail().contains("debian:no-such-tag"),
        "{}",
        ended.detail()
    );
    assert_eq!(ended.run.cost, PicoUsd::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_policy_forbids_is_named_before_anything_is_made() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let person = Person { api: kit.api.clone() };
    let policy = Policy::parse("[images]\nallow = ['debian', 'docker.io/library/python:3.11*']\n").unwrap();
    let ended = runs::run(&kit, &person, &runs::task_of_an_image(), None, policy).await;
    assert_eq!(ended.run.cause, Some(Cause::TaskInvalid), "{ended:#?}");
    assert_eq!((ended.run.score, ended.attempts.len()), (None, 1), "{ended:#?}");
    assert!(ended.detail().contains("python:3.12-slim"), "{}", ended.detail());
    let policy = Policy::parse("[images]\nallow = ['python:3.12-slim']\n").unwrap();
    one_attempt(&runs::run(&kit, &person, &runs::task_of_an_image(), None, policy).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_that_has_expired_is_told_as_such() {
    let Some(space) = Space::make("expired", true, true) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut settings = space.settings();
    settings.access.kubeconfig = Some(expired(folder.path(), space.admin.kubeconfig()));
    let told = Kubernetes::connect(settings).await.err().unwrap();
    assert!(!told.is_transient(), "{told:?}");
    assert!(told.to_string().contains("has expired"), "{told}");
}

/// The administrator's own certificate, made anew for a time that is over.
fn expired(folder: &std::path::Path, kubeconfig: &str) -> std::path::PathBuf {
    let pki = std::path::Path::new(kubeconfig).parent().unwrap();
    let made = std::process::Command::new("sh")
        .arg("-ec")
        .arg(
            "printf 'extendedKeyUsage=clientAuth\\n' >ext
             openssl req -new -key \"$1/admin.key\" -subj /O=system:masters/CN=admin >admin.csr
             : >index && echo 01 >serial
             printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\npolicy=p\\ndefault_md=sha256\\n[p]\\norganizationName=optional\\ncommonName=supplied\\n' >ca.conf
             openssl ca -batch -notext -config ca.conf -cert \"$1/ca.crt\" -keyfile \"$1/ca.key\" -extfile ext \\
               -startdate 20200101000000Z -enddate 20200102000000Z -in admin.csr -out admin.crt",
        )
        .arg("sh")
        .arg(pki)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let (before, after) = (pki.join("admin.crt"), folder.join("admin.crt"));
    let (before, after) = (before.display().to_string(), after.display().to_string());
    assert!(text.contains(&before), "{text}");
    let file = folder.join("kubeconfig");
    std::fs::write(&file, text.replace(&before, &after)).unwrap();
    file
}

/// An installation whose screeners reach the API server through one that can be told to fail.
async fn behind_faults() -> Option<(Installation<Cluster>, Faulty, Person)> {
    let mut kit = runs::installation(&[]).await?;
    let screener = super::kubectl::kubectl().unwrap();
    let faulty = Faulty::before(&screener).await.unwrap();
    through(&mut kit, &faulty).await;
    let person = Person { api: kit.api.clone() };
    Some((kit, faulty, person))
}

/// Every third request is refused, breaks, or is never answered; every watch breaks at once. The run has one outcome, and it
/// costs no attempt where the fault passes.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_not_up_to_it_costs_no_verdict() {
    let Some((kit, faulty, person)) = behind_faults().await else {
        return;
    };
    let faults = [
        (Fault::Status(429), 3),
        (Fault::Status(500), 3),
        (Fault::Status(503), 3),
        (Fault::CutWatch(Duration::from_millis(300)), 1),
    ];
    for (fault, every) in faults {
        faulty.set(Some((fault, every)));
        let ended = runs::run(&kit, &person, &runs::task_of_an_image(), None, Policy::default()).await;
        let met = faulty.set(None);
        one_attempt(&ended);
        assert!(met > 0, "{fault:?} was never met");
        eprintln!("{fault:?}: {met} requests met it");
    }
}

/// Silence for a while: what is new is soon let be, what works goes on, and what waited is done afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_falls_silent_is_waited_for() {
    let Some((kit, faulty, person)) = behind_faults().await else {
        return;
    };
    let agent =
        shell_agent("touch /tmp/works\nuntil [ -e /tmp/go ]; do sleep 0.1; done\necho 42 >answer.txt\n");
    let task = runs::task_of_an_image();
    let order = person
        .order(&task, Some(&agent), Policy::default())
        .await
        .unwrap();
    let works = person.submit(&order).await.unwrap();
    super::chaos::works(&kit, &person, &works).await.unwrap();
    faulty.set(Some((Fault::Silence, 1)));
    let order = person.order(&task, None, Policy::default()).await.unwrap();
    let waits = person.submit(&order).await.unwrap();
    let_be(&kit, &waits).await;
    assert!(faulty.set(None) > 0);
    let ended = super::chaos::outcome(&kit, &person, &works).await.unwrap();
    one_attempt(&ended);
    let ended = super::chaos::outcome(&kit, &person, &waits).await.unwrap();
    one_attempt(&ended);
}

/// Waits until no screener has taken the one run of an evaluation for longer than any needs to notice the silence.
async fn let_be(kit: &Installation<Cluster>, evaluation: &Evaluation) {
    let begun = Instant::now();
    let mut taken = begun;
    while taken.elapsed() < Duration::from_secs(12) {
        let run = kit.api.runs(evaluation.id).await.unwrap().remove(0);
        if run.state != RunState::Queued {
            taken = Instant::now();
        }
        assert!(begun.elapsed() < Duration::from_mins(5), "{run:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What an older version has left: a pod that says less about itself than ours do. It is found and removed, and nobody else's is.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_an_older_version_is_found_and_removed() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let owner = kit.id().await.unwrap();
    let space = Space::make("older", false, false).unwrap();
    let settings = assay_engine::kubernetes::Settings {
        owner: owner.clone(),
        ..space.settings()
    };
    let engine = Kubernetes::connect(settings).await.unwrap();
    let spec = spec("debian:bookworm-slim");
    let SandboxSpec { sandbox, attempt, .. } = spec;
    let name = SandboxRef { sandbox };
    let old = |owner: &str, labels: serde_json::Value| {
        let mut all = json!({
            "assay.dev/owner": owner, "assay.dev/attempt": attempt.to_string(), "assay.dev/role": "sandbox",
        });
        all.as_object_mut()
            .unwrap()
            .extend(labels.as_object().unwrap().clone());
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("assay-{sandbox}"), "namespace": space.name, "labels": all},
            "spec": {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "containers": [
                {"name": "task", "image": "python:3.12-slim", "command": ["sleep", "1000000"]},
            ]},
        })
    };
    // Neither label of the sandbox nor annotations, and a container of another name.
    space.create(&old(&owner, json!({"assay.dev/version": "0"})));
    let listed = engine.list().await.unwrap();
    assert_eq!(listed.iter().map(|one| one.name).collect::<Vec<_>>(), [name]);
    assert!(
        engine
            .find(&name)
            .await
            .unwrap()
            .is_none_or(|found| found.workdir.is_empty())
    );
    assert!(!engine.evidence(&name).await.unwrap().gone);
    engine.destroy(&name).await.unwrap();
    assert!(engine.list().await.unwrap().is_empty());
    // One of another installation is neither listed, nor taken over, nor removed.
    space.create(&old("somebody-else", json!({})));
    assert!(engine.list().await.unwrap().is_empty());
    let refused = engine.create(&spec).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused { message, .. } if message.contains("another installation")),
        "{refused:?}"
    );
    engine.destroy(&name).await.unwrap();
    space.ok(&["get", "pod", &format!("assay-{sandbox}")], None);
}

/// The second takes over what the first holds, the first goes on with what is new: each run has one outcome.
#[tokio::test(flavor = "multi_thread")]
async fn two_screeners_of_one_name_do_no_harm() {
    let Some(kit) = runs::installation(&[]).await else {
        return;
    };
    let person = Person { api: kit.api.clone() };
    let agent =
        shell_agent("touch /tmp/works\nuntil [ -e /tmp/go ]; do sleep 0.1; done\necho 42 >answer.txt\n");
    let task = runs::task_of_an_image();
    let order = person
        .order(&task, Some(&agent), Policy::default())
        .await
        .unwrap();
    let mut evaluations = vec![person.submit(&order).await.unwrap()];
    super::chaos::works(&kit, &person, &evaluations[0]).await.unwrap();
    let mut twins = Vec::new();
    for name in ["screener-0", "screener-1"] {
        let mut twin = kit.twin_of(name).unwrap();
        twin.start().unwrap();
        twins.push(twin);
    }
    for _ in 0..3 {
        evaluations.push(person.submit(&order).await.unwrap());
    }
    for evaluation in &evaluations {
        one_attempt(&super::chaos::outcome(&kit, &person, evaluation).await.unwrap());
    }
}

/// Ten minutes either way between the database and everything else: leases, deadlines and tokens bear it, and the doctor tells.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_ten_minutes_apart_change_no_verdict() {
    for ahead in [600, -600] {
        let Some(kit) = runs::installation_with(&[], ahead).await else {
            return;
        };
        let offset = kit
            .query("SELECT extract(epoch FROM now())::bigint")
            .await
            .unwrap()
            .remove(0)
            .parse::<i64>()
            .unwrap()
            - SystemClock.now().as_second();
        assert!((offset - ahead).abs() < 60, "the database is {offset} s ahead");
        let person = Person { api: kit.api.clone() };
        let ended = runs::run(&kit, &person, &runs::task_of_an_image(), None, Policy::default()).await;
        one_attempt(&ended);
        let (code, rows, _) = super::doctor::asked(&kit, &[]).await;
        let clocks = super::doctor::row(&rows, "clocks");
        assert_eq!(
            (code, &clocks["verdict"]),
            (Some(1), &json!("missing")),
            "{clocks}"
        );
        assert!(
            clocks["detail"].as_str().unwrap().contains("mend NTP"),
            "{clocks}"
        );
    }
}

/// Both screeners again, through the faulty way.
async fn through(kit: &mut Installation<Cluster>, faulty: &Faulty) {
    kit.ground.reach_by(faulty.kubeconfig());
    kit.renew_screeners().await.unwrap();
}

fn one_attempt(ended: &Ended) {
    assert_eq!(
        (ended.run.state, ended.run.cause, ended.run.score),
        (RunState::Finished, Some(Cause::Completed), Some(1.0)),
        "{ended:#?}"
    );
    assert_eq!(ended.tried().count(), 1, "{:#?}", ended.attempts);
    assert_eq!(ended.run.cost, PicoUsd::ZERO);
}

fn spec(image: &str) -> SandboxSpec {
    let mut random = [0; 10];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    let sandbox = SandboxId::new(SystemClock.now(), random);
    SandboxSpec {
        start_timeout: Duration::from_secs(15),
        ..trial::spec(sandbox, image, &Signer::new(&[7; 32]))
    }
}
