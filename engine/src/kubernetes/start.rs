//! Brings a sandbox up: Secret, pod, and the way until its runner can be reached.

use std::{net::IpAddr, sync::atomic::Ordering, time::Duration};

use futures_util::future::{try_join_all, try_join4};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::PostParams;
use tokio::{sync::SemaphorePermit, time::Instant};

use super::{
    Kubernetes,
    again::again,
    events,
    fault::{fault, is_taken},
    files,
    image::Found,
    labels::{self, Identity},
    living,
    pod::Plan,
    reach,
    remove::forget_secret,
    room,
    status::{Progress, Waiting, progress},
    watch::Watch,
};
use crate::{Error, Sandbox, SandboxSpec};

/// A sandbox whose containers run; the one of that id where it exists already.
pub(super) async fn sandbox(engine: &Kubernetes, spec: &SandboxSpec) -> Result<Sandbox, Error> {
    let deadline = Instant::now() + spec.start_timeout;
    let place = engine.queue.enter(deadline).await?;
    let pod = Box::pin(self::place(engine, spec)).await?;
    let facts = living::facts(&pod);
    let ip = Box::pin(rise(engine, spec, pod, deadline, place)).await?;
    let addresses = engine.ways.addresses(&engine.pods, spec.sandbox, ip).await?;
    Ok(living::sandbox(living::reference(spec.sandbox), addresses, facts))
}

/// Makes Secret and pod, or meets the pod that an earlier try has made. The pod's start waits for the Secret, so that
/// comes first.
async fn place(engine: &Kubernetes, spec: &SandboxSpec) -> Result<Pod, Error> {
    let identity = Identity {
        sandbox: spec.sandbox,
        run: spec.run,
        attempt: spec.attempt,
    };
    let services = spec
        .services
        .iter()
        .map(|service| engine.lookup.find(&service.image.0));
    let (init, proxy, main, services) = try_join4(
        engine.lookup.find(&engine.images.init),
        engine.lookup.find(&engine.images.proxy),
        engine.lookup.find(&spec.image.0),
        try_join_all(services),
    )
    .await?;
    let told: Vec<_> = spec
        .services
        .iter()
        .zip(&services)
        .map(|(service, image)| service.completed(&image.program()))
        .collect();
    let secret = files::secret(&engine.owner, &identity, &engine.namespace, &spec.files, &told)?;
    let images = services.into_iter().map(|image| image.pinned);
    let services: Vec<_> = spec.services.iter().cloned().zip(images).collect();
    let Found { pinned, facts, .. } = main;
    let plan = Plan {
        owner: &engine.owner,
        identity,
        namespace: &engine.namespace,
        images: [&init.pinned, &proxy.pinned, &pinned],
        limits: &spec.resources,
        gpus: &spec.gpus,
        services: &services,
        phase: spec.files.proxy.phase,
        options: &engine.options,
        annotations: living::annotations(&facts),
    };
    store_secret(engine, &secret).await?;
    let how = PostParams::default();
    let pod = plan.pod();
    match again(|| engine.pods.create(&how, &pod)).await {
        Ok(pod) => {
            if let Some(uid) = pod.metadata.uid.clone() {
                engine.made.add(spec.sandbox, uid);
            }
            Ok(pod)
        }
        // Also one that a full quota would refuse may be there.
        Err(error) => match living::pod(engine, spec.sandbox).await? {
            Some(pod) if labels::is_ours(&engine.owner, &pod.metadata) => Ok(pod),
            found => {
                forget_secret(engine, spec.sandbox).await?;
                Err(found.map_or_else(|| fault("create the pod", &error), |_| foreign(spec)))
            }
        },
    }
}

/// The first that is asked for a sandbox. Where nobody answers, nothing was tried.
async fn store_secret(engine: &Kubernetes, secret: &Secret) -> Result<(), Error> {
    let how = PostParams::default();
    let stored = again(|| engine.secrets.create(&how, secret));
    match tokio::time::timeout(ANSWER, stored).await {
        Ok(Err(error)) if !is_taken(&error) => Err(fault("create the Secret", &error)),
        Ok(_) => Ok(()),
        Err(_) => {
            engine.silent.store(true, Ordering::Relaxed);
            Err(Error::NoRoom("the API server does not answer".to_owned()))
        }
    }
}

/// Follows the pod until its runner answers, or its containers run; then the Secret goes.
async fn rise(
    engine: &Kubernetes,
    spec: &SandboxSpec,
    pod: Pod,
    deadline: Instant,
    place: SemaphorePermit<'_>,
) -> Result<IpAddr, Error> {
    let mut place = Some(place);
    let mut watch = Watch::after(engine.pods.clone(), labels::name(spec.sandbox), pod);
    let mut seen = Progress::default();
    loop {
        let next = tokio::select! {
            // cancel-safe: a state that is not taken is replaced by a newer one.
            next = watch.next() => next?,
            // cancel-safe: it only asks. A runner that answers needs no word from the cluster.
            () = answering(engine, seen.ip) => break,
            () = tokio::time::sleep_until(deadline) => return Err(late(engine, spec, &seen).await),
        };
        seen = progress_of(engine, spec, next)?;
        if seen.placed_on_node {
            drop(place.take());
        }
        if seen.running && seen.ip.is_some() {
            break;
        }
    }
    if engine.ways.known().is_none() && !seen.running {
        engine.ways.decide(true);
    }
    // The runner answers only after init has ended, and init has read all of it.
    forget_secret(engine, spec.sandbox).await?;
    seen.ip.ok_or(Error::Timeout {
        operation: "create",
        seconds: spec.start_timeout.as_secs(),
    })
}

fn progress_of(engine: &Kubernetes, spec: &SandboxSpec, pod: Option<Pod>) -> Result<Progress, Error> {
    let Some(pod) = pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()) else {
        return Err(Error::Unavailable {
            operation: "start the pod",
            message: "it was deleted while it started".to_owned(),
        });
    };
    if !labels::is_ours(&engine.owner, &pod.metadata) {
        return Err(foreign(spec));
    }
    progress(&pod).map_err(|error| {
        if let Error::NoImage(image) = &error {
            return Error::NoImage(as_written(spec, image));
        }
        error
    })
}

/// Nodes name an image by its content; people by what they wrote.
fn as_written(spec: &SandboxSpec, image: &str) -> String {
    let without_digest = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    let repository = without_digest(image);
    let services = spec.services.iter().map(|service| &service.image.0);
    let same = |name: &&String| {
        let name = without_digest(name);
        name == repository || name.rsplit_once(':').is_some_and(|(name, _)| name == repository)
    };
    let mut all = services.filter(same);
    all.next().unwrap_or(&spec.image.0).clone()
}

/// Ends when a runner answers at this address; never where pods are not reached so.
async fn answering(engine: &Kubernetes, ip: Option<IpAddr>) {
    match ip.filter(|_| engine.ways.known() != Some(false)) {
        Some(ip) => while !reach::answers(ip, reach::ROUND).await {},
        None => std::future::pending().await,
    }
}

/// It did not start in time: what it waits for, with what the cluster wrote down about it.
async fn late(engine: &Kubernetes, spec: &SandboxSpec, seen: &Progress) -> Error {
    let events = events::of_pod(engine, &labels::name(spec.sandbox)).await;
    let seconds = spec.start_timeout.as_secs();
    let (words, room) = match &seen.waiting {
        Some(Waiting::Room(words)) => (words.as_str(), true),
        Some(Waiting::Pull(words) | Waiting::Other(words)) => (words.as_str(), false),
        None => ("the pod did not get ready", false),
    };
    let message = [words, &events].join("; ");
    let message = message.trim_end_matches("; ");
    if room && room::no_node_could(words) {
        return Error::Refused {
            operation: "start the pod",
            message: format!("no node of this cluster could hold it: {message}"),
        };
    }
    if room {
        return Error::NoRoom(format!("after {seconds} s: {message}"));
    }
    Error::Unavailable {
        operation: "start the pod",
        message: format!("not done after {seconds} s: {message}"),
    }
}

/// How long the API server may take for the first of a sandbox.
const ANSWER: Duration = Duration::from_secs(5);

fn foreign(spec: &SandboxSpec) -> Error {
    Error::Refused {
        operation: "create the pod",
        message: format!("{} belongs to another installation", labels::name(spec.sandbox)),
    }
}
