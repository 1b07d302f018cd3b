//! Who a worker is: by the token of its pod, and by a key that is bound to it.

use assay_core::{
    clock::{Clock as _, SystemClock},
    id::WorkerId,
    wire::{
        WIRE, WIRE_OLDEST,
        people::{Key, NewKey, Revoked, Scope},
        worker::{Beat, Beaten, Claim, Claimed, Register, Registered},
    },
};
use assay_runtime::client::Error;
use http::Method;
use serde_json::{Value, json};

use crate::{
    stage::{Setting, Stage, code, staged},
    tokens::{Issuer, Signer, base64, claims},
};

/// A stage that trusts one issuer, whose keys are these.
async fn trusting(signers: &[&Signer]) -> Option<(Stage, Issuer, tempfile::TempDir)> {
    let issuer = Issuer::start("pod").await;
    issuer.publish(signers);
    let folder = tempfile::tempdir().unwrap();
    let bearer = folder.path().join("token");
    std::fs::write(&bearer, "pod\n").unwrap();
    let setting = Setting {
        worker_tokens: issuer.trusted(bearer),
        public_host: Some("localhost"),
        ..Setting::default()
    };
    Some((staged(setting).await?, issuer, folder))
}

async fn register(stage: &Stage, shown: &str, name: &str) -> Result<Registered, Error> {
    let body = Register {
        name: name.to_owned(),
        class: "1".to_owned(),
        slots: 2,
        engine: "fake".to_owned(),
        commit: "unknown".to_owned(),
        wire: WIRE,
        wire_oldest: WIRE_OLDEST,
    };
    stage
        .call_as(shown, Method::POST, "/v1/workers", Some(&body))
        .await
}

async fn named(stage: &Stage, worker: WorkerId) -> (String, String) {
    let found = assay_api::store::workers::find(&stage.pool, worker)
        .await
        .unwrap()
        .unwrap();
    (found.name, found.class)
}

async fn claim(stage: &Stage, shown: &str, worker: WorkerId) -> Result<Claimed, Error> {
    let path = format!("/v1/workers/{worker}/claim");
    stage
        .call_as(
            shown,
            Method::POST,
            &path,
            Some(&Claim {
                slots: 1,
                fresh: None,
            }),
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_pod_is_its_name_and_class() {
    let (rsa, p256) = (Signer::rsa("old"), Signer::p256("new"));
    let Some((stage, _issuer, _folder)) = trusting(&[&rsa, &p256]).await else {
        return;
    };
    for (signer, pod, class) in [(&rsa, "screener-1-0", "1"), (&p256, "screener-2-11", "2")] {
        let token = signer.sign(None, &claims("screener", pod));
        let worker = register(&stage, &token, "somebody-else-7").await.unwrap().worker;
        assert_eq!(named(&stage, worker).await, (pod.to_owned(), class.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_opens_nothing() {
    let (ours, theirs) = (Signer::rsa("a"), Signer::rsa("a"));
    let curve = Signer::p256("b");
    let Some((stage, _issuer, _folder)) = trusting(&[&ours, &curve]).await else {
        return;
    };
    let good = || claims("screener", "screener-1-0");
    let with = |key: &str, value: Value| {
        let mut claims = good();
        claims[key] = value;
        ours.sign(None, &claims)
    };
    let now = SystemClock.now().as_second();
    let unsigned = format!(
        "{}.{}.",
        base64(json!({"alg": "none", "kid": "a"}).to_string()),
        base64(good().to_string())
    );
    let mut changed = ours.sign(None, &good());
    let last = if changed.pop() == Some('A') { 'Q' } else { 'A' };
    changed.push(last);
    let table = [
        ("expired", with("exp", json!(now - 60))),
        ("not valid yet", with("nbf", json!(now + 600))),
        (
            "another audience",
            with("aud", json!(["https://kubernetes.default.svc"])),
        ),
        ("its issuer is", with("iss", json!("https://other.test"))),
        ("no pod", with("kubernetes.io", Value::Null)),
        (
            "its subject",
            with("sub", json!("system:serviceaccount:assay-system:api")),
        ),
        ("its claims", with("exp", json!("tomorrow"))),
        ("signature does not fit", theirs.sign(None, &good())),
        ("algorithm \"none\"", unsigned),
        (
            "algorithm \"HS256\"",
            ours.sign(Some(json!({"alg": "HS256", "kid": "a"})), &good()),
        ),
        (
            "algorithm \"ES256\"",
            ours.sign(Some(json!({"alg": "ES256", "kid": "a"})), &good()),
        ),
        (
            "critical",
            ours.sign(Some(json!({"alg": "RS256", "kid": "a", "crit": ["x"]})), &good()),
        ),
        (
            "not one of the issuer's",
            ours.sign(Some(json!({"alg": "RS256", "kid": "z"})), &good()),
        ),
        ("no worker here", ours.sign(None, &claims("api", "screener-1-0"))),
        (
            "no worker here",
            ours.sign(None, &claims("screener", "screener-3-0")),
        ),
        ("no JSON Web Token", "a.b.c".to_owned()),
    ];
    for (words, token) in table {
        let refused = register(&stage, &token, "x").await.unwrap_err();
        assert_eq!(refused.code(), Some("unauthorized"), "{words}: {refused}");
        assert!(refused.to_string().contains(words), "{words}: {refused}");
    }
    assert_eq!(code(register(&stage, &changed, "x").await), "unauthorized");
    register(&stage, &ours.sign(None, &good()), "x").await.unwrap();
    // A token is for workers, whatever they ask.
    let listed: Result<Value, _> = stage
        .call_as(
            &ours.sign(None, &good()),
            Method::GET,
            "/v1/evaluations",
            None::<&()>,
        )
        .await;
    assert_eq!(code(listed), "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_new_at_the_issuer_is_asked_for() {
    let (first, second) = (Signer::rsa("first"), Signer::p256("second"));
    let Some((stage, issuer, _folder)) = trusting(&[]).await else {
        return;
    };
    let token = |signer: &Signer| signer.sign(None, &claims("screener", "screener-1-0"));
    issuer.publish(&[&first]);
    register(&stage, &token(&first), "x").await.unwrap();
    issuer.publish(&[&first, &second]);
    // The issuer is asked again at most every few seconds.
    crate::stage::eventually("the new key is known", || async {
        register(&stage, &token(&second), "x").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_name_does_nothing_in_the_name_of_another() {
    let signer = Signer::rsa("a");
    let Some((stage, _issuer, _folder)) = trusting(&[&signer]).await else {
        return;
    };
    let token = |pod: &str| signer.sign(None, &claims("screener", pod));
    let (mine, yours) = (token("screener-1-0"), token("screener-1-1"));
    let worker = register(&stage, &mine, "x").await.unwrap().worker;
    let other = register(&stage, &yours, "x").await.unwrap().worker;
    stage.submit(&stage.submission(1).await).await;
    assert_eq!(code(claim(&stage, &yours, worker).await), "not_found");
    let held = claim(&stage, &mine, worker)
        .await
        .unwrap()
        .assignments
        .pop()
        .unwrap();
    let outside = stage.register("outside").await;
    stage.submit(&stage.submission(1).await).await;
    let theirs = stage.claim(outside, 1).await.pop().unwrap();
    assert!(
        theirs.task.url.starts_with("http://localhost:"),
        "{}",
        theirs.task.url
    );
    // A pod of the cluster is told the name that the object store has there, whoever is outside the other one.
    assert!(
        held.task.url.starts_with("http://127.0.0.1:"),
        "{}",
        held.task.url
    );
    let path = format!("/v1/attempts/{}/accounts?fence={}", held.attempt, held.fence);
    let foreign: Result<Value, _> = stage.call_as(&yours, Method::GET, &path, None::<&()>).await;
    assert_eq!(code(foreign), "stale_fence");
    let own: Result<Value, _> = stage.call_as(&mine, Method::GET, &path, None::<&()>).await;
    own.unwrap();
    let beat = Beat {
        leases: Vec::new(),
        claiming: true,
    };
    let path = format!("/v1/workers/{other}/beat");
    let foreign: Result<Beaten, _> = stage.call_as(&mine, Method::POST, &path, Some(&beat)).await;
    assert_eq!(code(foreign), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validators_worker_is_revoked_by_name() {
    let Some(stage) = crate::stage::stage().await else {
        return;
    };
    let mut new = NewKey {
        name: "val-7".to_owned(),
        scope: Scope::Worker,
        worker_class: Some("validator".to_owned()),
    };
    let key: Key = stage.call(Method::POST, "/v1/keys", Some(&new)).await.unwrap();
    let worker = register(&stage, &key.secret, "val-8").await.unwrap().worker;
    assert_eq!(
        named(&stage, worker).await,
        ("val-7".to_owned(), "validator".to_owned())
    );
    let mut submission = stage.submission(1).await;
    let theirs = stage.submit(&submission).await;
    submission.class = "validator".to_owned();
    let ours = stage.submit(&submission).await;
    let held = claim(&stage, &key.secret, worker)
        .await
        .unwrap()
        .assignments
        .pop()
        .unwrap();
    assert_eq!(held.evaluation, ours.id);
    assert!(
        claim(&stage, &key.secret, worker)
            .await
            .unwrap()
            .assignments
            .is_empty()
    );

    let by_stranger: Result<Revoked, _> = stage
        .call_as(&stage.stranger, Method::DELETE, "/v1/keys/val-7", None::<&()>)
        .await;
    assert_eq!(code(by_stranger), "not_found");
    let revoked: Revoked = stage
        .call(Method::DELETE, "/v1/keys/val-7", None::<&()>)
        .await
        .unwrap();
    assert_eq!(revoked, Revoked { keys: 1, leases: 1 });
    assert_eq!(code(claim(&stage, &key.secret, worker).await), "unauthorized");
    let again: Result<Revoked, _> = stage.call(Method::DELETE, "/v1/keys/val-7", None::<&()>).await;
    assert_eq!(code(again), "not_found");

    // Somebody else of the class carries on with the same attempt.
    new.name = "val-8".to_owned();
    let key: Key = stage.call(Method::POST, "/v1/keys", Some(&new)).await.unwrap();
    let worker = register(&stage, &key.secret, "").await.unwrap().worker;
    let adopted = claim(&stage, &key.secret, worker)
        .await
        .unwrap()
        .assignments
        .pop()
        .unwrap();
    assert_eq!((adopted.attempt, adopted.adopted.is_some()), (held.attempt, true));
    assert_eq!(stage.runs(&theirs).await[0].attempts, 0);
    assert_eq!(
        code(stage.call::<Key>(Method::POST, "/v1/keys", Some(&new)).await),
        "name_taken"
    );
    new.scope = Scope::Viewer;
    assert_eq!(
        code(stage.call::<Key>(Method::POST, "/v1/keys", Some(&new)).await),
        "invalid_request"
    );
}
