//! Creates one container with its files, or meets the one that an earlier try left.

use bollard::{
    errors::Error as ClientError,
    models::{ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum},
    query_parameters::{CreateContainerOptions, UploadToContainerOptions},
};
use bytes::Bytes;

use super::{
    Containers,
    fault::{fault, is_missing, status},
    inspect::inspect_existing,
    labels::{self, Role},
    pod::OUR_VOLUME,
};
use crate::Error;

/// A container that exists and has its files.
#[derive(Debug)]
pub(super) struct Placed {
    pub id: String,
    pub role: Role,
    /// It runs already: an earlier try got that far.
    pub running: bool,
}

/// A container to be made.
#[derive(Debug)]
pub(super) struct Wanted {
    pub name: String,
    pub role: Role,
    pub body: ContainerCreateBody,
    /// A tar for the platform's volume.
    pub files: Bytes,
}

/// Creates the container and uploads its files, unless it runs already.
pub(super) async fn place(engine: &Containers, wanted: Wanted) -> Result<Placed, Error> {
    let Wanted {
        name,
        role,
        body,
        files,
    } = wanted;
    let placed = match create(engine, &name, body).await? {
        Some(id) => Placed {
            id,
            role,
            running: false,
        },
        None => meet(engine, &name, role).await?,
    };
    if !placed.running {
        upload(engine, &placed.id, files).await?;
    }
    Ok(placed)
}

/// Starts a container; one that runs already is left alone.
pub(super) async fn start(engine: &Containers, placed: &Placed) -> Result<(), Error> {
    if placed.running {
        return Ok(());
    }
    match engine.docker.start_container(&placed.id, None).await {
        Err(error) if status(&error) != Some(304) => Err(fault("start container", &error)),
        _ => Ok(()),
    }
}

/// The new container's id; `None` when the name is taken.
async fn create(engine: &Containers, name: &str, body: ContainerCreateBody) -> Result<Option<String>, Error> {
    let image = body.image.clone().unwrap_or_default();
    let options = CreateContainerOptions {
        name: Some(name.to_owned()),
        ..CreateContainerOptions::default()
    };
    match engine.docker.create_container(Some(options), body).await {
        Ok(created) => Ok(Some(created.id)),
        Err(error) if is_taken(&error) => Ok(None),
        Err(error) if is_missing(&error) && error.to_string().to_lowercase().contains("image") => {
            Err(Error::NoImage(image))
        }
        Err(error) => Err(fault("create container", &error)),
    }
}

/// Docker answers 409; Podman 4 answers 500 with these words.
fn is_taken(error: &ClientError) -> bool {
    status(error) == Some(409) || error.to_string().contains("is already in use")
}

async fn meet(engine: &Containers, name: &str, role: Role) -> Result<Placed, Error> {
    let found = inspect_existing(engine, name).await?;
    let labels = found.config.as_ref().and_then(|config| config.labels.clone());
    if !labels.is_some_and(|labels| labels::is_ours(&engine.owner, &labels)) {
        return Err(Error::Refused {
            operation: "create container",
            message: format!("{name} belongs to another installation"),
        });
    }
    let (running, code) = state(&found);
    match (running, code) {
        (false, Some(code)) => Err(Error::Died {
            container: role.name(),
            code,
            log: super::death::tail(engine, name).await?,
        }),
        _ => Ok(Placed {
            id: found.id.unwrap_or_else(|| name.to_owned()),
            role,
            running,
        }),
    }
}

/// Whether it runs, and the exit code when it has ended.
pub(super) fn state(found: &ContainerInspectResponse) -> (bool, Option<i64>) {
    let Some(state) = &found.state else {
        return (false, None);
    };
    let ended = matches!(
        state.status,
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD)
    );
    let code = ended.then(|| state.exit_code.unwrap_or(-1));
    (state.running.unwrap_or(false), code)
}

async fn upload(engine: &Containers, id: &str, files: Bytes) -> Result<(), Error> {
    let options = UploadToContainerOptions {
        path: OUR_VOLUME.to_owned(),
        ..UploadToContainerOptions::default()
    };
    let body = bollard::body_full(files);
    engine
        .docker
        .upload_to_container(id, Some(options), body)
        .await
        .map_err(|error| fault("upload files", &error))
}
