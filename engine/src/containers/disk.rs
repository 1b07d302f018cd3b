//! What containers have written, where no storage driver holds a limit on it.
//!
//! The engine is asked for the size of a container's own layer. That is a walk over all that was written, so it is asked
//! about one container, and not often.

use std::{sync::atomic::Ordering, time::Duration};

use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};

use super::{
    Containers,
    build::Network,
    fault::{fault, is_missing},
    inspect::is_being_cleaned_up,
    labels::{self, Role},
};
use crate::{DiskUse, Error, SandboxRef};

/// What main has written.
pub(super) async fn used(engine: &Containers, sandbox: SandboxRef) -> Result<DiskUse, Error> {
    if engine.disk_limits.load(Ordering::Relaxed) {
        return Ok(DiskUse::Held);
    }
    let written = written(engine, &labels::name(sandbox.sandbox, Role::Main)).await?;
    Ok(written.map_or(DiskUse::Held, DiskUse::Bytes))
}

/// Ends when a step of a build has written more than it may, with the sentence that says so.
///
/// The builder's containers carry none of our labels: they are found by the network that only this build has. Where
/// the engine does not show them, or there is no network to tell them by, this never ends.
pub(super) async fn overflow(engine: &Containers, network: &Network, most: u64) -> String {
    let Some(mode) = network.mode(engine.podman) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(LOOK).await;
        match steps_written(engine, &mode).await {
            Ok(used) if used > most => {
                let (used, most) = (used >> 20, most >> 20);
                return format!(
                    "a step of the Dockerfile wrote {used} MiB; environment.storage_mb allows {most}"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "nobody knows what a build writes"),
        }
    }
}

/// What the largest of the builder's containers has written.
async fn steps_written(engine: &Containers, mode: &str) -> Result<u64, Error> {
    let running = engine
        .docker
        .list_containers(None::<ListContainersOptions>)
        .await
        .map_err(|error| fault("list containers", &error))?;
    let mut most = 0;
    for step in running {
        let network = step.host_config.and_then(|host| host.network_mode);
        let ours = step
            .labels
            .is_some_and(|labels| labels::is_ours(&engine.owner, &labels));
        if network.as_deref() == Some(mode) && !ours {
            let used = written(engine, &step.id.unwrap_or_default()).await?;
            most = most.max(used.unwrap_or(0));
        }
    }
    Ok(most)
}

async fn written(engine: &Containers, name: &str) -> Result<Option<u64>, Error> {
    let options = InspectContainerOptions { size: true };
    match engine.docker.inspect_container(name, Some(options)).await {
        Ok(found) => Ok(found.size_rw.and_then(|bytes| u64::try_from(bytes).ok())),
        Err(error) if is_missing(&error) || is_being_cleaned_up(&error) => Ok(None),
        Err(error) => Err(fault("measure disk", &error)),
    }
}

/// Between two looks at a build.
const LOOK: Duration = Duration::from_secs(1);
