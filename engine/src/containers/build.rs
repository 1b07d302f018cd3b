//! Builds task images by the engine's own builder.
//!
//! One build per key at a time in this process; the tag is asked first. Base images are looked for before anything
//! is sent, so that a build never makes the engine reach out to a registry by itself.

mod context;
mod egress;
mod ignore;
mod outcome;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use assay_core::{control::build::killed_by_mistake, digest::Digest};
use bollard::{Docker, query_parameters::BuildImageOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

pub(super) use self::egress::Network;
use self::outcome::{Progress, Step};
use super::{Containers, disk, images};
use crate::{BuildOutcome, Error, ImageRef, ImageSpec, base};

/// How often a build is begun whose builder ends steps by mistake.
const TRIES: u32 = 5;

/// What its log says of it.
const AGAIN: &[u8] = b"the builder ended this step by mistake; building again\n";

/// Which keys are being built.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>);

impl Flights {
    /// Waits until nobody else builds this key.
    async fn enter(&self, key: Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let flight = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, flight| flight.strong_count() > 0);
            let known = flights.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let fresh = Arc::new(tokio::sync::Mutex::new(()));
                flights.insert(key, Arc::downgrade(&fresh));
                fresh
            })
        };
        flight.lock_owned().await
    }
}

/// Finds the image by its key, or builds it.
pub(super) async fn image(
    engine: &Containers,
    spec: &ImageSpec,
    log: mpsc::Sender<Bytes>,
) -> Result<BuildOutcome, Error> {
    let key = base::key(
        spec,
        bases(&engine.docker, spec).await?.iter().map(String::as_str),
    );
    let _flight = engine.flights.enter(key).await;
    let tag = tag(&key);
    if let Some(id) = images::id(&engine.docker, &tag).await? {
        return Ok(BuildOutcome::Built {
            image: ImageRef(id),
            cached: true,
        });
    }
    let network = Box::pin(egress::open(engine, &spec.network)).await?;
    // Dropping the request is how a build is cancelled.
    let built = tokio::select! {
        built = run(engine, spec, &tag, &network, &log) => built,
        reason = disk::overflow(engine, &network, spec.disk_bytes) => Ok(Some(BuildOutcome::Failed { reason })),
    };
    // Without its network a build cannot but fail: that says nothing about the Dockerfile.
    let whole = matches!(built, Ok(None)) || network.is_whole(engine).await?;
    // An engine that is slow to remove says nothing about the Dockerfile.
    if let Err(error) = network.close(engine).await {
        tracing::warn!(%error, "a build's sandbox stays for the end of its attempt");
    }
    match built? {
        Some(_) if !whole => Err(Error::Unavailable {
            operation: "build",
            message: "the sandbox that is the build's network died".to_owned(),
        }),
        Some(outcome) => Ok(outcome),
        None => finished(engine, &tag).await,
    }
}

/// What the base images are by their content. The engine has all of them, or does not build.
async fn bases(docker: &Docker, spec: &ImageSpec) -> Result<Vec<String>, Error> {
    let mut ids = Vec::new();
    for name in base::of(spec).await {
        let id = images::id(docker, &name).await?;
        ids.push(id.ok_or(Error::NoImage(name))?);
    }
    Ok(ids)
}

async fn finished(engine: &Containers, tag: &str) -> Result<BuildOutcome, Error> {
    let id = images::id(&engine.docker, tag).await?;
    id.map(|id| BuildOutcome::Built {
        image: ImageRef(id),
        cached: false,
    })
    .ok_or_else(|| Error::Unavailable {
        operation: "build",
        message: format!("the engine ended the build without an image {tag}"),
    })
}

/// Builds, and again where the builder ended a step by mistake: that is chance, and comes the more often the more sandboxes start
/// meanwhile. Steps that were done come from its cache. Each try has the whole time, so what ran past it did so undisturbed.
/// None when there is an image.
async fn run(
    engine: &Containers,
    spec: &ImageSpec,
    tag: &str,
    network: &Network,
    log: &mpsc::Sender<Bytes>,
) -> Result<Option<BuildOutcome>, Error> {
    let mut tries = 1;
    loop {
        let built = tokio::time::timeout(spec.timeout, once(engine, spec, tag, network, log)).await;
        match built {
            Ok(Err(Error::Unavailable { message, .. })) if killed_by_mistake(&message) && tries < TRIES => {
                tracing::warn!(%message, "a builder ended a step by mistake: it builds again");
                drop(log.send(Bytes::from_static(AGAIN)).await);
                tries += 1;
            }
            Ok(Ok(reason)) => return Ok(reason.map(|reason| BuildOutcome::Failed { reason })),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(Some(BuildOutcome::TimedOut)),
        }
    }
}

/// Sends the context and follows the steps; the reason when the Dockerfile failed.
async fn once(
    engine: &Containers,
    spec: &ImageSpec,
    tag: &str,
    network: &Network,
    log: &mpsc::Sender<Bytes>,
) -> Result<Option<String>, Error> {
    let mut parameters = network.parameters(engine.podman);
    // The client's own field holds 31 bits, less than builds need.
    parameters.push(("memory", spec.memory_bytes.to_string()));
    parameters.push(("memswap", spec.memory_bytes.to_string()));
    let docker = with_parameters(&engine.docker, &parameters);
    let context = context::stream(spec.context.clone(), spec.dockerfile.clone());
    let body = bollard::body_try_stream(context);
    let mut steps = std::pin::pin!(docker.build_image(options(spec, tag), None, Some(body)));
    let mut progress = Progress::default();
    while let Some(step) = steps.next().await {
        match progress.take(step) {
            Step::Line(line) => {
                // A reader that went away does not stop the build.
                drop(log.send(line).await);
            }
            Step::Quiet => {}
            Step::Failed(reason) => return Ok(Some(reason)),
            Step::Fault(error) => return Err(error),
        }
    }
    Ok(None)
}

fn options(spec: &ImageSpec, tag: &str) -> BuildImageOptions {
    let args = spec
        .args
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    BuildImageOptions {
        dockerfile: spec.dockerfile.clone(),
        t: Some(tag.to_owned()),
        rm: true,
        forcerm: true,
        buildargs: Some(args.collect()),
        labels: Some(HashMap::from([
            ("app.kubernetes.io/managed-by".to_owned(), "assay".to_owned()),
            ("assay.dev/key".to_owned(), spec.key.to_string()),
        ])),
        ..BuildImageOptions::default()
    }
}

/// A client that adds these parameters, which its own options cannot say, to each request.
///
/// Where they cannot be added the request becomes one that no engine takes: a build without them would have more
/// network than it may.
fn with_parameters(docker: &Docker, parameters: &[(&'static str, String)]) -> Docker {
    let mut added = String::new();
    for (name, value) in parameters {
        added.push('&');
        added.push_str(name);
        added.push('=');
        added.push_str(&encode(value));
    }
    docker.clone().with_request_modifier(move |mut request| {
        let uri = format!("{}{added}", request.uri());
        *request.uri_mut() = uri.parse().unwrap_or_default();
        request
    })
}

/// Percent-encodes everything but letters and digits.
fn encode(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&assay_core::digest::hex(&[byte]));
        }
    }
    encoded
}

/// The tag of a key.
fn tag(key: &Digest) -> String {
    let hex = key.hex();
    format!("assay/task:{}", hex.get(..32).unwrap_or(&hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_key_has_one_builder_at_a_time() {
        let flights = Flights::default();
        let first = flights.enter(Digest::of("a")).await;
        let other = flights.enter(Digest::of("b")).await;
        let second = flights.enter(Digest::of("a"));
        let mut second = std::pin::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        drop(second.await);
        drop(other);
        drop(flights.enter(Digest::of("c")).await);
        assert_eq!(flights.0.lock().unwrap().len(), 1, "finished keys are forgotten");
    }
}
