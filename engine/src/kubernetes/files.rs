//! The sandbox's files as a Secret that init alone mounts.
//!
//! Init puts each into the volume of the container that it is for, and the Secret is deleted as soon as the proxy runs.

use std::collections::BTreeMap;

use assay_core::{
    control::{
        init::{InitConfig, Install},
        service::ServiceConfig,
    },
    egress::PROXY_UID,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde::Serialize;

use super::labels::{self, Identity, Owner};
use crate::{Error, SandboxFiles, service::PREFIX};

/// Where init finds the Secret, main's volume and the proxy's.
pub(super) const AT_FILES: &str = "/assay/files";
pub(super) const AT_MAIN: &str = "/assay/main";
pub(super) const AT_PROXY: &str = "/assay/proxy";
/// Below it, those of services by their names.
const AT_SERVICES: &str = "/assay/services";
pub(super) const INIT_CONFIG: &str = "/assay/files/init.json";
/// The runner in init's image.
const RUNNER: &str = "/assay-runner";

/// Where init finds the volume of a service.
pub(super) fn at_service(name: &str) -> String {
    format!("{AT_SERVICES}/{name}")
}

/// The Secret of a sandbox.
pub(super) fn secret(
    owner: &Owner,
    identity: &Identity,
    namespace: &str,
    files: &SandboxFiles,
    services: &[ServiceConfig],
) -> Result<Secret, Error> {
    // Those of the proxy come last.
    let mut all: Vec<Install> = services.iter().flat_map(of_service).collect();
    all.extend(install());
    let init = InitConfig {
        hold: false,
        backend: files.init.backend,
        install: all,
    };
    let mut data = BTreeMap::from([
        ("init.json".to_owned(), json(&init)?),
        ("assignment.json".to_owned(), json(&files.proxy)?),
        ("runner.json".to_owned(), json(&files.runner)?),
    ]);
    for service in services {
        data.insert(key(service), json(service)?);
    }
    Ok(Secret {
        metadata: labels::metadata(owner, identity, namespace),
        data: Some(data),
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// What init and proxy of a build find: there is no runner.
pub(super) fn of_proxy(files: &SandboxFiles) -> Result<[(String, ByteString); 2], Error> {
    let all = install();
    let init = InitConfig {
        hold: false,
        backend: files.init.backend,
        install: all.into_iter().filter(|one| !is_mains(one)).collect(),
    };
    Ok([
        ("init.json".to_owned(), json(&init)?),
        ("assignment.json".to_owned(), json(&files.proxy)?),
    ])
}

fn is_mains(install: &Install) -> bool {
    matches!(install, Install::File { to, .. } if to.starts_with(AT_MAIN))
}

fn key(service: &ServiceConfig) -> String {
    format!("{PREFIX}{}.json", service.place.name)
}

/// A runner of its own, and what that is told.
fn of_service(service: &ServiceConfig) -> [Install; 2] {
    let at = at_service(&service.place.name);
    let file = |from: String, name: &str, mode: u32| Install::File {
        from,
        to: format!("{at}/{name}"),
        owner: 0,
        mode,
    };
    [
        file(RUNNER.to_owned(), "runner", 0o555),
        file(format!("{AT_FILES}/{}", key(service)), "service.json", 0o444),
    ]
}

/// Each file to its reader. The proxy's folder is given away last: without more rights nobody else writes into it then.
fn install() -> Vec<Install> {
    let file = |from: String, to: String, owner: u32, mode: u32| Install::File {
        from,
        to,
        owner,
        mode,
    };
    let folder = |path: String| Install::Folder {
        path,
        owner: PROXY_UID,
        mode: 0o700,
    };
    vec![
        file(RUNNER.to_owned(), format!("{AT_MAIN}/runner"), 0, 0o555),
        file(
            format!("{AT_FILES}/runner.json"),
            format!("{AT_MAIN}/runner.json"),
            0,
            0o444,
        ),
        file(
            format!("{AT_FILES}/assignment.json"),
            format!("{AT_PROXY}/assignment.json"),
            PROXY_UID,
            0o400,
        ),
        folder(format!("{AT_PROXY}/state")),
        folder(AT_PROXY.to_owned()),
    ]
}

fn json(value: &impl Serialize) -> Result<ByteString, Error> {
    let refused = |error: serde_json::Error| Error::Refused {
        operation: "pack files",
        message: error.to_string(),
    };
    serde_json::to_vec(value).map(ByteString).map_err(refused)
}
