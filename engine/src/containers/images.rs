//! Our own two images, made from the static programs when the engine does not have them.

use std::{io, path::Path};

use assay_core::digest::Hasher;
use bollard::{Docker, query_parameters::BuildImageOptions};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::try_join};

use super::{
    Binaries, CALL,
    fault::{fault, is_missing},
    within,
};
use crate::Error;

const INIT: &str = include_str!("../../../images/init-iptables/Dockerfile");
const PROXY: &str = include_str!("../../../images/proxy/Dockerfile");

/// The names of our own images on this engine.
#[derive(Debug, Clone)]
pub(super) struct OwnImages {
    pub init: String,
    pub proxy: String,
}

impl OwnImages {
    /// Builds what is missing.
    pub(super) async fn ensure(docker: &Docker, binaries: &Binaries) -> Result<Self, Error> {
        let (init, proxy) = try_join(
            ensure(docker, "assay/init-iptables", INIT, &binaries.init),
            ensure(docker, "assay/proxy", PROXY, &binaries.proxy),
        )
        .await?;
        Ok(Self { init, proxy })
    }
}

/// Reads one of our programs.
pub(super) async fn read(what: &'static str, path: &Path) -> Result<Bytes, Error> {
    tokio::fs::read(path)
        .await
        .map(Bytes::from)
        .map_err(|error| Error::Refused {
            operation: "read program",
            message: format!("{what} at {}: {error}", path.display()),
        })
}

/// The content id of an image; `None` when the engine has none of that name.
pub(super) async fn id(docker: &Docker, name: &str) -> Result<Option<String>, Error> {
    match docker.inspect_image(name).await {
        Ok(found) => Ok(found.id.map(content_id)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(fault("inspect image", &error)),
    }
}

/// Podman leaves the algorithm out.
fn content_id(id: String) -> String {
    if id.contains(':') {
        id
    } else {
        format!("sha256:{id}")
    }
}

async fn ensure(docker: &Docker, name: &str, dockerfile: &str, program: &Path) -> Result<String, Error> {
    let program = read("program", program).await?;
    let mut hasher = Hasher::default();
    hasher.update(dockerfile.as_bytes());
    hasher.update(&program);
    let digest = hasher.finish().hex();
    let tag = format!("{name}:{}", digest.get(..12).unwrap_or(&digest));
    if id(docker, &tag).await?.is_none() {
        let context = context(dockerfile, &program).map_err(|error| Error::Refused {
            operation: "pack image",
            message: error.to_string(),
        })?;
        within("build own image", CALL, build(docker, &tag, context)).await?;
    }
    Ok(tag)
}

async fn build(docker: &Docker, tag: &str, context: Bytes) -> Result<(), Error> {
    let options = BuildImageOptions {
        t: Some(tag.to_owned()),
        rm: true,
        forcerm: true,
        networkmode: Some("none".to_owned()),
        ..BuildImageOptions::default()
    };
    let mut steps = std::pin::pin!(docker.build_image(options, None, Some(bollard::body_full(context))));
    while let Some(step) = steps.next().await {
        step.map_err(|error| fault("build own image", &error))?;
    }
    Ok(())
}

fn context(dockerfile: &str, program: &[u8]) -> io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content, mode) in [
        ("Dockerfile", dockerfile.as_bytes(), 0o644),
        ("program", program, 0o755),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        archive.append_data(&mut header, name, content)?;
    }
    archive.into_inner().map(Bytes::from)
}
