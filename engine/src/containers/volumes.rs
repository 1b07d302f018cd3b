//! The platform's volumes whose containers are gone.
//!
//! An engine removes the volume with its container, as two steps. Killed between the two, or while it makes a container,
//! it keeps a volume that it cannot connect with anything any more. So volumes carry labels too. Podman gives a volume
//! no labels when it makes it with a container; there is nothing to be found on it.

use std::collections::HashMap;

use bollard::{
    models::Volume,
    query_parameters::{ListVolumesOptions, RemoveVolumeOptions},
};

use super::{
    Containers,
    fault::{fault, is_missing},
    labels,
};
use crate::{Error, Listed, SandboxRef};

/// The sandboxes of this installation that have a volume.
pub(super) async fn list(engine: &Containers) -> Result<Vec<Listed>, Error> {
    let found = volumes(engine, labels::filter(&engine.owner)).await?;
    Ok(found
        .iter()
        .filter_map(|volume| labels::listed(&volume.labels))
        .collect())
}

/// Removes those of one sandbox. One that a container still has is an error, as is one that cannot be removed now.
pub(super) async fn remove(engine: &Containers, sandbox: SandboxRef) -> Result<(), Error> {
    let filter = labels::sandbox_filter(&engine.owner, sandbox.sandbox);
    for volume in volumes(engine, filter).await? {
        let removed = engine
            .docker
            .remove_volume(&volume.name, None::<RemoveVolumeOptions>)
            .await;
        match removed {
            Err(error) if !is_missing(&error) => return Err(fault("remove volume", &error)),
            _ => {}
        }
    }
    Ok(())
}

async fn volumes(engine: &Containers, filter: HashMap<String, Vec<String>>) -> Result<Vec<Volume>, Error> {
    if engine.podman {
        return Ok(Vec::new());
    }
    let options = ListVolumesOptions {
        filters: Some(filter),
    };
    let listed = engine.docker.list_volumes(Some(options)).await;
    let listed = listed.map_err(|error| fault("list volumes", &error))?;
    Ok(listed.volumes.unwrap_or_default())
}
