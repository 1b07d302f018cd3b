//! How much more the cluster has room for: what may wait for a node at the same time, and what quotas leave.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use futures_util::future::join;
use k8s_openapi::{
    api::core::v1::{Pod, ResourceQuota, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{Api, api::PartialObjectMeta, runtime::watcher};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{
    Kubernetes,
    fault::fault,
    kept::{Kept, Trouble},
    labels, pod,
    quantity::thousandths,
};
use crate::{Error, Resources};

/// Sandboxes of this process that wait for a node.
#[derive(Debug)]
pub(super) struct Queue {
    most: u32,
    free: Semaphore,
}

impl Queue {
    /// At most so many at the same time.
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            free: Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)),
        }
    }

    /// A place in it, to be kept until the pod has its node. Nothing was tried where none is free in time.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Error> {
        let most = self.most;
        let full = || Error::NoRoom(format!("{most} sandboxes wait for a node already"));
        let entered = tokio::time::timeout_at(deadline, self.free.acquire()).await;
        entered.map_err(|_| full())?.map_err(|_| full())
    }
}

/// What stands in the way of one more sandbox: pods of ours that wait for a node, and quotas.
pub(super) struct Crowd {
    waiting: Kept<PartialObjectMeta<Pod>>,
    quotas: Kept<ResourceQuota>,
}

impl Crowd {
    /// Follows both from here on.
    fn of(engine: &Kubernetes) -> Self {
        let waiting = watcher::Config::default()
            .labels(&labels::selector(&engine.owner))
            .fields("spec.nodeName=,status.phase=Pending");
        let pods = Api::<PartialObjectMeta<Pod>>::namespaced(engine.client.clone(), &engine.namespace);
        let quotas = Api::<ResourceQuota>::namespaced(engine.client.clone(), &engine.namespace);
        Self {
            waiting: Kept::by(watcher(pods, waiting)),
            quotas: Kept::by(watcher(quotas, watcher::Config::default())),
        }
    }
}

/// How many more sandboxes of that size may be asked for now.
pub(super) async fn room(engine: &Kubernetes, slot: &Resources) -> Result<u32, Error> {
    if engine.silent.load(Ordering::Relaxed) {
        let version = engine.client.apiserver_version().await;
        version.map_err(|error| fault("look for room", &error))?;
        engine.silent.store(false, Ordering::Relaxed);
    }
    let crowd = engine.crowd.get_or_init(|| Crowd::of(engine));
    let away = |trouble: Trouble| Error::Unavailable {
        operation: "look for room",
        message: trouble.message,
    };
    let (waiting, quotas) = join(crowd.waiting.all(), crowd.quotas.all()).await;
    let waiting = u32::try_from(waiting.map_err(away)?.len()).unwrap_or(u32::MAX);
    let quotas = match quotas {
        // The rights of an older installation. A quota then speaks when a pod is made.
        Err(trouble) if trouble.code == Some(403) => Vec::new(),
        quotas => quotas.map_err(away)?,
    };
    let needs = pod::needs(slot, &engine.options);
    let left = quotas.iter().map(|quota| left_by(quota, &needs));
    Ok(left
        .min()
        .unwrap_or(u32::MAX)
        .min(engine.queue.most.saturating_sub(waiting)))
}

/// How many pods with these needs a quota leaves. What it counts and a pod does not need is no obstacle.
fn left_by(quota: &ResourceQuota, needs: &[ResourceRequirements; 3]) -> u32 {
    let Some(status) = &quota.status else {
        return u32::MAX;
    };
    let of = |amounts: &Option<BTreeMap<String, Quantity>>, key: &str| {
        amounts
            .as_ref()
            .and_then(|amounts| thousandths(&amounts.get(key)?.0))
    };
    let fits = |key: &String| {
        let (hard, used) = (of(&status.hard, key)?, of(&status.used, key).unwrap_or_default());
        let need = need(needs, key).filter(|need| *need > 0)?;
        u32::try_from(hard.saturating_sub(used) / need).ok()
    };
    let keys = status.hard.iter().flat_map(BTreeMap::keys);
    keys.filter_map(fits).min().unwrap_or(u32::MAX)
}

/// What a pod takes of what a quota counts: the sum of its containers, or its init container where that is more.
fn need([init, proxy, main]: &[ResourceRequirements; 3], key: &str) -> Option<u128> {
    if matches!(key, "pods" | "count/pods") {
        return Some(1_000);
    }
    let (limits, name) = match key.split_once('.') {
        Some(("limits", name)) => (true, name),
        Some(("requests", name)) => (false, name),
        // As quotas name requests too.
        _ => (false, key),
    };
    let of = |all: &ResourceRequirements| {
        let amounts = if limits { &all.limits } else { &all.requests };
        thousandths(&amounts.as_ref()?.get(name)?.0)
    };
    let together = of(proxy).unwrap_or_default() + of(main)?;
    Some(of(init).map_or(together, |alone| alone.max(together)))
}

/// Whether a quota could never hold what was refused, in the API server's words: `exceeded quota: q, requested:
/// requests.cpu=64, used: requests.cpu=0, limited: requests.cpu=4`.
pub(super) fn never_fits(words: &str) -> bool {
    let amounts = |label: &str| -> BTreeMap<&str, u128> {
        let Some((_, rest)) = words.split_once(&format!("{label}: ")) else {
            return BTreeMap::new();
        };
        let rest = rest.split(", ").next().unwrap_or_default();
        let pair = |pair: &'_ str| {
            let (name, amount) = pair.split_once('=')?;
            Some((name.len(), thousandths(amount.trim())?))
        };
        let pairs = rest.split(',');
        pairs
            .filter_map(|text| pair(text).map(|(end, amount)| (text.get(..end).unwrap_or_default(), amount)))
            .collect()
    };
    let limited = amounts("limited");
    amounts("requested")
        .iter()
        .any(|(name, asked)| limited.get(name).is_some_and(|most| asked > most))
}

/// Whether the scheduler says that no node could hold the pod even without all others: taking something away would not
/// help on any of them.
pub(super) fn no_node_could(words: &str) -> bool {
    let Some((_, preemption)) = words.split_once("preemption: 0/") else {
        return wrong_nodes(words);
    };
    let nodes = preemption.split(' ').next().unwrap_or_default();
    preemption.contains(&format!("{nodes} Preemption is not helpful for scheduling"))
}

/// Where a pod's priority class takes nothing away from others, the scheduler does not say what that would help. Nodes that
/// the pod's own labels leave out it could never have.
fn wrong_nodes(words: &str) -> bool {
    let Some((nodes, reasons)) = words
        .strip_prefix("0/")
        .and_then(|rest| rest.split_once(" nodes are available: "))
    else {
        return false;
    };
    let wrong = reasons
        .split([',', '.'])
        .filter_map(|reason| {
            reason
                .trim()
                .strip_suffix(" node(s) didn't match Pod's node affinity/selector")
        })
        .filter_map(|count| count.parse::<u32>().ok());
    nodes.parse() == Ok(wrong.sum::<u32>())
}

#[cfg(test)]
mod tests;
