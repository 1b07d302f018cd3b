//! Image builds of the test cluster: how an engine is told to build there, and what a build may leave behind.

pub mod left;
pub mod store;

use std::{path::Path, sync::Arc};

use assay_core::{archive, digest::Digest};
use assay_engine::{
    Archive,
    kubernetes::{Builds, Tool},
};

/// Which builder the cluster was brought up with, and the name of its image.
pub fn tool() -> (Tool, &'static str) {
    let named = std::env::var_os("ASSAY_TEST_BUILDER");
    match named.as_ref().map(|name| name.to_string_lossy()).as_deref() {
        Some("kaniko") => (Tool::Kaniko, "kaniko"),
        Some(other) => panic!("ASSAY_TEST_BUILDER is {other}; want kaniko, or nothing for Buildah"),
        None => (Tool::Buildah, "buildah"),
    }
}

/// Builds in the namespace that the manifests make, by way of the registry at `host:port`.
pub fn settings(host: &str) -> Builds {
    let (tool, name) = tool();
    let repository = format!("{host}/assay/tasks");
    Builds {
        namespace: left::NAMESPACE.to_owned(),
        program: format!("{host}/assay/builder:test"),
        tool,
        tool_image: format!("{host}/assay/{name}:test"),
        push_repository: repository.clone(),
        repository,
        push_secret: None,
        pull_secret: None,
        most_memory_bytes: 1 << 30,
        most_image_bytes: 2 << 30,
        most_at_once: 4,
    }
}

/// Packs a folder and keeps it where pods get it. `context` is the folder in it that is built from.
pub fn stored(folder: &Path, context: &Path) -> anyhow::Result<Archive> {
    let mut packed = Vec::new();
    let files = archive::scan(folder, archive::Caps::default())?;
    archive::pack(folder, &files, &mut packed)?;
    let digest = Digest::of(&packed);
    let archive = Archive {
        source: Arc::new(store::url(&digest.hex())),
        digest,
        size_bytes: packed.len() as u64,
        folder: context.strip_prefix(folder)?.display().to_string(),
    };
    store::put(&digest.hex(), packed);
    Ok(archive)
}
