//! Ends sandboxes: asks them to end, or removes every trace.

use std::time::Duration;

use futures_util::future::try_join;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Preconditions};

use super::{
    Kubernetes,
    again::again,
    fault::{fault, is_missing},
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
        let (existed, ()) = try_join(
            delete(engine, sandbox, &DeleteParams::default().grace_period(1)),
            delete_secret(engine, sandbox),
        )
        .await?;
        if existed {
            gone(engine, sandbox).await?;
        }
        Ok(())
    };
    let done = within("destroy", DESTROY, Box::pin(work)).await;
    engine.ways.forget(sandbox.sandbox);
    done
}

/// Whether there was one of ours. Its uid is named: another one of that name is not touched.
async fn delete(engine: &Kubernetes, sandbox: SandboxRef, how: &DeleteParams) -> Result<bool, Error> {
    let Some(pod) = living::own_pod(engine, sandbox).await? else {
        return Ok(false);
    };
    let how = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid,
            ..Preconditions::default()
        }),
        ..how.clone()
    };
    let name = labels::name(sandbox.sandbox);
    match again(|| engine.pods.delete(&name, &how)).await {
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(fault("delete the pod", &error)),
        Ok(_) => Ok(true),
    }
}

async fn gone(engine: &Kubernetes, sandbox: SandboxRef) -> Result<(), Error> {
    let mut watch = Watch::new(engine.pods.clone(), labels::name(sandbox.sandbox));
    while watch.next().await?.is_some() {}
    Ok(())
}

async fn delete_secret(engine: &Kubernetes, sandbox: SandboxRef) -> Result<(), Error> {
    let name = labels::name(sandbox.sandbox);
    let found: Option<Secret> = again(|| engine.secrets.get_opt(&name))
        .await
        .map_err(|error| fault("get the Secret", &error))?;
    if !found.is_some_and(|secret| labels::is_ours(&engine.owner, &secret.metadata)) {
        return Ok(());
    }
    let how = DeleteParams::default();
    match again(|| engine.secrets.delete(&name, &how)).await {
        Err(error) if !is_missing(&error) => Err(fault("delete the Secret", &error)),
        _ => Ok(()),
    }
}
