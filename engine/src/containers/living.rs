//! Finds sandboxes by their labels, and what is needed to talk to them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use assay_core::egress::port;
use bollard::{
    models::{ContainerInspectResponse, ContainerSummaryStateEnum, ImageConfig},
    query_parameters::ListContainersOptions,
};
use futures_util::future::try_join;

use super::{
    Containers,
    fault::{fault, is_missing},
    labels::{self, Role},
};
use crate::{Error, ImageRef, Listed, Sandbox, SandboxRef};

/// A container of one of our sandboxes.
#[derive(Debug)]
pub(super) struct Member {
    pub id: String,
    pub role: Role,
    pub listed: Listed,
    pub running: bool,
}

/// What an image says about how its programs want to run.
#[derive(Debug, Default)]
pub(super) struct ImageFacts {
    pub workdir: String,
    pub user: String,
    pub env: BTreeMap<String, String>,
}

/// Where the two control interfaces answer on this host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub runner: SocketAddr,
    pub proxy: SocketAddr,
}

/// Every container of this installation, or of one sandbox of it.
pub(super) async fn members(engine: &Containers, sandbox: Option<SandboxRef>) -> Result<Vec<Member>, Error> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(labels::filter(&engine.owner, sandbox)),
        ..ListContainersOptions::default()
    };
    let found = engine
        .docker
        .list_containers(Some(options))
        .await
        .map_err(|error| fault("list containers", &error))?;
    let member = |summary: bollard::models::ContainerSummary| {
        let labels = summary.labels?;
        Some(Member {
            id: summary.id?,
            role: labels::role(&labels)?,
            listed: labels::listed(&labels)?,
            running: summary.state == Some(ContainerSummaryStateEnum::RUNNING),
        })
    };
    Ok(found.into_iter().filter_map(member).collect())
}

/// One entry for each sandbox.
pub(super) async fn list(engine: &Containers) -> Result<Vec<Listed>, Error> {
    let by_name: BTreeMap<_, _> = members(engine, None)
        .await?
        .into_iter()
        .map(|member| (member.listed.name.sandbox, member.listed))
        .collect();
    Ok(by_name.into_values().collect())
}

/// A sandbox is alive while init and main run.
pub(super) async fn find(engine: &Containers, name: SandboxRef) -> Result<Option<Sandbox>, Error> {
    let members = members(engine, Some(name)).await?;
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
    let found = engine
        .docker
        .inspect_container(init, None)
        .await
        .map_err(|error| fault("inspect container", &error))?;
    match (published(&found, port::RUNNER), published(&found, port::PROXY)) {
        (Some(runner), Some(proxy)) => Ok(Ports { runner, proxy }),
        _ => Err(Error::Refused {
            operation: "inspect container",
            message: "its control ports are not published".to_owned(),
        }),
    }
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
    let found = engine
        .docker
        .inspect_container(main, None)
        .await
        .map_err(|error| fault("inspect container", &error))?;
    facts(engine, &ImageRef(found.image.unwrap_or_default())).await
}

fn facts_of(config: ImageConfig) -> ImageFacts {
    let pair = |entry: String| {
        let (name, value) = entry.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    ImageFacts {
        workdir: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        env: config
            .env
            .unwrap_or_default()
            .into_iter()
            .filter_map(pair)
            .collect(),
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
