//! Asks about one container.

use std::time::Duration;

use bollard::{errors::Error as ClientError, models::ContainerInspectResponse};

use super::{
    Containers,
    fault::{fault, is_missing},
};
use crate::Error;

/// Between two looks at a container that is changing.
pub(super) const AGAIN: Duration = Duration::from_millis(20);

/// The container; `None` when it does not exist. Bounded in time by the caller.
pub(super) async fn inspect(
    engine: &Containers,
    name: &str,
) -> Result<Option<ContainerInspectResponse>, Error> {
    loop {
        match engine.docker.inspect_container(name, None).await {
            Ok(found) => return Ok(Some(found)),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) if is_being_cleaned_up(&error) => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(fault("inspect container", &error)),
        }
    }
}

/// The container, which has to exist.
pub(super) async fn inspect_existing(
    engine: &Containers,
    name: &str,
) -> Result<ContainerInspectResponse, Error> {
    inspect(engine, name).await?.ok_or_else(|| Error::Refused {
        operation: "inspect container",
        message: format!("{name} does not exist"),
    })
}

/// Podman's state `stopped`: ended, not yet cleaned up, soon `exited`. The client has no such word.
pub(super) fn is_being_cleaned_up(error: &ClientError) -> bool {
    matches!(error, ClientError::JsonDataError { message, .. } if message.contains("`stopped`"))
}
