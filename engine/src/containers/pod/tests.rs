use assay_core::id::{AttemptId, RunId, SandboxId};
use uuid::Uuid;

use super::*;

fn pod(owner: &Owner) -> Pod<'_> {
    Pod {
        owner,
        identity: Identity {
            sandbox: SandboxId(Uuid::from_u128(1)),
            run: RunId(Uuid::from_u128(2)),
            attempt: AttemptId(Uuid::from_u128(3)),
        },
    }
}

fn limits() -> Resources {
    Resources {
        cpu_milli: 1_500,
        memory_bytes: 1 << 30,
        pids: 100,
        disk_bytes: 1 << 33,
    }
}

#[test]
fn main_gets_exactly_the_listed_capabilities_and_no_swap() {
    let owner = Owner("here".to_owned());
    let main = pod(&owner).main(
        &Task {
            image: &ImageRef("sha256:1".to_owned()),
            limits: &limits(),
            healthcheck: true,
        },
        "abc",
        true,
    );
    let host = main.host_config.unwrap();
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    let added = host.cap_add.unwrap();
    assert_eq!(added.len(), 13);
    for never in ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE"] {
        assert!(!added.iter().any(|name| name == never), "{never}");
    }
    assert_eq!(host.network_mode.unwrap(), "container:abc");
    assert_eq!(host.memory, host.memory_swap);
    assert_eq!(host.nano_cpus, Some(1_500_000_000));
    assert_eq!(host.storage_opt.unwrap()["size"], (1_u64 << 33).to_string());
    assert_eq!(main.user.unwrap(), "0:0");
    assert_eq!(main.healthcheck.unwrap().test.unwrap(), ["NONE"]);
}

#[test]
fn the_proxy_has_its_user_and_no_capability() {
    let owner = Owner("here".to_owned());
    let proxy = pod(&owner).proxy("proxy:1", "abc");
    let host = proxy.host_config.unwrap();
    assert_eq!(proxy.user.unwrap(), "1337:1337");
    assert_eq!(
        (host.cap_drop.unwrap(), host.cap_add),
        (vec!["ALL".to_owned()], None)
    );
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
}

#[test]
fn ports_are_published_on_the_loopback_alone() {
    let owner = Owner("here".to_owned());
    let init = pod(&owner).init("init:1", &[]);
    let host = init.host_config.unwrap();
    let bindings = host.port_bindings.unwrap();
    assert_eq!(bindings.len(), 2);
    for binding in bindings.values().flatten().flatten() {
        assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(binding.host_port.as_deref(), Some(""));
    }
    assert_eq!(host.dns.unwrap(), ["127.0.0.1"]);
}

#[test]
fn a_service_has_mains_rights_and_no_way_to_more() {
    let owner = Owner("here".to_owned());
    let spec = service::tests::spec();
    let service = pod(&owner).service(&spec, true, "abc", false);
    let host = service.host_config.unwrap();
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert_eq!(host.cap_add.unwrap(), MAIN_CAPABILITIES);
    assert!(
        host.security_opt
            .unwrap()
            .contains(&"no-new-privileges".to_owned())
    );
    assert_eq!(host.network_mode.unwrap(), "container:abc");
    assert_eq!(
        (host.memory, host.memory_swap, host.pids_limit),
        (Some(256 << 20), Some(256 << 20), Some(64))
    );
    assert_eq!(host.tmpfs.unwrap()["/run"], "size=16777216,mode=1777");
    assert_eq!(service.entrypoint.unwrap()[..2], ["/assay/runner", "service"]);
    assert_eq!(service.healthcheck.unwrap().test.unwrap(), ["NONE"]);
    let labels = service.labels.unwrap();
    assert_eq!(
        (
            labels["assay.dev/role"].as_str(),
            labels["assay.dev/service"].as_str()
        ),
        ("service", "db")
    );
    let init = pod(&owner).init("init:1", &[spec]);
    assert_eq!(
        init.host_config.unwrap().extra_hosts.unwrap(),
        ["main:127.0.0.1", "db:127.0.0.1"]
    );
}
