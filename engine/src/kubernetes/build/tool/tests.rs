use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use assay_core::{control::build::Base, digest::Digest};
use k8s_openapi::api::core::v1::PodSpec;

use super::*;
use crate::{
    Archive, BuildNetwork, ImageSpec,
    kubernetes::{PodOptions, labels::Owner},
};

fn builds(tool: Tool) -> Builds {
    Builds {
        namespace: "assay-builds".to_owned(),
        program: "r.example/builder@sha256:1".to_owned(),
        tool,
        tool_image: "r.example/tool@sha256:2".to_owned(),
        repository: "r.example/tasks".to_owned(),
        push_repository: "r.example/tasks".to_owned(),
        push_secret: Some("push".to_owned()),
        pull_secret: Some("pull".to_owned()),
        most_memory_bytes: 4 << 30,
        most_image_bytes: 2 << 30,
        most_at_once: 4,
    }
}

fn pod(tool: Tool) -> PodSpec {
    let (builds, options, mirrors) = (builds(tool), PodOptions::default(), BTreeMap::new());
    let owner = Owner("here".to_owned());
    let spec = ImageSpec {
        key: Digest::of("key"),
        context: PathBuf::new(),
        archive: Archive {
            source: Arc::new("http://store/x".to_owned()),
            digest: Digest::of("archive"),
            size_bytes: 1,
            folder: "environment".to_owned(),
        },
        dockerfile: "Dockerfile".to_owned(),
        args: BTreeMap::new(),
        network: BuildNetwork::None,
        timeout: Duration::from_mins(1),
        memory_bytes: 256 << 20,
        disk_bytes: 1 << 30,
    };
    let order = Order {
        builds: &builds,
        spec: &spec,
        options: &options,
        mirrors: &mirrors,
        owner: &owner,
        name: "build-x".to_owned(),
        secret: "build-x-1".to_owned(),
        program: builds.program.clone(),
        tool_image: builds.tool_image.clone(),
        init: String::new(),
        proxy: String::new(),
        push_to: "r.example/tasks:x".to_owned(),
        bases: vec![Base {
            name: "debian:12".to_owned(),
            pinned: "docker.io/library/debian@sha256:3".to_owned(),
        }],
        memory_bytes: memory(&builds, spec.memory_bytes),
    };
    order.job().unwrap().spec.unwrap().template.spec.unwrap()
}

fn of<'a>(pod: &'a PodSpec, name: &str) -> &'a Container {
    let mut all = pod.init_containers.iter().flatten().chain(&pod.containers);
    all.find(|one| one.name == name).unwrap()
}

fn limit(container: &Container, name: &str) -> Option<String> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    Some(limits.get(name)?.0.clone())
}

fn user(container: &Container) -> Option<i64> {
    container.security_context.as_ref()?.run_as_user
}

#[test]
fn either_builder_may_only_map_a_user_namespace_and_has_no_secret() {
    for tool in [Tool::Buildah, Tool::Kaniko] {
        let pod = pod(tool);
        let build = of(&pod, BUILD);
        let security = build.security_context.as_ref().unwrap();
        let capabilities = security.capabilities.as_ref().unwrap();
        assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(capabilities.add.as_deref().unwrap(), CAPABILITIES);
        assert_eq!(security.allow_privilege_escalation, Some(false));
        assert_eq!(security.privileged, Some(false));
        assert_eq!(user(build), Some(0));
        let volumes = pod.volumes.as_ref().unwrap();
        let secrets: Vec<_> = volumes.iter().filter(|volume| volume.secret.is_some()).collect();
        assert_eq!(secrets.len(), 3);
        let mounts = build.volume_mounts.as_ref().unwrap();
        assert!(
            !mounts
                .iter()
                .any(|mount| secrets.iter().any(|secret| secret.name == mount.name))
        );
        assert!(build.env.is_none() && build.env_from.is_none());
        assert_eq!(build.image.as_deref(), Some("r.example/tool@sha256:2"));
    }
}

#[test]
fn kaniko_has_a_root_of_its_own_within_limits_and_an_archive_that_it_can_open() {
    let pod = pod(Tool::Kaniko);
    let build = of(&pod, BUILD);
    let security = build.security_context.as_ref().unwrap();
    assert_eq!(security.read_only_root_filesystem, Some(false));
    assert_eq!(limit(build, "memory").unwrap(), KANIKO_MEMORY.to_string());
    // The base unpacked and what the steps write, beside all volumes.
    assert_eq!(beside_volumes(&pod), (1 << 30) + 2 * (2 << 30));
    let asked = build.resources.as_ref().unwrap().requests.as_ref().unwrap();
    assert_eq!(asked["ephemeral-storage"].0, "0");
    assert_eq!(user(of(&pod, "fetch")), Some(i64::from(KANIKO_FETCHER)));
    assert_eq!(user(of(&pod, "push")), Some(i64::from(PROXY_UID)));
    let command = build.command.as_ref().unwrap();
    let plan: RunPlan = serde_json::from_str(&command[2]).unwrap();
    assert_eq!(plan.tool, Tool::Kaniko);
    assert_eq!(plan.bases, ["debian:12"]);
}

/// How much more disk the builder may use than the pod's volumes hold.
fn beside_volumes(pod: &PodSpec) -> u64 {
    let all: u64 = limit(of(pod, BUILD), "ephemeral-storage")
        .unwrap()
        .parse()
        .unwrap();
    let volumes = pod.volumes.as_ref().unwrap().iter();
    let sizes = volumes.filter_map(|volume| volume.empty_dir.as_ref()?.size_limit.as_ref());
    all - sizes.map(|size| size.0.parse::<u64>().unwrap()).sum::<u64>()
}

#[test]
fn buildah_writes_into_volumes_only() {
    let pod = pod(Tool::Buildah);
    let build = of(&pod, BUILD);
    let security = build.security_context.as_ref().unwrap();
    assert_eq!(security.read_only_root_filesystem, Some(true));
    // The proxy of a build has a limit, and a kubelet then holds the whole pod to the sum of all.
    assert_eq!(beside_volumes(&pod), 1 << 30);
    assert_eq!(limit(build, "memory").unwrap(), (256_u64 << 20).to_string());
    assert_eq!(user(of(&pod, "fetch")), Some(i64::from(PROXY_UID)));
}

#[test]
fn memory_stays_below_what_the_installation_gives() {
    let small = Builds {
        most_memory_bytes: 300 << 20,
        ..builds(Tool::Kaniko)
    };
    assert_eq!(memory(&small, 1 << 20), 300 << 20);
    assert_eq!(memory(&builds(Tool::Kaniko), 3 << 30), 3 << 30);
}
