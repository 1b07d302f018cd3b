//! What the command line says about a Kubernetes cluster.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context as _;
use assay_engine::kubernetes::{
    Access, BeaconAt, GpuNames, Images, PodOptions, Reach, Registries, Settings, Toleration,
};

use super::builds::BuildArgs;

/// Where sandboxes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    /// Docker or Podman.
    Containers,
    /// A Kubernetes cluster.
    Kubernetes,
}

/// How runner and proxy control of a pod are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReachKind {
    /// The pod's own address where it answers, else port-forward.
    Probe,
    /// The pod's own address.
    Direct,
    /// Through the API server.
    Forward,
}

/// For `--engine kubernetes`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct ClusterArgs {
    /// A kubeconfig; else the cluster that this runs in, else KUBECONFIG, else ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of the sandboxes.
    #[arg(
        long,
        env = "ASSAY_NAMESPACE",
        default_value = "assay-sandboxes",
        value_name = "NAME"
    )]
    pub namespace: String,
    /// Our image that writes packet rules and brings the runner.
    #[arg(long, env = "ASSAY_INIT_IMAGE", value_name = "IMAGE")]
    pub init_image: Option<String>,
    /// Our image of the egress proxy.
    #[arg(long, env = "ASSAY_PROXY_IMAGE", value_name = "IMAGE")]
    pub proxy_image: Option<String>,
    /// Where images of a host are looked up, as nodes do: docker.io=http://10.0.0.5:5000.
    #[arg(
        long = "mirror",
        env = "ASSAY_MIRRORS",
        value_delimiter = ',',
        value_name = "HOST=URL"
    )]
    pub mirrors: Vec<String>,
    /// How runner and proxy control are reached.
    #[arg(long, env = "ASSAY_REACH", value_enum, default_value = "probe")]
    pub reach: ReachKind,
    /// What proves that network policies follow the phase of a sandbox: a Service, an address, or `none`.
    #[arg(
        long,
        env = "ASSAY_BEACON",
        default_value = "assay-system/beacon",
        value_name = "NAMESPACE/SERVICE"
    )]
    pub beacon: BeaconAt,
    /// A runtime class for sandboxes, e.g. gvisor.
    #[arg(long, env = "ASSAY_RUNTIME_CLASS", value_name = "NAME")]
    pub runtime_class: Option<String>,
    /// Give each pod a user namespace.
    #[arg(long, env = "ASSAY_USER_NAMESPACE")]
    pub user_namespace: bool,
    /// Nodes for sandboxes, by label.
    #[arg(
        long = "node-selector",
        env = "ASSAY_NODE_SELECTOR",
        value_delimiter = ',',
        value_name = "KEY=VALUE"
    )]
    pub node_selector: Vec<String>,
    /// A taint that is no obstacle, whatever its value.
    #[arg(
        long = "toleration",
        env = "ASSAY_TOLERATIONS",
        value_delimiter = ',',
        value_name = "KEY"
    )]
    pub tolerations: Vec<String>,
    /// Start the proxy of each pod as a native sidecar, before main instead of beside it; this takes a second more.
    #[arg(long, env = "ASSAY_NATIVE_SIDECAR")]
    pub native_sidecar: bool,
    /// The priority class of sandboxes.
    #[arg(long, env = "ASSAY_PRIORITY_CLASS", value_name = "NAME")]
    pub priority_class: Option<String>,
    /// A Secret with which nodes pull.
    #[arg(
        long = "pull-secret",
        env = "ASSAY_PULL_SECRETS",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub pull_secrets: Vec<String>,
    /// CPU that is reserved for a task, in percent of its limit.
    #[arg(long, env = "ASSAY_CPU_REQUEST_PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub cpu_request_percent: u64,
    /// Devices of a node that the container of each task gets: nvidia.com/gpu=1.
    #[arg(
        long = "device",
        env = "ASSAY_DEVICES",
        value_delimiter = ',',
        value_name = "NAME=COUNT"
    )]
    pub devices: Vec<String>,
    /// What the cluster calls the GPUs that tasks ask for (`gpus`), e.g. nvidia.com/gpu; without it such tasks are refused.
    #[arg(long, env = "ASSAY_GPU_RESOURCE", value_name = "NAME")]
    pub gpu_resource: Option<String>,
    /// The label of nodes whose value is one of a task's `gpu_types`; without it tasks that name types are refused.
    #[arg(
        long,
        env = "ASSAY_GPU_TYPE_LABEL",
        value_name = "KEY",
        requires = "gpu_resource"
    )]
    pub gpu_type_label: Option<String>,
    /// Sandboxes that may wait for a node at the same time; while so many do, no new run is taken.
    #[arg(long, env = "ASSAY_MOST_WAITING", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub most_waiting: u32,
    /// Hours after which the cluster ends a sandbox by itself.
    #[arg(long, env = "ASSAY_POD_LIFETIME_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=720))]
    pub pod_lifetime_hours: u64,
    /// Image builds.
    #[command(flatten)]
    pub builds: BuildArgs,
}

impl ClusterArgs {
    /// The engine's settings, for an installation that is not known yet.
    ///
    /// # Errors
    /// An image of ours is not named, or a pair is none.
    pub fn settings(self) -> anyhow::Result<Settings> {
        Ok(Settings {
            access: Access {
                kubeconfig: self.kubeconfig,
                context: self.context,
            },
            namespace: self.namespace,
            owner: String::new(),
            images: Images {
                init: self
                    .init_image
                    .context("--engine kubernetes needs --init-image")?,
                proxy: self
                    .proxy_image
                    .context("--engine kubernetes needs --proxy-image")?,
            },
            registries: Registries {
                mirrors: pairs(&self.mirrors)?,
                credentials: self.builds.logins()?,
            },
            reach: match self.reach {
                ReachKind::Probe => Reach::Probe,
                ReachKind::Direct => Reach::Direct,
                ReachKind::Forward => Reach::Forward,
            },
            beacon: self.beacon,
            most_waiting: self.most_waiting,
            pods: PodOptions {
                runtime_class: self.runtime_class,
                user_namespace: self.user_namespace,
                node_selector: pairs(&self.node_selector)?,
                tolerations: self.tolerations.iter().map(|key| exists(key)).collect(),
                native_sidecar: self.native_sidecar,
                priority_class: self.priority_class,
                pull_secrets: self.pull_secrets,
                cpu_request_percent: self.cpu_request_percent,
                devices: counts(&self.devices)?,
                gpus: gpus(self.gpu_resource, self.gpu_type_label)?,
                lifetime: Duration::from_hours(self.pod_lifetime_hours),
            },
            builds: self.builds.settings()?,
        })
    }
}

fn pairs(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text
            .split_once('=')
            .with_context(|| format!("{text:?} is no pair; want KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}

fn counts(given: &[String]) -> anyhow::Result<BTreeMap<String, u64>> {
    let count = |(name, text): (String, String)| {
        let count: u64 = text
            .parse()
            .with_context(|| format!("--device {name}={text} has no whole number"))?;
        Ok((name, count))
    };
    pairs(given)?.into_iter().map(count).collect()
}

/// A name without a domain would be a resource of Kubernetes' own.
fn gpus(resource: Option<String>, type_label: Option<String>) -> anyhow::Result<Option<GpuNames>> {
    let Some(resource) = resource else {
        return Ok(None);
    };
    anyhow::ensure!(
        resource.contains('/'),
        "--gpu-resource {resource:?} is no device of a node; want DOMAIN/NAME, e.g. nvidia.com/gpu"
    );
    Ok(Some(GpuNames { resource, type_label }))
}

fn exists(key: &str) -> Toleration {
    Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cmd::{Arguments, Command};

    fn settings(more: &[&str]) -> anyhow::Result<assay_engine::kubernetes::Settings> {
        let mut words = vec!["assay-screener", "run", "--api", "http://x", "--key-file", "k"];
        words.extend(more);
        let Command::Run(arguments) = Arguments::parse_from(words).command;
        arguments.cluster.settings()
    }

    #[test]
    fn the_command_line_becomes_settings() {
        let settings = settings(&[
            "--init-image",
            "r/init@sha256:1",
            "--proxy-image",
            "r/proxy@sha256:2",
            "--mirror",
            "docker.io=http://r:5000",
            "--node-selector",
            "pool=tasks",
            "--toleration",
            "tasks",
            "--device",
            "nvidia.com/gpu=1",
            "--gpu-resource",
            "nvidia.com/gpu",
            "--gpu-type-label",
            "nvidia.com/gpu.product",
        ])
        .unwrap();
        assert_eq!(settings.namespace, "assay-sandboxes");
        assert_eq!(settings.beacon, assay_engine::kubernetes::BeaconAt::default());
        assert_eq!(settings.registries.mirrors["docker.io"], "http://r:5000");
        assert_eq!(settings.pods.node_selector["pool"], "tasks");
        assert_eq!(settings.pods.devices["nvidia.com/gpu"], 1);
        let gpus = settings.pods.gpus.unwrap();
        assert_eq!(gpus.resource, "nvidia.com/gpu");
        assert_eq!(gpus.type_label.as_deref(), Some("nvidia.com/gpu.product"));
        assert_eq!(settings.pods.tolerations[0].key.as_deref(), Some("tasks"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = settings(&[]).unwrap_err().to_string();
        assert!(error.contains("--init-image"), "{error}");
        let error =
            settings(&["--init-image", "a", "--proxy-image", "b", "--mirror", "docker.io"]).unwrap_err();
        assert!(error.to_string().contains("docker.io"), "{error}");
        let error =
            settings(&["--init-image", "a", "--proxy-image", "b", "--device", "gpu=some"]).unwrap_err();
        assert!(error.to_string().contains("--device gpu=some"), "{error}");
        let bare = ["--init-image", "a", "--proxy-image", "b", "--gpu-resource", "gpu"];
        let error = settings(&bare).unwrap_err().to_string();
        assert!(error.contains("--gpu-resource \"gpu\""), "{error}");
    }
}
