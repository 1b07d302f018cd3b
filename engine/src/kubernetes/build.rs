//! Builds task images on the cluster: one Job of a fixed name for each image, whoever asks for it.
//!
//! The registry is asked before and after. What it does not know for certain is never built, and what a Job that
//! vanished has left is asked for there, not guessed.

mod flight;
mod follow;
mod job;
mod log;
mod tool;
mod verdict;

use assay_core::{
    control::build::Base,
    digest::{Digest, hex},
};
use bytes::Bytes;
use tokio::sync::mpsc;

use self::{job::Order, verdict::End};
use super::{Builds, Kubernetes};
use crate::{BuildOutcome, Error, ImageRef, ImageSpec, base};

/// Finds the image by its key, or builds it, or waits for whoever builds it.
pub(super) async fn image(
    engine: &Kubernetes,
    spec: &ImageSpec,
    log: mpsc::Sender<Bytes>,
) -> Result<BuildOutcome, Error> {
    let builds = engine.builds.as_ref().ok_or_else(|| Error::Refused {
        operation: "build image",
        message: format!(
            "this installation builds no images; give the task an image of a registry (docker_image in task.toml) \
             instead of {}",
            spec.dockerfile
        ),
    })?;
    let bases = bases(engine, spec).await?;
    let key = base::key(spec, bases.iter().map(|base| base.pinned.as_str()));
    let name = format!("{}:{}", builds.repository, tag(&key));
    if let Some(found) = engine.lookup.pinned(&name).await? {
        return Ok(built(found, true));
    }
    // Never closed.
    let closed = |_| Error::NoRoom("no more images are built".to_owned());
    let _place = engine.building.acquire().await.map_err(closed)?;
    // Somebody else may have built it meanwhile, and nothing of that be left but the image.
    if let Some(found) = engine.lookup.pinned(&name).await? {
        return Ok(built(found, true));
    }
    let mut order = order(engine, builds, spec, bases, &key).await?;
    loop {
        let (end, joined) = Box::pin(flight::fly(engine, &order, &log)).await?;
        match end {
            // Whoever builds no more may have built before.
            End::Pushed | End::Vanished => return after(engine, &name, joined).await,
            End::Task(reason) => return Ok(BuildOutcome::Failed { reason }),
            End::TimedOut => return Ok(BuildOutcome::TimedOut),
            End::OutOfMemory if order.memory_bytes < builds.most_memory_bytes => {
                order.memory_bytes = (order.memory_bytes * 2).min(builds.most_memory_bytes);
                tracing::info!(
                    memory_bytes = order.memory_bytes,
                    "the build is tried with more memory"
                );
            }
            End::OutOfMemory => {
                let reason = format!("the build ran out of {} MiB of memory", order.memory_bytes >> 20);
                return Ok(BuildOutcome::Failed { reason });
            }
            End::Platform(message) => {
                return Err(Error::Unavailable {
                    operation: "build image",
                    message,
                });
            }
        }
    }
}

/// The base images by their digests. One that its registry does not have is told by its name.
async fn bases(engine: &Kubernetes, spec: &ImageSpec) -> Result<Vec<Base>, Error> {
    let mut bases = Vec::new();
    for name in base::of(spec).await {
        let pinned = engine.lookup.pinned(&name).await?;
        let pinned = pinned.ok_or_else(|| Error::NoImage(name.clone()))?;
        bases.push(Base { name, pinned });
    }
    Ok(bases)
}

async fn order<'a>(
    engine: &'a Kubernetes,
    builds: &'a Builds,
    spec: &'a ImageSpec,
    bases: Vec<Base>,
    key: &Digest,
) -> Result<Order<'a>, Error> {
    let own = async |image: &str| engine.lookup.find(image).await.map(|found| found.pinned);
    Ok(Order {
        builds,
        spec,
        options: &engine.options,
        mirrors: &engine.mirrors,
        owner: &engine.owner,
        name: format!("build-{}", tag(key)),
        secret: format!("build-{}-{}", tag(key), random()?),
        program: own(&builds.program).await?,
        tool_image: own(&builds.tool_image).await?,
        init: own(&engine.images.init).await?,
        proxy: own(&engine.images.proxy).await?,
        push_to: format!("{}:{}", builds.push_repository, tag(key)),
        bases,
        memory_bytes: tool::memory(builds, spec.memory_bytes),
    })
}

/// What the registry says once nobody builds any more.
async fn after(engine: &Kubernetes, name: &str, joined: bool) -> Result<BuildOutcome, Error> {
    let found = engine.lookup.pinned(name).await?;
    found
        .map(|found| built(found, joined))
        .ok_or_else(|| Error::Unavailable {
            operation: "build image",
            message: format!("the build ended, and the registry has no {name}"),
        })
}

fn built(pinned: String, cached: bool) -> BuildOutcome {
    BuildOutcome::Built {
        image: ImageRef(pinned),
        cached,
    }
}

fn random() -> Result<String, Error> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| Error::Unavailable {
        operation: "name a Secret",
        message: error.to_string(),
    })?;
    Ok(hex(&bytes))
}

/// The tag of a key, and a part of the Job's name.
fn tag(key: &Digest) -> String {
    let hex = key.hex();
    hex.get(..32).unwrap_or(&hex).to_owned()
}
