//! Asks the cluster whether its admission policy stands in front of the sandboxes' namespace: by server-side dry runs of a pod
//! as the engine makes it, and of the same pod with one thing more. Nothing is made.

use assay_core::{
    clock::{Clock as _, SystemClock},
    egress::PROXY_UID,
    id::{AttemptId, RunId, SandboxId},
    phase::EgressPhase,
    task::plan::Gpus,
};
use futures_util::future::{join_all, try_join};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::PostParams;

use super::{
    Kubernetes,
    fault::{code, fault},
    labels::Identity,
    pod::Plan,
};
use crate::{Error, Resources};

/// What the cluster said to pods that nobody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// A sandbox as the engine makes it is let in; else the words of the refusal.
    pub ours: Result<(), String>,
    /// What else was let in, though it has more than a sandbox may have.
    pub let_in: Vec<&'static str>,
    /// How many such pods were tried.
    pub tried: usize,
}

/// One thing more than a sandbox may have.
type Mutation = (&'static str, fn(&mut Pod));

/// Each of these ends a wall: the packet rules, the proxy's user, the runner's filter, the border to the node.
const MORE: [Mutation; 6] = [
    ("the network of its node", |pod| {
        pod.spec.get_or_insert_default().host_network = Some(true);
    }),
    ("a service-account token", |pod| {
        pod.spec.get_or_insert_default().automount_service_account_token = Some(true);
    }),
    ("NET_ADMIN in its main container", |pod| {
        with_main(pod, |main| {
            let context = main.security_context.get_or_insert_default();
            let capabilities = context.capabilities.get_or_insert_default();
            capabilities
                .add
                .get_or_insert_default()
                .push("NET_ADMIN".to_owned());
        });
    }),
    ("the proxy's user in its main container", |pod| {
        with_main(pod, |main| {
            main.image = Some(foreign("main"));
            main.security_context.get_or_insert_default().run_as_user = Some(i64::from(PROXY_UID));
        });
    }),
    ("no system call filter and no runner", |pod| {
        with_main(pod, |main| main.command = Some(vec!["/bin/sh".to_owned()]));
    }),
    ("an init container that is not ours", |pod| {
        let spec = pod.spec.get_or_insert_default();
        if let Some(init) = spec.init_containers.iter_mut().flatten().next() {
            init.image = Some(foreign("init"));
        }
    }),
];

impl Kubernetes {
    /// What the gate of the sandboxes' namespace lets in.
    ///
    /// # Errors
    /// The cluster or the registry does not answer, or the cluster has no room for one more pod.
    pub async fn gate(&self) -> Result<Gate, Error> {
        let ours = try_join(
            self.lookup.find(&self.images.init),
            self.lookup.find(&self.images.proxy),
        );
        let (init, proxy) = ours.await?;
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(|error| Error::Unavailable {
            operation: "try the gate",
            message: error.to_string(),
        })?;
        let sandbox = SandboxId::new(SystemClock.now(), random);
        let plan = Plan {
            owner: &self.owner,
            identity: Identity {
                sandbox,
                run: RunId(sandbox.0),
                attempt: AttemptId(sandbox.0),
            },
            namespace: &self.namespace,
            images: [&init.pinned, &proxy.pinned, &proxy.pinned],
            limits: &SMALL,
            gpus: &Gpus::default(),
            services: &[],
            phase: EgressPhase::Agent,
            options: &self.options,
            annotations: std::collections::BTreeMap::new(),
        };
        let pod = plan.pod();
        let ours = self.would_take(&pod).await?;
        let tried = MORE.map(|(what, more)| {
            let mut pod = pod.clone();
            // The API server itself refuses a kernel setting for the node's network; the gate is what is asked.
            pod.spec.get_or_insert_default().security_context = None;
            more(&mut pod);
            async move { Ok::<_, Error>((what, self.would_take(&pod).await?)) }
        });
        let mut let_in = Vec::new();
        for answer in join_all(tried).await {
            let (what, taken) = answer?;
            if taken.is_ok() {
                let_in.push(what);
            }
        }
        Ok(Gate {
            ours,
            let_in,
            tried: MORE.len(),
        })
    }

    /// Would the cluster take this pod? Its words where it would not.
    async fn would_take(&self, pod: &Pod) -> Result<Result<(), String>, Error> {
        let how = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let Err(error) = self.pods.create(&how, pod).await else {
            return Ok(Ok(()));
        };
        match (fault("try the gate", &error), code(&error)) {
            (Error::Refused { message, .. }, Some(_)) => Ok(Err(message)),
            (fault, _) => Err(fault),
        }
    }
}

fn with_main(pod: &mut Pod, change: impl FnOnce(&mut Container)) {
    let containers = &mut pod.spec.get_or_insert_default().containers;
    if let Some(main) = containers.iter_mut().find(|one| one.name == super::pod::MAIN) {
        change(main);
    }
}

/// An image that nobody has, named as ours are.
fn foreign(name: &str) -> String {
    format!("registry.invalid/{name}@sha256:{}", "0".repeat(64))
}

/// Enough for a pod that is never made.
const SMALL: Resources = Resources {
    cpu_milli: 100,
    memory_bytes: 64 << 20,
    pids: 64,
    disk_bytes: 64 << 20,
};
