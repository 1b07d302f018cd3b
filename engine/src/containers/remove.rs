//! Ends sandboxes: asks the proxy to end, or removes every trace.

use std::{collections::HashMap, time::Duration};

use bollard::query_parameters::{KillContainerOptions, RemoveContainerOptions};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    Containers,
    fault::{fault, is_missing, status},
    labels::Role,
    living::{Member, members, summaries},
    volumes, within,
};
use crate::{Error, SandboxRef};

/// A sandbox that is not gone by then is reported.
const DESTROY: Duration = Duration::from_secs(9);
/// Between two looks at a sandbox that is being removed by somebody else.
const AGAIN: Duration = Duration::from_millis(20);

/// SIGTERM: the proxy goes on answering about its ledger until it is told that it was collected.
pub(super) async fn stop_proxy(engine: &Containers, sandbox: SandboxRef) -> Result<(), Error> {
    let members = members(engine, sandbox).await?;
    let Some(proxy) = members
        .iter()
        .find(|member| member.role == Role::Proxy && member.running)
    else {
        return Ok(());
    };
    let options = KillContainerOptions {
        signal: "SIGTERM".to_owned(),
    };
    match engine.docker.kill_container(&proxy.id, Some(options)).await {
        // It ended in between.
        Err(error) if is_missing(&error) || status(&error) == Some(409) => Ok(()),
        Err(error) => Err(fault("stop proxy", &error)),
        Ok(()) => Ok(()),
    }
}

/// Kills and removes the containers with their volumes.
pub(super) async fn destroy(engine: &Containers, sandbox: SandboxRef) -> Result<(), Error> {
    let deadline = Instant::now() + DESTROY;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match within("destroy", left, Box::pin(round(engine, sandbox))).await? {
            Ok(()) => return Ok(()),
            Err(refused) if Instant::now() + AGAIN > deadline => return Err(refused),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// All at once. What an engine refuses while others depend on it (Podman: the holder of the namespace) is the inner
/// error, and gone in the next round.
async fn round(engine: &Containers, sandbox: SandboxRef) -> Result<Result<(), Error>, Error> {
    let members = members(engine, sandbox).await?;
    remove_guests(engine, &members).await?;
    let removed = join_all(members.iter().map(|member| remove(engine, member))).await;
    if let Some(refused) = removed.into_iter().find_map(Result::err) {
        return Ok(Err(refused));
    }
    Ok(volumes::remove(engine, sandbox).await)
}

/// A build's steps run in containers of the builder's own, without our labels, in the namespace of a sandbox that has no
/// main. The builder removes them, unless the engine was killed in the middle of a step.
async fn remove_guests(engine: &Containers, members: &[Member]) -> Result<(), Error> {
    let holder = members.iter().find(|member| member.role == Role::Init);
    let (Some(holder), false) = (holder, members.iter().any(|member| member.role == Role::Main)) else {
        return Ok(());
    };
    let namespace = format!("container:{}", holder.id);
    for container in summaries(engine, HashMap::new()).await? {
        let network = container.host_config.and_then(|config| config.network_mode);
        let Some(id) = container.id.filter(|_| network.as_ref() == Some(&namespace)) else {
            continue;
        };
        if members.iter().any(|member| member.id == id) {
            continue;
        }
        remove_by_id(engine, &id).await?;
    }
    Ok(())
}

async fn remove(engine: &Containers, member: &Member) -> Result<(), Error> {
    remove_by_id(engine, &member.id).await
}

async fn remove_by_id(engine: &Containers, id: &str) -> Result<(), Error> {
    let options = RemoveContainerOptions {
        v: true,
        force: true,
        link: false,
    };
    match engine.docker.remove_container(id, Some(options)).await {
        Err(error) if !is_missing(&error) => Err(fault("remove container", &error)),
        _ => Ok(()),
    }
}
