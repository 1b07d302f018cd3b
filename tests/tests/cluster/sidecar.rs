//! The proxy as a native sidecar: what the kubelet starts again is no proxy any more.

use std::time::Duration;

use assay_core::phase::EgressPhase;
use assay_engine::{Engine as _, Resources, kubernetes::Kubernetes};
use assay_screener::trial::Trial;
use tokio::time::Instant;

use super::{pod_network::Network, space::Space};

const IMAGE: &str = "debian:bookworm-slim";
/// The longest that a busy machine may take for something that comes.
const PATIENCE: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_the_kubelet_starts_again_is_dead_all_the_same() {
    let Some(space) = Space::make("sidecar", true, true) else {
        return;
    };
    let mut settings = space.settings();
    settings.pods.native_sidecar = true;
    let engine = Kubernetes::connect(settings).await.unwrap();
    assert!(engine.gate().await.unwrap().ours.is_ok(), "the gate knows it");
    let resources = Resources {
        cpu_milli: 500,
        memory_bytes: 128 << 20,
        pids: 128,
        disk_bytes: 128 << 20,
    };
    let trial = Trial::start(&engine, IMAGE, EgressPhase::Agent, resources)
        .await
        .unwrap();
    let pod = space.ok(&["get", "pods", "-o", "name"], None);
    let restarts = "jsonpath={.status.initContainerStatuses[?(@.name==\"proxy\")].restartCount}";
    let restarts = || space.ok(&["get", pod.trim(), "-o", restarts], None);
    assert_eq!(restarts(), "0");

    let addresses = engine.pod_addresses(trial.name()).await.unwrap();
    let network = Network::of(*addresses.first().unwrap());
    let killed = std::process::Command::new("kill")
        .args(["-9", &network.proxy.to_string()])
        .status();
    assert!(killed.unwrap().success());
    let end = Instant::now() + PATIENCE;
    while restarts() == "0" {
        assert!(Instant::now() < end, "the kubelet does not start it again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let evidence = engine.evidence(&trial.name()).await.unwrap();
    let death = evidence.proxy.expect("it is not believed");
    assert_eq!((death.code, evidence.main), (137, None));
    trial.end().await.unwrap();
}
