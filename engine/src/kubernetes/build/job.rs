//! What the Job of a build looks like, and the Secret that its first container reads. Pure.
//!
//! `fetch` (ours: presigned URL, credentials to pull) → `build` (nothing of the kind) → `push` (ours: credentials to push). Where steps may reach something, packet rules and a proxy come between the first two, and `push` is let
//! through as the proxy's user is.

use std::{collections::BTreeMap, time::Duration};

use assay_core::{
    control::build::{Base, FetchOrder, PushOrder, path},
    egress::PROXY_UID,
};
use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Container, EmptyDirVolumeSource, KeyToPath, PodSpec, PodTemplateSpec, Secret, SecretVolumeSource,
            SecurityContext, Volume,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use serde::Serialize;

use super::{
    super::{
        PodOptions,
        files::{self, AT_FILES, AT_PROXY},
        labels::Owner,
        pod::{
            PROXY_STATE, amounts, container, init_container, mount, only, proxy_container, reference,
            sidecar, strict,
        },
        settings::{Builds, Tool},
    },
    tool,
};
use crate::{
    BuildNetwork, BuildProxy, Error, ImageSpec,
    labels::{MANAGED_BY, OWNER, PHASE, ROLE},
    shape::signed,
};

/// The names of the containers.
pub(super) const FETCH: &str = "fetch";
pub(super) const BUILD: &str = "build";
pub(super) const PUSH: &str = "push";

/// Beside what a build may take: pulling our images, fetching, pushing, and a short wait for room.
const SLACK: Duration = Duration::from_mins(10);
/// How long a Job stays after its end: whoever asks in that time for the same image gets the same answer.
const KEPT: Duration = Duration::from_mins(5);
pub(super) const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Fetching and pushing stream; unpacking keeps a table of names.
const OWN_MEMORY: u64 = 192 * MIB;
/// What an archive may unpack to, and our program.
const CONTEXT: u64 = 5 * GIB;
const PROGRAM: u64 = 64 * MIB;

/// An image that is to be built.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub builds: &'a Builds,
    pub spec: &'a ImageSpec,
    pub options: &'a PodOptions,
    pub mirrors: &'a BTreeMap<String, String>,
    pub owner: &'a Owner,
    /// The Job's.
    pub name: String,
    /// The Secret's, if the Job is ours to make: a name of its own, since nodes may still know an earlier one's content.
    pub secret: String,
    /// By digest.
    pub program: String,
    pub tool_image: String,
    pub init: String,
    pub proxy: String,
    pub push_to: String,
    pub bases: Vec<Base>,
    pub memory_bytes: u64,
}

impl Order<'_> {
    /// The Job, suspended until its Secret is there.
    pub(super) fn job(&self) -> Result<Job, Error> {
        let limit = self.spec.timeout + SLACK;
        Ok(Job {
            metadata: self.metadata(),
            spec: Some(JobSpec {
                suspend: Some(true),
                backoff_limit: Some(0),
                active_deadline_seconds: Some(signed(limit.as_secs())),
                ttl_seconds_after_finished: i32::try_from(KEPT.as_secs()).ok(),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(self.labels()),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(self.pod()?),
                },
                ..JobSpec::default()
            }),
            status: None,
        })
    }

    /// What only `fetch` reads. It goes with its Job.
    pub(super) async fn secret(&self, job: &Job) -> Result<Secret, Error> {
        let archive = &self.spec.archive;
        let order = FetchOrder {
            url: archive.source.url().await?,
            digest: archive.digest,
            size_bytes: archive.size_bytes,
            bases: self.bases.clone(),
            mirrors: self.mirrors.clone(),
            bases_bytes: self.builds.most_image_bytes,
        };
        let mut data = BTreeMap::from([("order.json".to_owned(), ByteString(json(&order)?.into_bytes()))]);
        if let Some(proxy) = self.network() {
            data.extend(files::of_proxy(&proxy.files)?);
        }
        let owner = OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: self.name.clone(),
            uid: job.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        };
        Ok(Secret {
            metadata: ObjectMeta {
                name: secret_of(job),
                owner_references: Some(vec![owner]),
                ..self.metadata()
            },
            data: Some(data),
            immutable: Some(true),
            ..Secret::default()
        })
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.builds.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = vec![
            (OWNER, self.owner.0.clone()),
            (ROLE, "build".to_owned()),
            (MANAGED_BY, "assay".to_owned()),
        ];
        if self.network().is_some() {
            labels.push((PHASE, "build".to_owned()));
        }
        labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    fn pod(&self) -> Result<PodSpec, Error> {
        let options = self.options;
        let some = |map: &BTreeMap<String, String>| Some(map.clone()).filter(|map| !map.is_empty());
        let secrets: Vec<_> = options.pull_secrets.iter().map(|name| reference(name)).collect();
        Ok(PodSpec {
            init_containers: Some(self.before()?),
            containers: vec![self.push()?],
            volumes: Some(self.volumes()),
            restart_policy: Some("Never".to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(1),
            node_selector: some(&options.node_selector),
            tolerations: Some(options.tolerations.clone()).filter(|list| !list.is_empty()),
            image_pull_secrets: Some(secrets).filter(|list| !list.is_empty()),
            ..PodSpec::default()
        })
    }

    /// Everything but the push, one after the other; a proxy stays beside what comes after it.
    fn before(&self) -> Result<Vec<Container>, Error> {
        let mut all = vec![self.fetch()];
        if self.network().is_some() {
            all.push(Container {
                volume_mounts: Some(vec![
                    mount("files", AT_FILES, true),
                    mount("proxy", AT_PROXY, false),
                ]),
                ..init_container(&self.init)
            });
            all.push(sidecar(Container {
                // It holds no account that anybody fetches, and a Job is not complete before it has ended.
                args: Some(vec!["--grace-sec".to_owned(), "0".to_owned()]),
                ..proxy_container(&self.proxy)
            }));
        }
        all.push(self.build()?);
        Ok(all)
    }

    pub(super) fn network(&self) -> Option<&BuildProxy> {
        match &self.spec.network {
            BuildNetwork::Through(proxy) => Some(proxy),
            BuildNetwork::None => None,
        }
    }

    fn fetch(&self) -> Container {
        let mut mounts = vec![
            mount("bin", path::PROGRAM, false),
            mount("context", path::CONTEXT, false),
            mount("bases", path::BASES, false),
            mount("order", path::ORDER, true),
        ];
        if self.builds.pull_secret.is_some() {
            mounts.push(mount("pull", path::LOGIN, true));
        }
        Container {
            args: Some(vec!["fetch".to_owned()]),
            volume_mounts: Some(mounts),
            ..self.own(FETCH, tool::fetcher(self.builds.tool))
        }
    }

    fn push(&self) -> Result<Container, Error> {
        let order = PushOrder {
            image: self.push_to.clone(),
            mirrors: self.mirrors.clone(),
            most_bytes: self.builds.most_image_bytes,
        };
        let mut mounts = vec![mount("layout", path::LAYOUT, true)];
        if self.builds.push_secret.is_some() {
            mounts.push(mount("push", path::LOGIN, true));
        }
        Ok(Container {
            args: Some(vec!["push".to_owned(), json(&order)?]),
            volume_mounts: Some(mounts),
            ..self.own(PUSH, PROXY_UID)
        })
    }

    /// Our own program: no root, no rights. The proxy's user is the one that packet rules let through.
    fn own(&self, name: &str, user: u32) -> Container {
        Container {
            security_context: Some(SecurityContext {
                run_as_user: Some(i64::from(user)),
                run_as_group: Some(i64::from(user)),
                run_as_non_root: Some(true),
                capabilities: Some(only(&[])),
                ..strict()
            }),
            resources: Some(amounts(&[
                ("cpu", 100, 1_000),
                ("memory", OWN_MEMORY, OWN_MEMORY),
            ])),
            ..container(name, &self.program)
        }
    }

    /// The base images unpacked, and what the steps write.
    fn disk(&self) -> u64 {
        self.spec.disk_bytes + self.builds.most_image_bytes * 2
    }

    /// All that the volumes and the builder's own root may hold together.
    pub(super) fn all_disk(&self) -> u64 {
        PROGRAM + CONTEXT + self.root() + self.storage() + 2 * self.image()
    }

    /// Kaniko unpacks over its own root; Buildah's is read-only, and its log is all that it leaves outside of volumes.
    fn root(&self) -> u64 {
        match self.builds.tool {
            Tool::Buildah => GIB,
            Tool::Kaniko => self.disk(),
        }
    }

    /// Kaniko has no use for storage but for a few temporary files.
    fn storage(&self) -> u64 {
        match self.builds.tool {
            Tool::Buildah => self.disk(),
            Tool::Kaniko => GIB,
        }
    }

    /// Base images, or the result, as a layout.
    fn image(&self) -> u64 {
        self.builds.most_image_bytes + GIB
    }

    fn volumes(&self) -> Vec<Volume> {
        let mut volumes = vec![
            empty("bin", PROGRAM),
            empty("context", CONTEXT),
            empty("bases", self.image()),
            empty("storage", self.storage()),
            empty("layout", self.image()),
            secret("order", &self.secret, &["order.json"]),
        ];
        if self.network().is_some() {
            volumes.push(empty("proxy", PROXY_STATE));
            volumes.push(secret("files", &self.secret, &["init.json", "assignment.json"]));
        }
        let logins = [
            ("pull", &self.builds.pull_secret),
            ("push", &self.builds.push_secret),
        ];
        let named = logins
            .into_iter()
            .filter_map(|(volume, name)| Some((volume, name.as_ref()?)));
        volumes.extend(named.map(|(volume, name)| secret(volume, name, &[".dockerconfigjson"])));
        volumes
    }
}

/// The name of the Secret that a Job waits for.
fn secret_of(job: &Job) -> Option<String> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    let mut volumes = pod.volumes.iter().flatten();
    let order = volumes.find(|volume| volume.name == "order")?;
    order.secret.as_ref()?.secret_name.clone()
}

fn empty(name: &str, most: u64) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(most.to_string())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Keys of a Secret, for our own user, who is not its owner.
fn secret(volume: &str, name: &str, keys: &[&str]) -> Volume {
    let items = keys.iter().map(|&key| KeyToPath {
        key: key.to_owned(),
        path: key.to_owned(),
        mode: None,
    });
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            default_mode: Some(0o444),
            items: Some(items.collect()),
            optional: None,
        }),
        ..Volume::default()
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Refused {
        operation: "write the build's order",
        message: error.to_string(),
    })
}
