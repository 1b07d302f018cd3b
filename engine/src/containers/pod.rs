//! What each container of a sandbox looks like. Pure: no engine is asked here.

use std::collections::HashMap;

use assay_core::egress::{PROXY_UID, port};
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    PortBinding, RestartPolicy, RestartPolicyNameEnum,
};

use super::labels::{self, Identity, Owner, Role, labels};
use crate::{
    ImageRef, Resources, ServiceSpec,
    labels::SERVICE,
    service,
    shape::{LOW_PORTS, MAIN_CAPABILITIES, hostname, signed},
};

/// The platform's own volume in each container.
pub(super) const OUR_VOLUME: &str = "/assay";

/// What init needs to write the rules and to prove them as another user; it drops all of it before it holds.
const INIT_CAPABILITIES: [&str; 3] = ["NET_ADMIN", "SETGID", "SETUID"];

const MIB: i64 = 1 << 20;

/// The sandbox whose containers are described.
#[derive(Debug)]
pub(super) struct Pod<'a> {
    pub owner: &'a Owner,
    pub identity: Identity,
}

/// What main is made from.
#[derive(Debug)]
pub(super) struct Task<'a> {
    pub image: &'a ImageRef,
    pub limits: &'a Resources,
    /// The image brings a health check.
    pub healthcheck: bool,
}

impl Pod<'_> {
    /// The holder of the network namespace, with the published ports. All in it share its file of host names.
    pub(super) fn init(&self, image: &str, services: &[ServiceSpec]) -> ContainerCreateBody {
        let ports = [port::RUNNER, port::PROXY].map(|port| format!("{port}/tcp"));
        let bindings = ports.clone().map(|port| {
            let ephemeral = PortBinding {
                host_ip: Some("127.0.0.1".to_owned()),
                host_port: Some(String::new()),
            };
            (port, Some(vec![ephemeral]))
        });
        ContainerCreateBody {
            // Containers that share this network namespace share its host name.
            hostname: Some(hostname(self.identity.sandbox)),
            image: Some(image.to_owned()),
            user: Some("0:0".to_owned()),
            exposed_ports: Some(ports.to_vec()),
            host_config: Some(HostConfig {
                cap_add: Some(INIT_CAPABILITIES.map(str::to_owned).to_vec()),
                dns: Some(vec!["127.0.0.1".to_owned()]),
                dns_search: Some(vec![".".to_owned()]),
                extra_hosts: Some(host_names(services)).filter(|names| !names.is_empty()),
                port_bindings: Some(HashMap::from(bindings)),
                sysctls: Some(HashMap::from([(LOW_PORTS.0.to_owned(), LOW_PORTS.1.to_owned())])),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                memory: Some(64 * MIB),
                memory_swap: Some(64 * MIB),
                pids_limit: Some(64),
                ..self.host(None)
            }),
            ..self.container(Role::Init)
        }
    }

    /// The egress proxy, inside of init's network namespace.
    pub(super) fn proxy(&self, image: &str, init: &str) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(image.to_owned()),
            user: Some(format!("{PROXY_UID}:{PROXY_UID}")),
            host_config: Some(HostConfig {
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                memory: Some(256 * MIB),
                memory_swap: Some(256 * MIB),
                pids_limit: Some(256),
                ..self.host(Some(init))
            }),
            ..self.container(Role::Proxy)
        }
    }

    /// The task's image under the runner, inside of init's network namespace.
    pub(super) fn main(&self, task: &Task<'_>, init: &str, disk_limit: bool) -> ContainerCreateBody {
        let limits = task.limits;
        let size = || HashMap::from([("size".to_owned(), limits.disk_bytes.to_string())]);
        ContainerCreateBody {
            image: Some(task.image.0.clone()),
            user: Some("0:0".to_owned()),
            entrypoint: Some(
                ["/assay/runner", "serve", "--config", "/assay/runner.json"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            cmd: Some(Vec::new()),
            healthcheck: task.healthcheck.then(no_healthcheck),
            host_config: Some(HostConfig {
                cap_add: Some(MAIN_CAPABILITIES.map(str::to_owned).to_vec()),
                // The runner makes a user namespace and then loads its own filter; only the runner runs unfiltered.
                security_opt: Some(vec!["seccomp=unconfined".to_owned()]),
                nano_cpus: Some(signed(limits.cpu_milli.saturating_mul(1_000_000))),
                memory: Some(signed(limits.memory_bytes)),
                memory_swap: Some(signed(limits.memory_bytes)),
                pids_limit: Some(signed(limits.pids)),
                storage_opt: disk_limit.then(size),
                ..self.host(Some(init))
            }),
            ..self.container(Role::Main)
        }
    }

    /// A container beside main: a runner of its own, and never more rights than at its start.
    pub(super) fn service(
        &self,
        service: &ServiceSpec,
        healthcheck: bool,
        init: &str,
        disk_limit: bool,
    ) -> ContainerCreateBody {
        let task = Task {
            image: &service.image,
            limits: &service.resources,
            healthcheck,
        };
        let mut body = self.main(&task, init, disk_limit);
        body.entrypoint = Some(service::COMMAND.map(str::to_owned).to_vec());
        let mut all = labels(self.owner, &self.identity, Role::Service);
        all.insert(SERVICE.to_owned(), service.name().to_owned());
        body.labels = Some(all);
        if let Some(host) = &mut body.host_config {
            let mount = |(path, bytes): &(String, u64)| (path.clone(), format!("size={bytes},mode=1777"));
            let mounts: HashMap<_, _> = service.tmpfs.iter().map(mount).collect();
            host.tmpfs = Some(mounts).filter(|mounts| !mounts.is_empty());
            host.security_opt
                .get_or_insert_default()
                .push("no-new-privileges".to_owned());
        }
        body
    }

    fn container(&self, role: Role) -> ContainerCreateBody {
        ContainerCreateBody {
            labels: Some(labels(self.owner, &self.identity, role)),
            ..ContainerCreateBody::default()
        }
    }

    /// What all of our containers have in common. Outside of a namespace to join: the default bridge.
    fn host(&self, init: Option<&str>) -> HostConfig {
        HostConfig {
            cap_drop: Some(vec!["ALL".to_owned()]),
            network_mode: Some(init.map_or("bridge".to_owned(), |id| format!("container:{id}"))),
            mounts: Some(vec![self.our_volume()]),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            auto_remove: Some(false),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([("max-size".to_owned(), "1m".to_owned())])),
            }),
            ..HostConfig::default()
        }
    }

    /// Without a name, so it goes with its container; labelled, so it is found where it did not.
    fn our_volume(&self) -> Mount {
        Mount {
            typ: Some(MountType::VOLUME),
            target: Some(OUR_VOLUME.to_owned()),
            volume_options: Some(MountVolumeOptions {
                labels: Some(labels::of_volume(self.owner, &self.identity)),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        }
    }
}

/// Everybody by name at 127.0.0.1, main too.
fn host_names(services: &[ServiceSpec]) -> Vec<String> {
    let main = (!services.is_empty()).then_some(Role::Main.name());
    let names = main.into_iter().chain(services.iter().map(ServiceSpec::name));
    names.map(|name| format!("{name}:127.0.0.1")).collect()
}

/// An image's own health check would run beside the runner, outside of its confinement.
fn no_healthcheck() -> HealthConfig {
    HealthConfig {
        test: Some(vec!["NONE".to_owned()]),
        ..HealthConfig::default()
    }
}

#[cfg(test)]
mod tests;
