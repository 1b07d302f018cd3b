//! What a registry says about an image: its digest, and how its programs want to run.
//!
//! Neither a pod nor its status tells an image's user or environment, so the registry is asked, once for each image.

use std::collections::BTreeMap;

use assay_registry::{Client, Image, ImageConfig, Manifest, Reference, Registries, own_platform};
use serde::{Deserialize, Serialize};

use crate::{Error, service::Program, shape};

/// What an image says about how its programs want to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub workdir: String,
    pub user: String,
    pub env: BTreeMap<String, String>,
}

/// An image that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its name with its digest: what a pod is made from.
    pub pinned: String,
    pub facts: Facts,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
}

impl Found {
    /// What the image says about its own program.
    pub(super) fn program(&self) -> Program {
        let Facts { workdir, user, env } = self.facts.clone();
        Program {
            entrypoint: self.entrypoint.clone(),
            command: self.command.clone(),
            workdir,
            user,
            env,
        }
    }
}

/// Asks registries.
#[derive(Debug)]
pub(super) struct Lookup(Client);

impl Lookup {
    pub(super) fn new(registries: Registries) -> Self {
        Self(Client::new(registries))
    }

    /// The image by that name. One that does not exist is [`Error::NoImage`]; a registry that is away is a fault that passes.
    pub(super) async fn find(&self, image: &str) -> Result<Found, Error> {
        let reference = Reference::parse(image).ok_or_else(|| Error::NoImage(image.to_owned()))?;
        let repository = self.0.repository(&reference);
        let (top, body) = repository.manifest(&reference.version).await.map_err(fault)?;
        let mut manifest: Manifest = read(&body)?;
        if let Some(own) = own_platform(&manifest.manifests) {
            manifest = read(&repository.manifest(&own.digest).await.map_err(fault)?.1)?;
        }
        let config = manifest.config.ok_or_else(|| Error::NoImage(image.to_owned()))?;
        let image: Image = read(&repository.blob(&config.digest).await.map_err(fault)?)?;
        let mut config = image.config.unwrap_or_default();
        Ok(Found {
            pinned: reference.pinned(&top.to_string()),
            entrypoint: config.entrypoint.take().unwrap_or_default(),
            command: config.command.take().unwrap_or_default(),
            facts: facts(config),
        })
    }

    /// The name with its digest; `None` where the registry says that there is no such image.
    pub(super) async fn pinned(&self, image: &str) -> Result<Option<String>, Error> {
        let reference = Reference::parse(image).ok_or_else(|| Error::NoImage(image.to_owned()))?;
        match self.0.repository(&reference).manifest(&reference.version).await {
            Ok((digest, _)) => Ok(Some(reference.pinned(&digest.to_string()))),
            Err(assay_registry::Error::NotThere(_)) => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }
}

fn facts(config: ImageConfig) -> Facts {
    Facts {
        workdir: config.workdir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        env: shape::env(config.env),
    }
}

pub(super) fn fault(error: assay_registry::Error) -> Error {
    const OPERATION: &str = "ask the registry";
    match error {
        assay_registry::Error::NotThere(name) => Error::NoImage(name),
        assay_registry::Error::Refused(message) => Error::Refused {
            operation: OPERATION,
            message,
        },
        assay_registry::Error::Away(message) | assay_registry::Error::Wrong(message) => Error::Unavailable {
            operation: OPERATION,
            message,
        },
        file @ assay_registry::Error::File { .. } => Error::Unavailable {
            operation: OPERATION,
            message: file.to_string(),
        },
    }
}

fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Unavailable {
        operation: "ask the registry",
        message: format!("what it says cannot be read: {error}"),
    })
}
