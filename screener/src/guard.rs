//! Before runs are taken: does the second wall of a cluster stand? Admission by dry runs, network policies by the beacon, seen
//! from a sandbox that serves no run. A wall that is missing is refused, unless an operator has said that it may be.

use std::{collections::BTreeSet, time::Duration};

use assay_core::{digest::Digest, phase::EgressPhase};
use assay_engine::{
    Beacon, Engine as _, Error,
    kubernetes::{BeaconAt, Kubernetes, Settings},
};
use tokio::time::{Instant, sleep};

use crate::trial::{SMALL, Trial};

/// A wall that a cluster itself has to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Wall {
    /// The admission policy in front of the sandboxes' namespace.
    Admission,
    /// Network policies that are enforced.
    NetworkPolicies,
}

/// What network policies do, seen from a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforced {
    /// They open the port of the phase and no other.
    Yes(Duration),
    /// A port that they close answers.
    No(Beacon),
    /// The port that they open does not answer, so nothing is shown.
    Unknown(Beacon),
}

/// Sees that each wall stands that is not accepted as missing. `name` is the worker's: what a former life of it has left
/// is removed.
///
/// # Errors
/// [`Error::Refused`] where a wall does not stand; a transient one where that could not be seen.
pub async fn walls(
    settings: &Settings,
    installation: &str,
    name: &str,
    accepted: &BTreeSet<Wall>,
) -> Result<(), Error> {
    if [Wall::Admission, Wall::NetworkPolicies]
        .iter()
        .all(|wall| accepted.contains(wall))
    {
        return Ok(());
    }
    let settings = Settings {
        owner: owner(installation, name),
        ..settings.clone()
    };
    let engine = Kubernetes::connect(settings.clone()).await?;
    if !accepted.contains(&Wall::Admission) {
        admission(&engine, &settings.namespace).await?;
    }
    if !accepted.contains(&Wall::NetworkPolicies) {
        if settings.beacon == BeaconAt::Nowhere {
            return Err(refused(format!(
                "without a beacon nothing shows that network policies are enforced; name it (--beacon), or {}",
                accept("network-policies")
            )));
        }
        for left in engine.list().await? {
            engine.destroy(&left.name).await?;
        }
        policies(&engine, &settings).await?;
    }
    Ok(())
}

async fn admission(engine: &Kubernetes, namespace: &str) -> Result<(), Error> {
    let gate = engine.gate().await?;
    if let Err(words) = gate.ours {
        return Err(Error::Unavailable {
            operation: OPERATION,
            message: format!("the cluster does not let a sandbox into namespace {namespace}: {words}"),
        });
    }
    if gate.let_in.is_empty() {
        return Ok(());
    }
    Err(refused(format!(
        "no admission policy guards namespace {namespace}: a pod with {} would be let in. Apply manifests/base and label the \
         namespace assay.dev/sandboxes=true, or {}",
        gate.let_in.join(", with "),
        accept("admission")
    )))
}

async fn policies(engine: &Kubernetes, settings: &Settings) -> Result<(), Error> {
    let trial = Trial::start(engine, &settings.images.proxy, EgressPhase::Agent, SMALL).await?;
    let seen = enforced(&trial, EgressPhase::Agent).await;
    trial.end().await?;
    match seen? {
        Some(Enforced::Yes(after)) => {
            tracing::info!(milliseconds = after.as_millis(), "network policies are enforced");
            Ok(())
        }
        Some(Enforced::No(beacon)) => Err(refused(format!(
            "this cluster does not enforce NetworkPolicies in namespace {}: a sandbox in phase agent reaches {}, which they \
             close. Use a network that enforces them and apply manifests/base, or {}",
            settings.namespace,
            beacon.closed,
            accept("network-policies")
        ))),
        Some(Enforced::Unknown(beacon)) => Err(Error::Unavailable {
            operation: OPERATION,
            message: format!(
                "the beacon does not answer at {}, so nothing shows that network policies are enforced",
                beacon.open
            ),
        }),
        None => Ok(()),
    }
}

/// Looks at the beacon until the policies of the phase are in force, or for too long. `None` where there is no beacon.
///
/// # Errors
/// The engine or the proxy does not answer.
pub async fn enforced(trial: &Trial<'_, Kubernetes>, phase: EgressPhase) -> Result<Option<Enforced>, Error> {
    let Some(beacon) = trial.set_phase(phase).await? else {
        return Ok(None);
    };
    let begun = Instant::now();
    let (mut walled, mut dark) = (0, 0);
    loop {
        let [open, closed] = trial.reaches([beacon.open, beacon.closed], ONE_DIAL).await?;
        walled = if open && !closed { walled + 1 } else { 0 };
        dark = if open || closed { 0 } else { dark + 1 };
        let is_late = begun.elapsed() > PATIENCE;
        if walled == LOOKS {
            return Ok(Some(Enforced::Yes(begun.elapsed())));
        } else if closed && is_late {
            return Ok(Some(Enforced::No(beacon)));
        } else if dark >= LOOKS && is_late || begun.elapsed() > PATIENCE * 2 {
            return Ok(Some(Enforced::Unknown(beacon)));
        }
        sleep(AGAIN).await;
    }
}

/// Not the installation's: its reconciler removes what it does not know.
fn owner(installation: &str, name: &str) -> String {
    let digest = Digest::of(format!("{installation}/{name}").as_bytes()).hex();
    format!("walls-{}", digest.get(..16).unwrap_or_default())
}

fn accept(wall: &str) -> String {
    format!("accept that it is missing (--accept-missing {wall})")
}

fn refused(message: String) -> Error {
    Error::Refused {
        operation: OPERATION,
        message,
    }
}

const OPERATION: &str = "look at the walls of the cluster";
/// A policy drops in silence; who answers is near.
const ONE_DIAL: Duration = Duration::from_secs(1);
/// So many in a row have to see them in force, or nobody at all: one connection may fail for another reason.
const LOOKS: u32 = 2;
const AGAIN: Duration = Duration::from_millis(100);
/// Policies may come a moment after the pod, on a busy node ten seconds and more.
const PATIENCE: Duration = Duration::from_secs(30);
