//! Ends sandboxes: asks them to end, or removes every trace.

use std::time::Duration;

use assay_core::id::SandboxId;
use futures_util::future::try_join;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Preconditions};

use super::{
    Kubernetes,
    again::again,
    fault::{fault, is_another, is_missing},
    labels, living,
    watch::Watch,
    within,
};
use crate::{Error, SandboxRef};

/// A sandbox that is not gone by then is reported.
const DESTROY: Duration = Duration::from_secs(30);

/// SIGTERM with the grace in which the proxy hands out its ledger. A cluster asks all containers of a pod or none.
pub(super) async fn stop(engine: &Kubernetes, sandbox: SandboxRef) -> Result<(), Error> {
    delete(engine, sandbox, &DeleteParams::default())
        .await
        .map(|_| ())
}

/// Kills and removes the pod, and waits until the node has let go of it.
pub(super) async fn destroy(engine: &Kubernetes, sandbox: SandboxRef) -> Result<(), Error> {
    let work = async {
        let (ending, ()) = try_join(
            delete(engine, sandbox, &DeleteParams::default().grace_period(1)),
            delete_secret(engine, sandbox),
        )
        .await?;
        gone(engine, sandbox, ending).await
    };
    let done = within("destroy", DESTROY, Box::pin(work)).await;
    engine.ways.forget(sandbox.sandbox);
    if done.is_ok() {
        engine.made.forget(sandbox.sandbox);
    }
    done
}

/// How far a pod is on its way out.
enum Ending {
    /// There is none of ours.
    Gone,
    /// A node has to let go of it first. The pod as it is now.
    Going(Box<Pod>),
    /// The API server did not say.
    Unknown,
}

/// Its uid is named: another one of that name is not touched.
async fn delete(engine: &Kubernetes, sandbox: SandboxRef, how: &DeleteParams) -> Result<Ending, Error> {
    let uid = match engine.made.get(sandbox.sandbox) {
        Some(known) => Some(known.uid),
        None => match living::own_pod(engine, sandbox).await? {
            Some(pod) => pod.metadata.uid,
            None => return Ok(Ending::Gone),
        },
    };
    let how = DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            ..Preconditions::default()
        }),
        ..how.clone()
    };
    let name = labels::name(sandbox.sandbox);
    match again(|| engine.pods.delete(&name, &how)).await {
        Err(error) if is_missing(&error) || is_another(&error) => Ok(Ending::Gone),
        Err(error) => Err(fault("delete the pod", &error)),
        Ok(answer) => Ok(match answer.left().filter(waits_for_node) {
            Some(pod) => Ending::Going(Box::new(pod)),
            None => Ending::Unknown,
        }),
    }
}

/// Only then something follows that a watch from here can tell.
fn waits_for_node(pod: &Pod) -> bool {
    let metadata = &pod.metadata;
    metadata.deletion_timestamp.is_some()
        && metadata
            .deletion_grace_period_seconds
            .is_some_and(|wait| wait > 0)
}

async fn gone(engine: &Kubernetes, sandbox: SandboxRef, ending: Ending) -> Result<(), Error> {
    let (pods, name) = (engine.pods.clone(), labels::name(sandbox.sandbox));
    let mut watch = match ending {
        Ending::Gone => return Ok(()),
        Ending::Going(pod) => Watch::after(pods, name, *pod),
        Ending::Unknown => Watch::new(pods, name),
    };
    while watch.next().await?.is_some() {}
    Ok(())
}

async fn delete_secret(engine: &Kubernetes, sandbox: SandboxRef) -> Result<(), Error> {
    if engine
        .made
        .get(sandbox.sandbox)
        .is_some_and(|known| !known.has_files)
    {
        return Ok(());
    }
    let name = labels::name(sandbox.sandbox);
    let found: Option<Secret> = again(|| engine.secrets.get_opt(&name))
        .await
        .map_err(|error| fault("get the Secret", &error))?;
    if !found.is_some_and(|secret| labels::is_ours(&engine.owner, &secret.metadata)) {
        return Ok(());
    }
    forget_secret(engine, sandbox.sandbox).await
}

/// Removes the files' Secret. The API server keeps no credential of a sandbox that runs.
pub(super) async fn forget_secret(engine: &Kubernetes, sandbox: SandboxId) -> Result<(), Error> {
    let name = labels::name(sandbox);
    let how = DeleteParams::default();
    match again(|| engine.secrets.delete(&name, &how)).await {
        Err(error) if !is_missing(&error) => return Err(fault("delete the Secret", &error)),
        _ => engine.made.has_lost_files(sandbox),
    }
    Ok(())
}
