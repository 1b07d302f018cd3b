//! Brings a sandbox up. What does not depend on another step runs beside it.

use std::sync::atomic::Ordering;

use assay_core::control::init::InitReport;
use futures_util::future::{join, join3, try_join};

use super::{
    Containers, archive,
    labels::{Identity, Role, name},
    living::{Ports, facts, ports, sandbox as living_sandbox},
    place::{Placed, Wanted, place, start},
    pod::{Pod, Task},
    remove,
    report::prove,
};
use crate::{Error, Sandbox, SandboxFiles, SandboxRef, SandboxSpec};

/// A sandbox with all three containers.
///
/// An engine may choose the published ports when it creates a container and bind them when that starts. What took such a
/// port in between keeps it, so the sandbox is made anew, with other ports.
pub(super) async fn sandbox(engine: &Containers, spec: &SandboxSpec) -> Result<Sandbox, Error> {
    let name = SandboxRef {
        sandbox: spec.sandbox,
    };
    for _ in 0..PORT_TRIES {
        match Box::pin(once(engine, spec)).await {
            Err(error) if met_a_busy_port(&error) => {
                tracing::warn!(%error, "a port was taken; creating the sandbox again");
                remove::destroy(engine, name).await?;
            }
            done => return done,
        }
    }
    Box::pin(once(engine, spec)).await
}

async fn once(engine: &Containers, spec: &SandboxSpec) -> Result<Sandbox, Error> {
    let pod = Pod {
        owner: &engine.owner,
        identity: Identity {
            sandbox: spec.sandbox,
            run: spec.run,
            attempt: spec.attempt,
        },
    };
    // Joined to the end even where one fails: a request that is dropped half-way may still make a container.
    let (facts, init) = join(facts(engine, &spec.image), place_init(engine, &pod, &spec.files)).await;
    let (facts, init) = (facts?, init?);
    let (ports, proxy, main) = Box::pin(join3(
        prove_and_ask_ports(engine, &init),
        place_proxy(engine, &pod, &spec.files, &init.id),
        place_main(engine, &pod, spec, facts.healthcheck, &init.id),
    ))
    .await;
    let (ports, proxy, main) = (ports?, proxy?, main?);
    try_join(start(engine, &proxy), start(engine, &main)).await?;
    let name = SandboxRef {
        sandbox: spec.sandbox,
    };
    Ok(living_sandbox(name, ports, facts))
}

/// A sandbox for a build: init and proxy alone. Returns init's container and where the proxy's control answers.
pub(super) async fn without_main(
    engine: &Containers,
    identity: Identity,
    files: &SandboxFiles,
) -> Result<(Placed, Ports), Error> {
    let pod = Pod {
        owner: &engine.owner,
        identity,
    };
    let init = place_init(engine, &pod, files).await?;
    let (ports, proxy) = join(
        prove_and_ask_ports(engine, &init),
        place_proxy(engine, &pod, files, &init.id),
    )
    .await;
    let (ports, proxy) = (ports?, proxy?);
    start(engine, &proxy).await?;
    Ok((init, ports))
}

async fn prove_and_ask_ports(engine: &Containers, init: &Placed) -> Result<Ports, Error> {
    let InitReport { backend, millis, .. } = prove(engine, init).await?;
    tracing::debug!(init = init.id, backend, millis, "packet rules proven");
    ports(engine, &init.id).await
}

async fn place_init(engine: &Containers, pod: &Pod<'_>, files: &SandboxFiles) -> Result<Placed, Error> {
    let wanted = Wanted {
        name: name(pod.identity.sandbox, Role::Init),
        role: Role::Init,
        body: pod.init(&engine.images.init),
        files: archive::init(files)?,
    };
    place(engine, wanted).await
}

async fn place_proxy(
    engine: &Containers,
    pod: &Pod<'_>,
    files: &SandboxFiles,
    init: &str,
) -> Result<Placed, Error> {
    let wanted = Wanted {
        name: name(pod.identity.sandbox, Role::Proxy),
        role: Role::Proxy,
        body: pod.proxy(&engine.images.proxy, init),
        files: archive::proxy(files)?,
    };
    place(engine, wanted).await
}

/// Few storage drivers can limit a container's disk; the first refusal is remembered.
async fn place_main(
    engine: &Containers,
    pod: &Pod<'_>,
    spec: &SandboxSpec,
    healthcheck: bool,
    init: &str,
) -> Result<Placed, Error> {
    let files = archive::main(&engine.runner, &spec.files.runner)?;
    let task = Task {
        image: &spec.image,
        limits: &spec.resources,
        healthcheck,
    };
    let wanted = |disk_limit| Wanted {
        name: name(pod.identity.sandbox, Role::Main),
        role: Role::Main,
        body: pod.main(&task, init, disk_limit),
        files: files.clone(),
    };
    let disk_limit = engine.disk_limits.load(Ordering::Relaxed);
    match place(engine, wanted(disk_limit)).await {
        Err(Error::Refused { message, .. } | Error::Unavailable { message, .. })
            if disk_limit && refuses_disk_limit(&message) =>
        {
            tracing::warn!(message, "the storage driver cannot limit disk");
            engine.disk_limits.store(false, Ordering::Relaxed);
            place(engine, wanted(false)).await
        }
        placed => placed,
    }
}

fn refuses_disk_limit(message: &str) -> bool {
    let message = message.to_lowercase();
    ["storage-opt", "storage opt", "pquota", "quota", "backingfs"]
        .iter()
        .any(|word| message.contains(word))
}

fn met_a_busy_port(error: &Error) -> bool {
    matches!(error, Error::Refused { message, .. } | Error::Unavailable { message, .. }
        if message.contains("address already in use"))
}

/// Sandboxes made anew because of a busy port.
const PORT_TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_told_from_other_faults() {
        let fault = |message: &str| Error::Unavailable {
            operation: "attach to init",
            message: message.to_owned(),
        };
        assert!(met_a_busy_port(&fault(
            "cannot listen on the TCP port: listen tcp4 127.0.0.1:43963: bind: address already in use"
        )));
        assert!(!met_a_busy_port(&fault("no space left on device")));
    }
}
