//! The sandbox's files as a Secret that init alone mounts.
//!
//! Init puts each into the volume of the container that it is for, and the Secret is deleted as soon as the proxy runs.

use std::collections::BTreeMap;

use assay_core::{
    control::init::{InitConfig, Install},
    egress::PROXY_UID,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde::Serialize;

use super::labels::{self, Identity, Owner};
use crate::{Error, SandboxFiles};

/// Where init finds the Secret, main's volume and the proxy's.
pub(super) const AT_FILES: &str = "/assay/files";
pub(super) const AT_MAIN: &str = "/assay/main";
pub(super) const AT_PROXY: &str = "/assay/proxy";
pub(super) const INIT_CONFIG: &str = "/assay/files/init.json";
/// The runner in init's image.
const RUNNER: &str = "/assay-runner";

/// The Secret of a sandbox.
pub(super) fn secret(
    owner: &Owner,
    identity: &Identity,
    namespace: &str,
    files: &SandboxFiles,
) -> Result<Secret, Error> {
    let init = InitConfig {
        hold: false,
        backend: files.init.backend,
        install: install(),
    };
    let data = BTreeMap::from([
        ("init.json".to_owned(), json(&init)?),
        ("assignment.json".to_owned(), json(&files.proxy)?),
        ("runner.json".to_owned(), json(&files.runner)?),
    ]);
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
