//! Finds sandboxes by their labels, and what is needed to talk to them.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use assay_core::egress::port;
use bollard::{
    models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, ImageConfig},
    query_parameters::ListContainersOptions,
};
use futures_util::future::{try_join, try_join_all};

use super::{
    Containers,
    fault::{fault, is_missing},
    inspect::{AGAIN, inspect, inspect_existing, is_being_cleaned_up},
    labels::{self, Role},
    place::state,
    volumes,
};
use crate::{Error, ImageRef, Listed, Sandbox, SandboxRef, service::Program, shape};

/// A container of one of our sandboxes.
#[derive(Debug)]
pub(super) struct Member {
    pub id: String,
    pub role: Role,
    /// Its name, of a service.
    pub service: Option<String>,
    pub running: bool,
}

/// What an image says about how its programs want to run.
#[derive(Debug, Default)]
pub(super) struct ImageFacts {
    pub workdir: String,
    pub user: String,
    pub env: BTreeMap<String, String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// It brings a health check, which must not run beside the runner.
    pub healthcheck: bool,
}

/// Where the two control interfaces answer on this host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub runner: SocketAddr,
    pub proxy: SocketAddr,
}

/// The containers of one sandbox that are this installation's. Asked by name: each answers for itself. The names of
/// services are not known, so they are listed.
pub(super) async fn members(engine: &Containers, sandbox: SandboxRef) -> Result<Vec<Member>, Error> {
    let single = Role::SINGLE.map(|role| member(engine, sandbox, role));
    let (found, services) = try_join(try_join_all(single), services(engine, sandbox)).await?;
    Ok(found.into_iter().flatten().chain(services).collect())
}

async fn services(engine: &Containers, sandbox: SandboxRef) -> Result<Vec<Member>, Error> {
    let filter = labels::services_filter(&engine.owner, sandbox.sandbox);
    let found = summaries(engine, filter).await?.into_iter();
    Ok(found
        .filter_map(|summary| {
            Some(Member {
                id: summary.id?,
                role: Role::Service,
                service: Some(labels::service(&summary.labels?)?),
                running: summary.state == Some(ContainerSummaryStateEnum::RUNNING),
            })
        })
        .collect())
}

async fn member(engine: &Containers, sandbox: SandboxRef, role: Role) -> Result<Option<Member>, Error> {
    let name = labels::name(sandbox.sandbox, role);
    let Some(found) = inspect(engine, &name).await? else {
        return Ok(None);
    };
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    if !labels.is_some_and(|labels| labels::is_ours(&engine.owner, labels)) {
        return Ok(None);
    }
    let (running, _) = state(&found);
    Ok(Some(Member {
        id: found.id.unwrap_or(name),
        role,
        service: None,
        running,
    }))
}

/// One entry for each sandbox of this installation of which anything is left.
pub(super) async fn list(engine: &Containers) -> Result<Vec<Listed>, Error> {
    let containers = summaries(engine, labels::filter(&engine.owner));
    let (containers, volumes) = try_join(containers, volumes::list(engine)).await?;
    let listed = containers
        .into_iter()
        .filter_map(|summary| labels::listed(&summary.labels?));
    let all = listed.chain(volumes);
    let by_name: BTreeMap<_, _> = all.map(|listed| (listed.name.sandbox, listed)).collect();
    Ok(by_name.into_values().collect())
}

/// All containers that the filter lets through, ended ones too.
pub(super) async fn summaries(
    engine: &Containers,
    filter: HashMap<String, Vec<String>>,
) -> Result<Vec<ContainerSummary>, Error> {
    loop {
        let options = ListContainersOptions {
            all: true,
            filters: Some(filter.clone()).filter(|filter| !filter.is_empty()),
            ..ListContainersOptions::default()
        };
        match engine.docker.list_containers(Some(options)).await {
            Ok(found) => return Ok(found),
            Err(error) if is_being_cleaned_up(&error) => {
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(fault("list containers", &error)),
        }
    }
}

/// A sandbox is alive while init and main run.
pub(super) async fn find(engine: &Containers, name: SandboxRef) -> Result<Option<Sandbox>, Error> {
    let members = members(engine, name).await?;
    let running = |role| {
        let mut found = members.iter();
        found.find(|member| member.role == role && member.running)
    };
    let (Some(init), Some(main)) = (running(Role::Init), running(Role::Main)) else {
        return Ok(None);
    };
    let (ports, facts) = match try_join(ports(engine, &init.id), facts_of_container(engine, &main.id)).await {
        // It ended between the two questions.
        Err(Error::Refused { .. }) => return Ok(None),
        found => found?,
    };
    Ok(Some(sandbox(name, ports, facts)))
}

/// The published ports of a running init.
pub(super) async fn ports(engine: &Containers, init: &str) -> Result<Ports, Error> {
    let found = inspect_existing(engine, init).await?;
    match (published(&found, port::RUNNER), published(&found, port::PROXY)) {
        (Some(runner), Some(proxy)) => Ok(Ports { runner, proxy }),
        _ => Err(Error::Refused {
            operation: "inspect container",
            message: "its control ports are not published".to_owned(),
        }),
    }
}

/// The process of a running container, as the engine's host sees it.
pub(super) async fn pid(engine: &Containers, id: &str) -> Result<i64, Error> {
    let found = inspect_existing(engine, id).await?;
    let pid = found.state.and_then(|state| state.pid).filter(|pid| *pid > 0);
    pid.ok_or_else(|| Error::Unavailable {
        operation: "inspect container",
        message: "it has ended".to_owned(),
    })
}

fn published(found: &ContainerInspectResponse, port: u16) -> Option<SocketAddr> {
    let ports = found.network_settings.as_ref()?.ports.as_ref()?;
    let bindings = ports.get(&format!("{port}/tcp"))?.as_ref()?;
    bindings.iter().find_map(|binding| {
        let address: IpAddr = binding.host_ip.as_ref()?.parse().ok()?;
        Some(SocketAddr::new(
            address,
            binding.host_port.as_ref()?.parse().ok()?,
        ))
    })
}

/// What the image says; an image that does not exist is told by its name.
pub(super) async fn facts(engine: &Containers, image: &ImageRef) -> Result<ImageFacts, Error> {
    match engine.docker.inspect_image(&image.0).await {
        Ok(found) => Ok(facts_of(found.config.unwrap_or_default())),
        Err(error) if is_missing(&error) => Err(Error::NoImage(image.0.clone())),
        Err(error) => Err(fault("inspect image", &error)),
    }
}

async fn facts_of_container(engine: &Containers, main: &str) -> Result<ImageFacts, Error> {
    let found = inspect_existing(engine, main).await?;
    facts(engine, &ImageRef(found.image.unwrap_or_default())).await
}

fn facts_of(config: ImageConfig) -> ImageFacts {
    ImageFacts {
        healthcheck: config.healthcheck.is_some(),
        workdir: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        env: shape::env(config.env),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
    }
}

impl ImageFacts {
    pub(super) fn program(self) -> Program {
        Program {
            entrypoint: self.entrypoint,
            command: self.command,
            workdir: self.workdir,
            user: self.user,
            env: self.env,
        }
    }
}

pub(super) fn sandbox(name: SandboxRef, ports: Ports, facts: ImageFacts) -> Sandbox {
    Sandbox {
        name,
        runner: ports.runner,
        proxy: ports.proxy,
        workdir: facts.workdir,
        user: facts.user,
        env: facts.env,
    }
}
