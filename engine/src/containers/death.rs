//! What the engine knows about containers that ended: exit code, kill for memory, the end of the log.

use bollard::{
    models::ContainerInspectResponse,
    query_parameters::{LogsOptions, WaitContainerOptions},
};
use futures_util::{StreamExt as _, future::try_join_all};

use super::{
    Containers,
    fault::{fault, is_missing},
    inspect::inspect,
    labels::Role,
    living::members,
    place::state,
};
use crate::{Death, Error, Evidence, SandboxRef};

/// Lines and bytes of a log's end that are kept.
const TAIL_LINES: &str = "50";
const TAIL_BYTES: usize = 8 << 10;

/// How the containers of a sandbox ended.
pub(super) async fn evidence(engine: &Containers, sandbox: SandboxRef) -> Result<Evidence, Error> {
    let members = members(engine, sandbox).await?;
    let mut evidence = Evidence {
        gone: members.is_empty(),
        ..Evidence::default()
    };
    let deaths = members
        .iter()
        .map(|member| async move { Ok::<_, Error>((member, death(engine, &member.id).await?)) });
    for (member, death) in try_join_all(deaths).await? {
        match member.role {
            Role::Init => evidence.init = death,
            Role::Proxy => evidence.proxy = death,
            Role::Main => evidence.main = death,
            Role::Service => evidence.services.extend(member.service.clone().zip(death)),
        }
    }
    Ok(evidence)
}

async fn death(engine: &Containers, id: &str) -> Result<Option<Death>, Error> {
    let Some(found) = inspect(engine, id).await? else {
        return Ok(None);
    };
    let (_, Some(code)) = state(&found) else {
        return Ok(None);
    };
    Ok(Some(Death {
        code,
        oom: oom(&found),
        log: tail(engine, id).await?,
    }))
}

fn oom(found: &ContainerInspectResponse) -> bool {
    let state = found.state.as_ref();
    state.and_then(|state| state.oom_killed).unwrap_or(false)
}

/// Waits until a container has ended; its exit code.
pub(super) async fn wait(engine: &Containers, id: &str) -> Result<i64, Error> {
    let mut ends = engine.docker.wait_container(id, None::<WaitContainerOptions>);
    match ends.next().await {
        Some(Ok(end)) => Ok(end.status_code),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(fault("wait for container", &error)),
        None => Ok(-1),
    }
}

/// The end of what a container printed; empty when it is gone.
pub(super) async fn tail(engine: &Containers, id: &str) -> Result<String, Error> {
    let options = LogsOptions {
        stdout: true,
        stderr: true,
        tail: TAIL_LINES.to_owned(),
        ..LogsOptions::default()
    };
    let mut lines = engine.docker.logs(id, Some(options));
    let mut text = Vec::new();
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => text.extend_from_slice(line.as_ref()),
            Err(error) if is_missing(&error) => break,
            Err(error) => return Err(fault("read log", &error)),
        }
        if text.len() > 2 * TAIL_BYTES {
            text.drain(..text.len() - TAIL_BYTES);
        }
    }
    let from = text.len().saturating_sub(TAIL_BYTES);
    Ok(String::from_utf8_lossy(&text[from..]).trim_end().to_owned())
}
