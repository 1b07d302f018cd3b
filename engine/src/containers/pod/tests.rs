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
    let init = pod(&owner).init("init:1");
    let host = init.host_config.unwrap();
    let bindings = host.port_bindings.unwrap();
    assert_eq!(bindings.len(), 2);
    for binding in bindings.values().flatten().flatten() {
        assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(binding.host_port.as_deref(), Some(""));
    }
    assert_eq!(host.dns.unwrap(), ["127.0.0.1"]);
}
