use assay_core::{
    id::{AttemptId, RunId, SandboxId},
    phase::EgressPhase,
};
use uuid::Uuid;

use super::*;

fn with(options: &PodOptions) -> Pod {
    with_services(options, &[])
}

fn with_services(options: &PodOptions, services: &[(ServiceSpec, String)]) -> Pod {
    with_gpus(options, services, &Gpus::default())
}

fn with_gpus(options: &PodOptions, services: &[(ServiceSpec, String)], gpus: &Gpus) -> Pod {
    let plan = Plan {
        owner: &Owner("here".to_owned()),
        identity: Identity {
            sandbox: SandboxId(Uuid::from_u128(1)),
            run: RunId(Uuid::from_u128(2)),
            attempt: AttemptId(Uuid::from_u128(3)),
        },
        namespace: "assay-sandboxes",
        images: ["r/init@sha256:1", "r/proxy@sha256:2", "r/task@sha256:3"],
        limits: &Resources {
            cpu_milli: 1_500,
            memory_bytes: 1 << 30,
            pids: 100,
            disk_bytes: 1 << 33,
        },
        gpus,
        services,
        phase: EgressPhase::Setup,
        options,
        annotations: BTreeMap::new(),
    };
    plan.pod()
}

#[test]
fn a_pod_looks_like_this() {
    insta::assert_yaml_snapshot!(with(&PodOptions::default()));
}

#[test]
fn a_service_is_one_more_container_of_the_pod() {
    let services = [(crate::service::tests::spec(), "r/db@sha256:4".to_owned())];
    let pod = with_services(&PodOptions::default(), &services);
    let spec = pod.spec.unwrap();
    assert_eq!(
        spec.containers[2].command.as_deref().unwrap(),
        crate::service::COMMAND
    );
    let names = &spec.host_aliases.as_ref().unwrap()[0];
    assert_eq!(names.ip, "127.0.0.1");
    assert_eq!(names.hostnames.as_deref().unwrap(), ["main", "db"]);
    let volumes: Vec<_> = spec
        .volumes
        .iter()
        .flatten()
        .map(|volume| volume.name.as_str())
        .collect();
    assert_eq!(
        volumes,
        ["files", "main", "proxy", "service-db", "service-db-tmp-0"]
    );
    let main = &spec.containers[1].security_context;
    let service = &spec.containers[2].security_context;
    let capabilities = |context: &Option<SecurityContext>| context.clone().unwrap().capabilities;
    assert_eq!(capabilities(main), capabilities(service));
    assert_eq!(service.as_ref().unwrap().allow_privilege_escalation, Some(false));
}

#[test]
fn main_never_gets_a_capability_of_the_network_or_the_machine() {
    let spec = with(&PodOptions::default()).spec.unwrap();
    for container in &spec.containers {
        let capabilities = container.security_context.clone().unwrap().capabilities.unwrap();
        assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
        for never in ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE"] {
            assert!(
                !capabilities.add.iter().flatten().any(|name| name == never),
                "{never}"
            );
        }
        assert!(container.env.is_none(), "nothing secret can be in an environment");
    }
    assert_eq!(spec.automount_service_account_token, Some(false));
}

#[test]
fn options_of_a_cluster_reach_the_pod() {
    let spec = with(&PodOptions {
        runtime_class: Some("gvisor".to_owned()),
        user_namespace: true,
        node_selector: BTreeMap::from([("pool".to_owned(), "tasks".to_owned())]),
        tolerations: vec![super::super::Toleration {
            key: Some("tasks".to_owned()),
            operator: Some("Exists".to_owned()),
            ..Default::default()
        }],
        native_sidecar: true,
        priority_class: Some("low".to_owned()),
        pull_secrets: vec!["registry".to_owned()],
        cpu_request_percent: 50,
        devices: BTreeMap::from([("nvidia.com/gpu".to_owned(), 1)]),
        gpus: None,
        lifetime: std::time::Duration::from_mins(1),
    })
    .spec
    .unwrap();
    assert_eq!(spec.runtime_class_name.as_deref(), Some("gvisor"));
    assert_eq!(spec.host_users, Some(false));
    assert_eq!(spec.node_selector.unwrap()["pool"], "tasks");
    assert_eq!(spec.tolerations.unwrap().len(), 1);
    assert_eq!(spec.priority_class_name.as_deref(), Some("low"));
    assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "registry");
    assert_eq!(spec.active_deadline_seconds, Some(60));
    let starters: Vec<_> = spec.init_containers.iter().flatten().collect();
    let restarts: Vec<_> = starters
        .iter()
        .map(|one| (one.name.as_str(), one.restart_policy.as_deref()))
        .collect();
    assert_eq!(restarts, [(INIT, None), (PROXY, Some("Always"))]);
    assert!(spec.containers.iter().all(|one| one.name != PROXY));
    let main = spec.containers.into_iter().find(|one| one.name == MAIN).unwrap();
    let resources = main.resources.unwrap();
    let (requests, limits) = (resources.requests.unwrap(), resources.limits.unwrap());
    assert_eq!(
        (requests["cpu"].0.as_str(), limits["cpu"].0.as_str()),
        ("750m", "1500m")
    );
    assert_eq!(requests["nvidia.com/gpu"].0, "1");
    assert_eq!(limits["nvidia.com/gpu"].0, "1");
}

#[test]
fn gpus_of_a_task_are_a_limit_of_main_on_nodes_that_have_them() {
    let options = PodOptions {
        devices: BTreeMap::from([("example.com/gpu".to_owned(), 1)]),
        gpus: Some(super::super::GpuNames {
            resource: "example.com/gpu".to_owned(),
            type_label: Some("example.com/type".to_owned()),
        }),
        ..PodOptions::default()
    };
    let services = [(crate::service::tests::spec(), "r/db@sha256:4".to_owned())];
    let spec_with = |count, types: &[&str]| {
        let types = types.iter().map(|&name| name.to_owned()).collect();
        with_gpus(&options, &services, &Gpus { count, types })
            .spec
            .unwrap()
    };
    let amount = |spec: &PodSpec, name: &str| {
        let container = spec.containers.iter().find(|one| one.name == name).unwrap();
        let ResourceRequirements { requests, limits, .. } = container.resources.clone().unwrap();
        let of = |all: Option<BTreeMap<String, Quantity>>| all.unwrap().remove("example.com/gpu");
        let (asked, most) = (of(requests), of(limits));
        assert_eq!(asked, most, "a cluster takes nothing else");
        asked.map(|amount| amount.0)
    };
    let spec = spec_with(2, &["H100", "A100"]);
    assert_eq!(amount(&spec, MAIN).as_deref(), Some("2"));
    assert_eq!((amount(&spec, PROXY), amount(&spec, "service-db")), (None, None));
    let nodes = serde_json::to_value(spec.affinity).unwrap();
    assert_eq!(
        nodes.pointer("/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"),
        Some(&serde_json::json!([{"matchExpressions":
            [{"key": "example.com/type", "operator": "In", "values": ["H100", "A100"]}]}])),
    );
    assert_eq!(
        spec.tolerations.unwrap()[0].key.as_deref(),
        Some("example.com/gpu")
    );
    assert!(spec_with(2, &[]).affinity.is_none(), "any type");
    let spec = spec_with(0, &[]);
    assert_eq!(
        amount(&spec, MAIN).as_deref(),
        Some("1"),
        "what every sandbox gets"
    );
    assert!(spec.tolerations.is_none() && spec.affinity.is_none());
}
