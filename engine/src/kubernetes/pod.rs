//! What the pod of a sandbox looks like. Pure: no cluster is asked here.

use std::collections::BTreeMap;

use assay_core::{
    egress::{PROXY_UID, port},
    task::plan::Gpus,
};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, EmptyDirVolumeSource, LocalObjectReference, Pod,
        PodDNSConfig, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource,
        SecurityContext, Sysctl, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    files::{AT_FILES, AT_MAIN, AT_PROXY, INIT_CONFIG, at_service},
    gpu,
    labels::{self, Identity, Owner},
    service,
    settings::PodOptions,
};
use crate::{
    Resources, ServiceSpec,
    shape::{LOW_PORTS, MAIN_CAPABILITIES, hostname, signed},
};

/// What init needs to give the proxy its files, to write the rules and to prove them as another user.
const INIT_CAPABILITIES: [&str; 4] = ["CHOWN", "NET_ADMIN", "SETGID", "SETUID"];

/// The names of the containers.
pub(super) const INIT: &str = "init";
pub(super) const PROXY: &str = "proxy";
pub(super) const MAIN: &str = "main";

const MIB: u64 = 1 << 20;
/// What the proxy may use. It is rarely busy, so little CPU is reserved for it.
const PROXY_MEMORY: u64 = 256 * MIB;
pub(super) const PROXY_STATE: u64 = 512 * MIB;
const PROXY_CPU_MILLI: (u64, u64) = (50, 1_000);
/// The runner, its configuration and the trust bundles.
pub(super) const MAIN_VOLUME: u64 = 64 * MIB;
/// Between what a sandbox may write and where the kubelet evicts: room for logs and a reward beside a full disk.
const DISK_MARGIN: u64 = 128 * MIB;
/// Between SIGTERM and SIGKILL, seconds: the proxy hands out its ledger, which may take it 25.
const GRACE: i64 = 30;

/// What a pod is made from.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub owner: &'a Owner,
    pub identity: Identity,
    pub namespace: &'a str,
    /// Init, proxy and main, by digest.
    pub images: [&'a str; 3],
    pub limits: &'a Resources,
    pub gpus: &'a Gpus,
    /// The containers beside main, with their images by digest.
    pub services: &'a [(ServiceSpec, String)],
    pub phase: assay_core::phase::EgressPhase,
    pub options: &'a PodOptions,
    pub annotations: BTreeMap<String, String>,
}

impl Plan<'_> {
    pub(super) fn pod(&self) -> Pod {
        let mut metadata = labels::metadata(self.owner, &self.identity, self.namespace);
        metadata
            .labels
            .get_or_insert_default()
            .extend([labels::phase(self.phase)]);
        metadata.annotations = Some(self.annotations.clone());
        Pod {
            metadata,
            spec: Some(self.spec()),
            status: None,
        }
    }

    fn spec(&self) -> PodSpec {
        let options = self.options;
        let some = |map: &BTreeMap<String, String>| Some(map.clone()).filter(|map| !map.is_empty());
        let secrets: Vec<_> = options.pull_secrets.iter().map(|name| reference(name)).collect();
        PodSpec {
            init_containers: Some(self.starters()),
            containers: self.containers(),
            host_aliases: service::names(self.services),
            volumes: Some(self.volumes()),
            restart_policy: Some("Never".to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            active_deadline_seconds: Some(signed(options.lifetime.as_secs())),
            termination_grace_period_seconds: Some(GRACE),
            hostname: Some(hostname(self.identity.sandbox)),
            security_context: Some(low_ports()),
            dns_policy: Some("None".to_owned()),
            dns_config: Some(PodDNSConfig {
                nameservers: Some(vec!["127.0.0.1".to_owned()]),
                ..PodDNSConfig::default()
            }),
            host_users: options.user_namespace.then_some(false),
            runtime_class_name: options.runtime_class.clone(),
            node_selector: some(&options.node_selector),
            affinity: gpu::affinity(self.gpus, options),
            tolerations: Some(gpu::tolerations(self.gpus, options)).filter(|list| !list.is_empty()),
            priority_class_name: options.priority_class.clone(),
            image_pull_secrets: Some(secrets).filter(|list| !list.is_empty()),
            ..PodSpec::default()
        }
    }

    fn starters(&self) -> Vec<Container> {
        let sidecar = self.options.native_sidecar.then(|| sidecar(self.proxy()));
        std::iter::once(self.init()).chain(sidecar).collect()
    }

    fn containers(&self) -> Vec<Container> {
        let proxy = (!self.options.native_sidecar).then(|| self.proxy());
        let services = self
            .services
            .iter()
            .map(|(spec, image)| service::container(spec, image, self.options));
        proxy.into_iter().chain([self.main()]).chain(services).collect()
    }

    /// Puts the runner and the files in their places, writes the rules, proves them, ends.
    fn init(&self) -> Container {
        let own = [
            mount("files", AT_FILES, true),
            mount(MAIN, AT_MAIN, false),
            mount(PROXY, AT_PROXY, false),
        ];
        let services = self.services.iter().map(|(spec, _)| {
            let at = at_service(spec.name());
            mount(&spec.container(), &at, false)
        });
        Container {
            volume_mounts: Some(own.into_iter().chain(services).collect()),
            ..init_container(self.images[0])
        }
    }

    fn proxy(&self) -> Container {
        proxy_container(self.images[1])
    }

    fn main(&self) -> Container {
        Container {
            command: Some(
                ["/assay/runner", "serve", "--config", "/assay/runner.json"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            // A task's own setuid programs have to work.
            security_context: Some(under_the_runner(true)),
            resources: Some(main_needs(self.limits, self.gpus, self.options)),
            ports: Some(vec![control("runner-control", port::RUNNER)]),
            volume_mounts: Some(vec![mount(MAIN, "/assay", false)]),
            ..container(MAIN, self.images[2])
        }
    }

    fn volumes(&self) -> Vec<Volume> {
        let files = Volume {
            name: "files".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(labels::name(self.identity.sandbox)),
                default_mode: Some(0o400),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        };
        let services = self.services.iter().flat_map(|(spec, _)| service::volumes(spec));
        [
            files,
            empty(MAIN, MAIN_VOLUME, None),
            empty(PROXY, PROXY_STATE, None),
        ]
        .into_iter()
        .chain(services)
        .collect()
    }
}

/// A folder that goes with the pod; on the node's disk, or in memory.
pub(super) fn empty(name: &str, most: u64, medium: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(most.to_string())),
            medium: medium.map(str::to_owned),
        }),
        ..Volume::default()
    }
}

/// What the runner needs to confine what it starts. It loads a filter of its own; only it runs without.
pub(super) fn under_the_runner(setuid: bool) -> SecurityContext {
    SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        capabilities: Some(only(&MAIN_CAPABILITIES)),
        privileged: Some(false),
        allow_privilege_escalation: Some(setuid),
        seccomp_profile: Some(seccomp("Unconfined")),
        ..SecurityContext::default()
    }
}

/// What init, proxy and main of a sandbox of that size, without GPUs, reserve and may use: what quotas and schedulers count.
pub(super) fn needs(limits: &Resources, options: &PodOptions) -> [ResourceRequirements; 3] {
    [
        init_amounts(),
        proxy_amounts(),
        main_needs(limits, &Gpus::default(), options),
    ]
}

fn init_amounts() -> ResourceRequirements {
    amounts(&[("cpu", 50, 1_000), ("memory", 64 * MIB, 64 * MIB)])
}

fn proxy_amounts() -> ResourceRequirements {
    let (requested, limit) = PROXY_CPU_MILLI;
    amounts(&[
        ("cpu", requested, limit),
        ("memory", PROXY_MEMORY, PROXY_MEMORY),
        ("ephemeral-storage", PROXY_STATE, PROXY_STATE),
    ])
}

pub(super) fn main_amounts(limits: &Resources, options: &PodOptions) -> ResourceRequirements {
    let cpu = (limits.cpu_milli * options.cpu_request_percent / 100).max(1);
    let disk = limits.disk_bytes + DISK_MARGIN;
    amounts(&[
        ("cpu", cpu, limits.cpu_milli),
        ("memory", limits.memory_bytes, limits.memory_bytes),
        ("ephemeral-storage", disk, disk),
    ])
}

/// Main's amounts with the devices that it gets; services get none. A cluster wants both numbers of a device to be the same.
fn main_needs(limits: &Resources, gpus: &Gpus, options: &PodOptions) -> ResourceRequirements {
    let mut needs = main_amounts(limits, options);
    let devices = gpu::devices(gpus, options);
    for amounts in [&mut needs.requests, &mut needs.limits] {
        let devices = devices.iter();
        amounts
            .get_or_insert_default()
            .extend(devices.map(|(name, count)| (name.clone(), Quantity(count.to_string()))));
    }
    needs
}

/// Writes packet rules and proves them, wherever a proxy holds what may be reached.
pub(super) fn init_container(image: &str) -> Container {
    Container {
        args: Some(vec!["--config".to_owned(), INIT_CONFIG.to_owned()]),
        security_context: Some(SecurityContext {
            run_as_user: Some(0),
            run_as_group: Some(0),
            capabilities: Some(only(&INIT_CAPABILITIES)),
            ..strict()
        }),
        resources: Some(init_amounts()),
        ..container(INIT, image)
    }
}

/// The egress proxy, with its volume.
pub(super) fn proxy_container(image: &str) -> Container {
    Container {
        security_context: Some(SecurityContext {
            run_as_user: Some(i64::from(PROXY_UID)),
            run_as_group: Some(i64::from(PROXY_UID)),
            run_as_non_root: Some(true),
            capabilities: Some(only(&[])),
            ..strict()
        }),
        resources: Some(proxy_amounts()),
        ports: Some(vec![control("proxy-control", port::PROXY)]),
        volume_mounts: Some(vec![mount("proxy", "/assay", false)]),
        ..container(PROXY, image)
    }
}

/// An init container that runs on beside what comes after it, and that the kubelet starts again.
pub(super) fn sidecar(container: Container) -> Container {
    Container {
        restart_policy: Some("Always".to_owned()),
        ..container
    }
}

/// What all three have in common.
pub(super) fn container(name: &str, image: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        // The end of the log comes with the status: nobody has to ask the node for it.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// Read-only root, no way to more rights, the runtime's own filter.
pub(super) fn strict() -> SecurityContext {
    SecurityContext {
        privileged: Some(false),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        seccomp_profile: Some(seccomp("RuntimeDefault")),
        ..SecurityContext::default()
    }
}

pub(super) fn seccomp(kind: &str) -> SeccompProfile {
    SeccompProfile {
        type_: kind.to_owned(),
        localhost_profile: None,
    }
}

pub(super) fn only(added: &[&str]) -> Capabilities {
    let added: Vec<String> = added.iter().map(|&name| name.to_owned()).collect();
    Capabilities {
        drop: Some(vec!["ALL".to_owned()]),
        add: Some(added).filter(|list| !list.is_empty()),
    }
}

/// Requested and most; CPU in thousandths, the rest in bytes.
pub(super) fn amounts(all: &[(&str, u64, u64)]) -> ResourceRequirements {
    let amount = |name: &str, value: u64| {
        let unit = if name == "cpu" { "m" } else { "" };
        (name.to_owned(), Quantity(format!("{value}{unit}")))
    };
    ResourceRequirements {
        requests: Some(all.iter().map(|(name, asked, _)| amount(name, *asked)).collect()),
        limits: Some(all.iter().map(|(name, _, most)| amount(name, *most)).collect()),
        claims: None,
    }
}

pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn control(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

pub(super) fn reference(name: &str) -> LocalObjectReference {
    LocalObjectReference {
        name: name.to_owned(),
    }
}

fn low_ports() -> PodSecurityContext {
    let (name, value) = LOW_PORTS;
    let sysctl = Sysctl {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    PodSecurityContext {
        sysctls: Some(vec![sysctl]),
        ..PodSecurityContext::default()
    }
}

#[cfg(test)]
mod tests;
