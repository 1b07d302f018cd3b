//! Brings a sandbox up. What does not depend on another step runs beside it.

use std::sync::atomic::Ordering;

use assay_core::control::init::InitReport;
use futures_util::future::{join, join_all, join4, try_join_all, try_join3};

use super::{
    Containers, archive,
    labels::{Identity, Role, name, service_name},
    living::{Ports, facts, ports, sandbox as living_sandbox},
    place::{Placed, Wanted, place, start},
    pod::{Pod, Task},
    remove,
    report::prove,
};
use crate::{Error, Sandbox, SandboxFiles, SandboxRef, SandboxSpec, ServiceSpec};

/// A sandbox with all of its containers.
pub(super) async fn sandbox(engine: &Containers, spec: &SandboxSpec) -> Result<Sandbox, Error> {
    let name = SandboxRef {
        sandbox: spec.sandbox,
    };
    afresh(engine, name, || Box::pin(once(engine, spec))).await
}

/// Makes a sandbox, and makes it anew where what was in the way is not in the way of new containers.
///
/// * A busy port: an engine may choose the published ports when it creates a container and bind them when that starts.
///   What took such a port in between keeps it; new containers get other ports.
/// * A lost mount: Podman 4 reads its storage anew when another of its processes has written to it. Where a request
///   unmounts a container through the storage of before, the new one believes in that mount for as long as the
///   container is there.
async fn afresh<T, F>(engine: &Containers, name: SandboxRef, make: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for _ in 1..TRIES {
        match make().await {
            Err(error) if met_a_busy_port(&error) || lost_a_mount(&error) => {
                tracing::warn!(%error, "creating the sandbox again");
                remove::destroy(engine, name).await?;
            }
            done => return done,
        }
    }
    make().await
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
    let (facts, init) = join(
        facts(engine, &spec.image),
        place_init(engine, &pod, &spec.files, &spec.services),
    )
    .await;
    let (facts, init) = (facts?, init?);
    let (ports, proxy, main, services) = Box::pin(join4(
        prove_and_ask_ports(engine, &init),
        place_proxy(engine, &pod, &spec.files, &init.id),
        place_main(engine, &pod, spec, facts.healthcheck, &init.id),
        place_services(engine, &pod, &spec.services, &init.id),
    ))
    .await;
    let (ports, proxy, main, services) = (ports?, proxy?, main?, services?);
    let services = services.iter().map(|service| start(engine, service));
    try_join3(
        start(engine, &proxy),
        start(engine, &main),
        try_join_all(services),
    )
    .await?;
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
    let name = SandboxRef {
        sandbox: identity.sandbox,
    };
    afresh(engine, name, || once_without_main(engine, identity, files)).await
}

async fn once_without_main(
    engine: &Containers,
    identity: Identity,
    files: &SandboxFiles,
) -> Result<(Placed, Ports), Error> {
    let pod = Pod {
        owner: &engine.owner,
        identity,
    };
    let init = place_init(engine, &pod, files, &[]).await?;
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

async fn place_init(
    engine: &Containers,
    pod: &Pod<'_>,
    files: &SandboxFiles,
    services: &[ServiceSpec],
) -> Result<Placed, Error> {
    let wanted = Wanted {
        name: name(pod.identity.sandbox, Role::Init),
        role: Role::Init,
        body: pod.init(&engine.images.init, services),
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
    place_limited(engine, |disk_limit| Wanted {
        name: name(pod.identity.sandbox, Role::Main),
        role: Role::Main,
        body: pod.main(&task, init, disk_limit),
        files: files.clone(),
    })
    .await
}

async fn place_services(
    engine: &Containers,
    pod: &Pod<'_>,
    services: &[ServiceSpec],
    init: &str,
) -> Result<Vec<Placed>, Error> {
    let all = services
        .iter()
        .map(|service| place_service(engine, pod, service, init));
    // Joined to the end, as above.
    join_all(all).await.into_iter().collect()
}

async fn place_service(
    engine: &Containers,
    pod: &Pod<'_>,
    service: &ServiceSpec,
    init: &str,
) -> Result<Placed, Error> {
    let facts = facts(engine, &service.image).await?;
    let healthcheck = facts.healthcheck;
    let files = archive::service(&engine.runner, &service.completed(&facts.program()))?;
    place_limited(engine, |disk_limit| Wanted {
        name: service_name(pod.identity.sandbox, service.name()),
        role: Role::Service,
        body: pod.service(service, healthcheck, init, disk_limit),
        files: files.clone(),
    })
    .await
}

/// Few storage drivers can limit a container's disk; the first refusal is remembered.
async fn place_limited(engine: &Containers, wanted: impl Fn(bool) -> Wanted) -> Result<Placed, Error> {
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

fn lost_a_mount(error: &Error) -> bool {
    matches!(error, Error::Unavailable { message, .. } if message.contains("/merged: no such file or directory"))
}

/// How often a sandbox is made, at most.
const TRIES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(message: &str) -> Error {
        Error::Unavailable {
            operation: "start container",
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_busy_port_is_told_from_other_faults() {
        assert!(met_a_busy_port(&fault(
            "cannot listen on the TCP port: listen tcp4 127.0.0.1:43963: bind: address already in use"
        )));
        assert!(!met_a_busy_port(&fault("no space left on device")));
    }

    #[test]
    fn a_lost_mount_is_told_from_other_faults() {
        assert!(lost_a_mount(&fault(
            "mounting storage for container b1bf: lstat /root/overlay/7247/merged: no such file or directory"
        )));
        assert!(!lost_a_mount(&fault(
            "mounting storage for container b1bf: no space left on device"
        )));
    }
}
