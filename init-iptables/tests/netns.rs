//! The program in real network namespaces: what it writes, what it proves, how it fails, and what its rules do.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::format_push_string,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail by panic, say what they skip, and may be slow"
)]

#[path = "netns/namespace.rs"]
mod namespace;

use std::{
    io::{BufRead as _, BufReader},
    net::UdpSocket,
    process::{Command, Stdio},
};

use assay_core::control::init::FamilyState;
use assay_init_iptables::ruleset::{Kind, Policy, plan};
use namespace::{
    BINARY, PATIENCE, Peer, SILENCE, as_user, dial, dial_briefly, dial_from, in_namespace, init, installed,
    ip, listen, report, run, shell, talk,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SOMEBODY: u32 = 1000;
const PROXY: u32 = 1337;

/// Loopback, own address, the peer's address, an address beyond it.
const FAMILIES: [[&str; 4]; 2] = [
    ["127.0.0.1", "10.9.0.2", "10.9.0.1", "192.0.2.77"],
    ["[::1]", "[fd09::2]", "[fd09::1]", "[2001:db8::77]"],
];

#[test]
fn rules_loaded_twice_are_the_same() {
    in_namespace(|| {
        let first = report(&init("nft"));
        let listed = shell("nft -s list ruleset").stdout;
        let second = report(&init("nft"));
        assert_eq!(
            (first.ipv4, first.ipv6),
            (FamilyState::Proven, FamilyState::Proven)
        );
        assert_eq!(first.ruleset, second.ruleset);
        assert_eq!(listed, shell("nft -s list ruleset").stdout);
        assert_eq!(
            report(&run(&["check", "--expect", &first.ruleset])).ruleset,
            first.ruleset
        );
        let routes = shell("ip route show table main; ip -6 route show table main").stdout;
        let routes = String::from_utf8_lossy(&routes).into_owned();
        assert!(
            !routes.contains("192.0.2") && !routes.contains("2001:db8"),
            "{routes}"
        );
    });
}

#[test]
fn a_connection_from_the_port_of_the_exempt_one_is_told_from_it() {
    in_namespace(|| {
        // Two ports for all that dial, the even one first: the proxy's user has it towards port 443 while others get it
        // towards the rest.
        let few = shell("echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range");
        assert!(few.status.success(), "{few:?}");
        let report = report(&init("nft"));
        assert_eq!(
            (report.ipv4, report.ipv6),
            (FamilyState::Proven, FamilyState::Proven)
        );
    });
}

#[test]
fn the_program_nft_makes_the_same_rules_of_the_plan() {
    in_namespace(|| {
        if !installed("nft") {
            return;
        }
        let mut text = "table inet assay {\n".to_owned();
        for chain in plan().chains {
            let (kind, priority) = match chain.kind {
                Kind::Nat => ("nat", -100),
                Kind::Filter => ("filter", 0),
            };
            let hook = format!("{:?}", chain.hook).to_lowercase();
            let policy = if chain.policy == Policy::Drop {
                "drop"
            } else {
                "accept"
            };
            text += &format!(
                "chain {} {{ type {kind} hook {hook} priority {priority}; policy {policy};\n",
                chain.name
            );
            for rule in chain.rules {
                text += &format!("{rule}\n");
            }
            text += "}\n";
        }
        text += "}\n";
        let loaded = shell(&format!("nft -f - <<'RULES'\n{text}RULES"));
        assert!(loaded.status.success(), "{loaded:?}");
        let by_nft = run(&["check", "--rules-only"]);
        assert!(by_nft.status.success(), "{by_nft:?}");
        let ours = report(&init("nft")).ruleset;
        assert!(String::from_utf8_lossy(&by_nft.stdout).contains(&ours));
    });
}

#[test]
fn iptables_legacy_holds_the_same_plan() {
    in_namespace(|| {
        if !installed("iptables-legacy-restore") || !installed("ip6tables-legacy-restore") {
            return;
        }
        let first = report(&init("iptables_legacy"));
        assert_eq!(first.backend, "iptables_legacy");
        assert_eq!(first.ruleset, report(&init("iptables_legacy")).ruleset);
        behaves(&Peer::connect());
    });
}

#[test]
fn connections_go_where_the_rules_send_them() {
    in_namespace(|| {
        let peer = Peer::connect();
        report(&init("nft"));
        behaves(&peer);
    });
}

fn behaves(peer: &Peer) {
    for [loopback, own, other, beyond] in FAMILIES {
        for (dialled, port) in [(443, 15443), (80, 15080), (22, 15001), (53, 15053)] {
            let proxy = listen(&format!("{loopback}:{port}"));
            talk(dial(SOMEBODY, &format!("{beyond}:{dialled}")).unwrap(), &proxy);
            talk(dial(0, &format!("{other}:{dialled}")).unwrap(), &proxy);
            // From one port to two hosts at once.
            let twins =
                [beyond, other].map(|host| dial_from(&format!("{own}:20000"), &format!("{host}:{dialled}")));
            for twin in twins {
                talk(twin, &proxy);
            }
        }
        // What the task's processes say to each other.
        for address in [loopback, own] {
            for port in [443, 5432] {
                let server = listen(&format!("{address}:{port}"));
                talk(dial(SOMEBODY, &format!("{address}:{port}")).unwrap(), &server);
            }
        }
        dns_is_captured(loopback, &format!("{beyond}:53"));
        dns_is_captured(loopback, &format!("{loopback}:53"));
        udp_is_refused(&format!("{other}:443"));
        udp_is_refused(&format!("{beyond}:9999"));
        // The proxy reaches the world.
        let server = peer.within(|| listen(&format!("{other}:443")));
        talk(dial(PROXY, &format!("{other}:443")).unwrap(), &server);
        inbound(peer, own);
    }
}

fn inbound(peer: &Peer, own: &str) {
    let runner = as_user(0, || listen(&format!("{own}:15020")));
    talk(peer.within(|| dial(0, &format!("{own}:15020"))).unwrap(), &runner);
    let proxy = as_user(PROXY, || listen(&format!("{own}:15090")));
    talk(peer.within(|| dial(0, &format!("{own}:15090"))).unwrap(), &proxy);
    drop(proxy);
    // After the proxy's death nobody can answer in its place.
    let _impostor = as_user(SOMEBODY, || listen(&format!("{own}:15090")));
    assert!(peer.within(|| dial_briefly(&format!("{own}:15090"))).is_err());
    let _task = listen(&format!("{own}:8080"));
    assert!(peer.within(|| dial_briefly(&format!("{own}:8080"))).is_err());
}

fn dns_is_captured(loopback: &str, resolver: &str) {
    let server = UdpSocket::bind(format!("{loopback}:15053")).unwrap();
    let client = as_user(SOMEBODY, || {
        UdpSocket::bind(format!("{}:0", any(loopback))).unwrap()
    });
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.connect(resolver).unwrap();
    client.send(b"question").unwrap();
    let mut heard = [0; 8];
    let (_, asker) = server.recv_from(&mut heard).unwrap();
    server.send_to(b"answered", asker).unwrap();
    client.recv(&mut heard).unwrap();
    assert_eq!(&heard, b"answered");
}

fn udp_is_refused(target: &str) {
    let client = as_user(SOMEBODY, || {
        let any = any(target);
        UdpSocket::bind(format!("{any}:0")).unwrap()
    });
    client.connect(target).unwrap();
    client.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(client.send(b"hello").is_err(), "{target}");
}

fn any(like: &str) -> &'static str {
    if like.starts_with('[') { "[::]" } else { "0.0.0.0" }
}

#[test]
fn a_disabled_family_is_recorded() {
    in_namespace(|| {
        assert!(
            shell("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
                .status
                .success()
        );
        let report = report(&init("nft"));
        assert_eq!(
            (report.ipv4, report.ipv6),
            (FamilyState::Proven, FamilyState::Disabled)
        );
    });
}

#[test]
fn each_way_to_fail_has_its_code() {
    in_namespace(|| {
        assert_eq!(run(&["--nonsense"]).status.code(), Some(64));
        assert_eq!(run(&["--config", "/dev/null"]).status.code(), Some(65));
        assert_eq!(run(&["--config", "/nonexistent"]).status.code(), Some(66));
        assert_eq!(run(&["check"]).status.code(), Some(78), "no rules yet");
        let taken = listen("127.0.0.1:15080");
        assert_eq!(init("nft").status.code(), Some(73));
        drop(taken);
        report(&init("nft"));
        assert_eq!(
            run(&["check", "--rules-only", "--expect", "other"]).status.code(),
            Some(78)
        );
        if !installed("nft") {
            return;
        }
        assert!(
            shell("nft insert rule inet assay filter_output accept")
                .status
                .success()
        );
        assert_eq!(run(&["check"]).status.code(), Some(78), "a rule too many");
        let foreign = "nft add table ip x; nft add chain ip x y '{ type nat hook output priority -150; }'";
        assert!(shell(foreign).status.success());
        assert_eq!(init("nft").status.code(), Some(72));
        let dropping = "nft delete table ip x; nft add table ip x;
            nft add chain ip x y '{ type filter hook output priority -200; }';
            nft add rule ip x y tcp dport 80 drop";
        assert!(shell(dropping).status.success());
        let failed = init("nft");
        assert_eq!(failed.status.code(), Some(76));
        assert!(
            String::from_utf8_lossy(&failed.stderr).contains("192.0.2.1:80"),
            "{failed:?}"
        );
        assert!(failed.stdout.is_empty());
    });
}

#[test]
fn without_rights_it_says_so() {
    in_namespace(|| {
        if !installed("setpriv") {
            return;
        }
        let config = std::env::temp_dir().join(format!("assay-init-rights-{}.json", std::process::id()));
        std::fs::write(&config, r#"{"hold":false,"backend":"auto"}"#).unwrap();
        let line = format!(
            "setpriv --bounding-set -net_admin {BINARY} --config {}",
            config.display()
        );
        assert_eq!(shell(&line).status.code(), Some(77));
        std::fs::remove_file(config).unwrap();
    });
}

/// A kernel without `nf_tables` is played by a filter that refuses its sockets.
#[test]
fn b17_a_kernel_without_nf_tables_gets_the_older_filter_or_is_refused_by_name() {
    in_namespace(|| {
        if !installed("python3") || !installed("iptables-legacy") {
            return;
        }
        let config = std::env::temp_dir().join(format!("assay-init-b17-{}.json", std::process::id()));
        std::fs::write(&config, r#"{"hold":false,"backend":"auto"}"#).unwrap();
        let without = |path: &str| {
            let program = ["-c", WITHOUT_NF_TABLES, BINARY, "--config"];
            let mut command = Command::new("/usr/bin/python3");
            command.args(program).arg(&config).env("PATH", path);
            command.output().unwrap()
        };
        let refused = without("/nonexistent");
        assert_eq!(refused.status.code(), Some(69), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("nf_tables") && said.contains("iptables"), "{said}");
        let older = report(&without("/usr/sbin:/usr/bin:/sbin:/bin"));
        assert_eq!(
            (older.backend.as_str(), older.ipv4, older.ipv6),
            ("iptables_legacy", FamilyState::Proven, FamilyState::Proven)
        );
        std::fs::remove_file(config).unwrap();
    });
}

const WITHOUT_NF_TABLES: &str = r#"
import ctypes, os, struct, sys
socket = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
load, equal, end = 0x20, 0x15, 6
AF_NETLINK, NETLINK_NETFILTER, EPROTONOSUPPORT = 16, 12, 93
steps = [(load, 0, 0, 0), (equal, 0, 5, socket), (load, 0, 0, 16), (equal, 0, 3, AF_NETLINK), (load, 0, 0, 32),
         (equal, 0, 1, NETLINK_NETFILTER), (end, 0, 0, 0x00050000 | EPROTONOSUPPORT), (end, 0, 0, 0x7fff0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
if ctypes.CDLL(None).prctl(22, 2, ctypes.byref(Program(len(steps), ctypes.addressof(program))), 0, 0):
    sys.exit("the filter is refused")
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn the_holder_has_no_rights_and_ends_on_sigterm() {
    in_namespace(|| {
        let config = std::env::temp_dir().join(format!("assay-init-hold-{}.json", std::process::id()));
        std::fs::write(&config, r#"{"hold":true,"backend":"auto"}"#).unwrap();
        let mut holder = Command::new(BINARY)
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("proven"), "{line}");
        let status = std::fs::read_to_string(format!("/proc/{}/status", holder.id())).unwrap();
        let sets: Vec<&str> = status.lines().filter(|line| line.starts_with("Cap")).collect();
        assert_eq!(sets.len(), 5);
        assert!(
            sets.iter().all(|set| set.ends_with("0000000000000000")),
            "{sets:?}"
        );
        kill(
            Pid::from_raw(i32::try_from(holder.id()).unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        assert_eq!(holder.wait().unwrap().code(), Some(0));
        std::fs::remove_file(config).unwrap();
    });
}

#[test]
fn a_namespace_without_loopback_is_refused() {
    in_namespace(|| {
        ip("link set lo down");
        assert!(!init("nft").status.success());
    });
}
