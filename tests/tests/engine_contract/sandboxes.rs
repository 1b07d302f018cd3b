//! The life of a sandbox.

use std::time::Duration;

use assay_engine::{Engine, Error, Evidence, ImageRef};
use tokio::time::Instant;

use super::bench::{Bench, EndMain, PATIENCE, Real, http, name, ready, spec};

pub async fn creating_twice_gives_the_same_sandbox<E: Engine>(bench: &Bench<E>) {
    let spec = spec();
    let first = bench.engine.create(&spec).await.unwrap();
    let second = bench.engine.create(&spec).await.unwrap();
    assert_eq!((first.runner, first.proxy), (second.runner, second.proxy));
    let listed = bench.engine.list().await.unwrap();
    let ours: Vec<_> = listed.iter().filter(|one| one.name == name(&spec)).collect();
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0].attempt, spec.attempt);
    bench.engine.destroy(&name(&spec)).await.unwrap();
}

pub async fn a_destroyed_sandbox_leaves_nothing<E: Engine>(bench: &Bench<E>) {
    let spec = spec();
    bench.engine.create(&spec).await.unwrap();
    assert!(bench.engine.find(&name(&spec)).await.unwrap().is_some());
    for _ in 0..2 {
        bench.engine.destroy(&name(&spec)).await.unwrap();
        assert!(bench.engine.find(&name(&spec)).await.unwrap().is_none());
        assert!(bench.engine.list().await.unwrap().is_empty());
        assert!(bench.engine.evidence(&name(&spec)).await.unwrap().gone);
        bench.engine.stop_proxy(&name(&spec)).await.unwrap();
    }
}

pub async fn evidence_tells_how_main_ended<E: EndMain>(bench: &Bench<E>) {
    let spec = spec();
    let sandbox = bench.engine.create(&spec).await.unwrap();
    assert_eq!(
        bench.engine.evidence(&name(&spec)).await.unwrap(),
        Evidence::default()
    );
    bench.engine.end_main(&sandbox).await;
    let deadline = Instant::now() + PATIENCE;
    let death = loop {
        if let Some(death) = bench.engine.evidence(&name(&spec)).await.unwrap().main {
            break death;
        }
        assert!(Instant::now() < deadline, "main goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((death.code, death.oom), (0, false), "{}", death.log);
    assert!(bench.engine.find(&name(&spec)).await.unwrap().is_none());
    bench.engine.destroy(&name(&spec)).await.unwrap();
}

pub async fn a_sandbox_gets_ready_and_is_found_again<E: Real>(bench: &Bench<E>) {
    let spec = spec();
    let started = Instant::now();
    let sandbox = bench.engine.create(&spec).await.unwrap();
    ready(sandbox.runner).await;
    eprintln!(
        "ready {} ms after it was asked for",
        started.elapsed().as_millis()
    );
    assert!(sandbox.env.contains_key("PATH"), "{:?}", sandbox.env);
    let found = bench.engine.find(&name(&spec)).await.unwrap().unwrap();
    assert_eq!((found.runner, found.proxy), (sandbox.runner, sandbox.proxy));
    assert_eq!(found.env, sandbox.env);
    assert_eq!((found.workdir, found.user), (sandbox.workdir, sandbox.user));
    bench.engine.destroy(&name(&spec)).await.unwrap();
}

pub async fn installations_do_not_touch_each_other<E: Real>(bench: &Bench<E>) {
    let other = E::other(bench).await;
    let spec = spec();
    let sandbox = bench.engine.create(&spec).await.unwrap();
    assert!(other.list().await.unwrap().is_empty());
    assert!(other.find(&name(&spec)).await.unwrap().is_none());
    assert!(other.evidence(&name(&spec)).await.unwrap().gone);
    other.destroy(&name(&spec)).await.unwrap();
    let refused = other.create(&spec).await.unwrap_err();
    assert!(refused.to_string().contains("another installation"), "{refused}");
    ready(sandbox.runner).await;
    bench.engine.destroy(&name(&spec)).await.unwrap();
}

pub async fn an_image_that_is_missing_is_named<E: Real>(bench: &Bench<E>) {
    let mut spec = spec();
    spec.image = ImageRef("assay/no-such-image:1".to_owned());
    let error = bench.engine.create(&spec).await.unwrap_err();
    assert!(
        matches!(&error, Error::NoImage(name) if *name == spec.image.0),
        "{error}"
    );
    bench.engine.destroy(&name(&spec)).await.unwrap();
    assert!(bench.engine.list().await.unwrap().is_empty());
}

pub async fn a_proxy_that_is_asked_to_end_does<E: Real>(bench: &Bench<E>) {
    let spec = spec();
    let sandbox = bench.engine.create(&spec).await.unwrap();
    ready(sandbox.runner).await;
    let started = Instant::now();
    bench.engine.stop_proxy(&name(&spec)).await.unwrap();
    // Milliseconds where it only asks; the end comes when the ledger was collected, which nobody does here.
    assert!(started.elapsed() < Duration::from_secs(30), "it only asks");
    // The ledger can still be fetched: the proxy waits until it was collected.
    let answer = http(sandbox.proxy, "GET /healthz HTTP/1.1\r\nhost: proxy")
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    bench.engine.destroy(&name(&spec)).await.unwrap();
}
