//! Finds sandboxes by their labels, and what is needed to talk to them.

use std::collections::BTreeMap;

use assay_core::id::SandboxId;
use futures_util::future::try_join;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::api::ListParams;

use super::{
    Kubernetes, again::again, events, evidence, fault::fault, image::Facts, labels, reach::Addresses,
    status::progress,
};
use crate::{Error, Evidence, Listed, Sandbox, SandboxRef};

/// Keeps what the registry said about main's image with the pod: an adopter asks nobody.
const IMAGE_FACTS: &str = "assay.dev/image";

/// The pod of that name, whosever it is.
pub(super) async fn pod(engine: &Kubernetes, sandbox: SandboxId) -> Result<Option<Pod>, Error> {
    let name = labels::name(sandbox);
    let found = again(|| engine.pods.get_opt(&name)).await;
    found.map_err(|error| fault("get the pod", &error))
}

/// The pod, if it is this installation's.
pub(super) async fn own_pod(engine: &Kubernetes, name: SandboxRef) -> Result<Option<Pod>, Error> {
    let found = pod(engine, name.sandbox).await?;
    Ok(found.filter(|pod| labels::is_ours(&engine.owner, &pod.metadata)))
}

/// A sandbox is alive while proxy or main runs and nobody has deleted it.
pub(super) async fn find(engine: &Kubernetes, name: SandboxRef) -> Result<Option<Sandbox>, Error> {
    let Some(pod) = own_pod(engine, name).await? else {
        return Ok(None);
    };
    if pod.metadata.deletion_timestamp.is_some() || evidence::evidence(&pod).main.is_some() {
        return Ok(None);
    }
    let Some(ip) = progress(&pod).ok().and_then(|seen| seen.ip) else {
        return Ok(None);
    };
    let addresses = engine.ways.addresses(&engine.pods, name.sandbox, ip).await?;
    Ok(Some(sandbox(name, addresses, facts(&pod))))
}

/// How the containers of a sandbox ended.
pub(super) async fn evidence_of(engine: &Kubernetes, name: SandboxRef) -> Result<Evidence, Error> {
    let Some(pod) = own_pod(engine, name).await? else {
        return Ok(Evidence {
            gone: true,
            ..Evidence::default()
        });
    };
    let mut evidence = evidence::evidence(&pod);
    if evidence.more_to_come {
        evidence.lost = events::eviction(engine, &pod).await;
        evidence.more_to_come = evidence.lost.is_none();
    }
    Ok(evidence)
}

/// One entry for each sandbox of this installation: of a pod, or of a Secret whose pod was never made.
pub(super) async fn list(engine: &Kubernetes) -> Result<Vec<Listed>, Error> {
    let ours = ListParams::default().labels(&labels::selector(&engine.owner));
    let (pods, secrets) = try_join(
        again(|| engine.pods.list_metadata(&ours)),
        again(|| engine.secrets.list_metadata(&ours)),
    )
    .await
    .map_err(|error| fault("list the pods", &error))?;
    let of = |metadata: &ObjectMeta| labels::listed(metadata);
    let pods = pods.items.iter().filter_map(|pod| of(&pod.metadata));
    let secrets = secrets.items.iter().filter_map(|secret| of(&secret.metadata));
    let by_name: BTreeMap<_, _> = pods
        .chain(secrets)
        .map(|listed| (listed.name.sandbox, listed))
        .collect();
    Ok(by_name.into_values().collect())
}

pub(super) fn reference(sandbox: SandboxId) -> SandboxRef {
    SandboxRef { sandbox }
}

/// The annotations of a pod whose image says this.
pub(super) fn annotations(facts: &Facts) -> BTreeMap<String, String> {
    let text = serde_json::to_string(facts).unwrap_or_default();
    BTreeMap::from([(IMAGE_FACTS.to_owned(), text)])
}

/// What the pod keeps about its image.
pub(super) fn facts(pod: &Pod) -> Facts {
    let annotations = pod.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(IMAGE_FACTS));
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

pub(super) fn sandbox(name: SandboxRef, addresses: Addresses, facts: Facts) -> Sandbox {
    Sandbox {
        name,
        runner: addresses.runner,
        proxy: addresses.proxy,
        workdir: facts.workdir,
        user: facts.user,
        env: facts.env,
    }
}
