//! What the three containers of a build are told, and what they leave as their last word.
//!
//! `fetch` brings archive and base images, `run` lets a builder make the image without any credential, `push` checks the
//! result and puts it into the registry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Where the volumes of a build lie, the same in each of its containers that has them.
pub mod path {
    /// Our own program, copied there for the builder's container.
    pub const PROGRAM: &str = "/assay/bin";
    /// The unpacked archive.
    pub const CONTEXT: &str = "/assay/context";
    /// The base images as an OCI layout.
    pub const BASES: &str = "/assay/bases";
    /// The builder's own storage.
    pub const STORAGE: &str = "/assay/storage";
    /// The result as an OCI layout.
    pub const LAYOUT: &str = "/assay/layout";
    /// What only `fetch` may read: [`super::FetchOrder`] as `order.json`.
    pub const ORDER: &str = "/assay/order";
    /// Credentials of registries as `.dockerconfigjson`: for `fetch` those to pull with, for `push` those to push with.
    pub const LOGIN: &str = "/assay/login";
}

/// Does the last line of a failed build say that Buildah, or Podman by it, ended a step by mistake? Before 1.31 it ties a step's
/// life to one of its own threads, and the kernel kills the step when that thread ends (podman issue 17918). A step that was killed
/// otherwise has an exit code.
pub fn killed_by_mistake(last_line: &str) -> bool {
    last_line
        .trim_end()
        .ends_with("while running runtime: signal: killed")
}

/// What `fetch` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOrder {
    /// A presigned URL of the archive.
    pub url: String,
    /// The archive's digest.
    pub digest: Digest,
    /// The archive's size.
    pub size_bytes: u64,
    /// The images that the Dockerfile starts from.
    pub bases: Vec<Base>,
    /// From a registry's host to the base URL that is asked in its place.
    pub mirrors: BTreeMap<String, String>,
    /// All base images together may have so many bytes.
    pub bases_bytes: u64,
}

/// An image that a Dockerfile starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// As the Dockerfile names it.
    pub name: String,
    /// With its registry and digest.
    pub pinned: String,
}

/// Who makes images out of Dockerfiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// Buildah, with chroot isolation.
    Buildah,
    /// Kaniko's executor, whose root is the container's own.
    Kaniko,
}

/// What `run` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPlan {
    /// Who builds.
    pub tool: Tool,
    /// The context's folder in the archive.
    pub folder: String,
    /// The Dockerfile in the context.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The images that it starts from, as the Dockerfile names them.
    pub bases: Vec<String>,
    /// Steps may use the pod's network, which is that of a proxy; else they have none.
    pub network: bool,
    /// How long the whole may take.
    pub limit_ms: u64,
}

/// What `push` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushOrder {
    /// Repository and tag, as this container reaches them.
    pub image: String,
    /// From a registry's host to the base URL that is asked in its place.
    pub mirrors: BTreeMap<String, String>,
    /// The image may have so many bytes, as it is stored.
    pub most_bytes: u64,
}

/// How one of the containers ended: its termination message, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum Verdict {
    /// The image is in the registry.
    Pushed {
        /// Its digest.
        digest: Digest,
    },
    /// What was asked of the container is done.
    Done,
    /// The Dockerfile, or what it made, is at fault.
    Task {
        /// The end of the log.
        reason: String,
    },
    /// A step ran out of memory.
    OutOfMemory,
    /// The build's time is over.
    TimedOut,
    /// Registry, object store or machine.
    Platform {
        /// What happened.
        message: String,
    },
}

impl Verdict {
    /// Nothing is wrong.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Pushed { .. } | Self::Done)
    }
}
