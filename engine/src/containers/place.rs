//! Creates one container with its files, or meets the one that an earlier try left.

use bollard::{
    errors::Error as ClientError,
    models::{ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum},
    query_parameters::{CreateContainerOptions, UploadToContainerOptions},
};
use bytes::Bytes;

use super::{
    Containers,
    fault::{fault, has_lost_a_mount, is_missing, status},
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
    match mounting(|| engine.docker.start_container(&placed.id, None)).await {
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
    let upload = || {
        let body = bollard::body_full(files.clone());
        engine.docker.upload_to_container(id, Some(options.clone()), body)
    };
    mounting(upload)
        .await
        .map_err(|error| fault("upload files", &error))
}

/// Does what mounts a container's storage, and does it again where Podman 4 has lost count.
///
/// Its store is read anew when another process of Podman has written to it; a request that holds the store of before
/// then looks for a mount that is gone. The next request gets the new one.
async fn mounting<T, F>(request: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    match request().await {
        Err(error) if has_lost_a_mount(&error) => {
            tracing::warn!(%error, "the engine's storage has lost count of a mount");
            request().await
        }
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn asked(words: &str, good_from: u32) -> (bool, u32) {
        let count = Cell::new(0);
        let answer = mounting(|| {
            count.set(count.get() + 1);
            let error = ClientError::DockerResponseServerError {
                status_code: 500,
                message: words.to_owned(),
            };
            let good = count.get() >= good_from;
            async move { if good { Ok(()) } else { Err(error) } }
        })
        .await;
        (answer.is_ok(), count.get())
    }

    #[tokio::test]
    async fn only_a_lost_mount_is_asked_for_again_and_only_once() {
        let lost = "lstat /root/overlay/7247/merged: no such file or directory";
        assert_eq!(asked(lost, 2).await, (true, 2));
        assert_eq!(asked(lost, 3).await, (false, 2));
        assert_eq!(asked("no space left on device", 2).await, (false, 1));
    }
}
