//! Containers beside main: when they are up, what is told of those that fail, and what their commands cannot do.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use assay_core::control::{
    runner::RunnerConfig,
    service::{After, ServiceCheck, ServiceConfig, ServicePlace, ServiceState},
    signature::Signer,
};

use crate::sandbox::{FENCE, SEED, Sandbox, Setup, code, id, shell, skipped, until};

/// A service's runner in a PID namespace of its own.
struct Service {
    child: Child,
    folder: tempfile::TempDir,
    place: ServicePlace,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// At a port of this process's own, below those that connections take.
fn place(name: &str) -> ServicePlace {
    static USED: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 600).unwrap() * 20;
    ServicePlace {
        name: name.to_owned(),
        port: first + USED.fetch_add(1, Ordering::Relaxed),
    }
}

/// One that runs a shell script. `$DIR` is a folder of its own.
fn start(place: &ServicePlace, script: &str, change: impl FnOnce(&mut ServiceConfig)) -> Service {
    let folder = tempfile::tempdir().unwrap();
    let mut config = ServiceConfig {
        runner: RunnerConfig {
            sandbox: id(),
            public_key: Signer::new(&SEED).public_key(),
            fence: FENCE,
            proxy: false,
            max_pids: 100,
            services: Vec::new(),
        },
        place: place.clone(),
        argv: words(&["/bin/sh", "-c", script]),
        env: BTreeMap::from([("DIR".to_owned(), folder.path().display().to_string())]),
        user: None,
        cwd: "/".to_owned(),
        healthcheck: None,
        after: Vec::new(),
    };
    change(&mut config);
    let file = folder.path().join("service.json");
    fs::write(&file, serde_json::to_vec(&config).unwrap()).unwrap();
    let child = Command::new("unshare")
        .args(["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"])
        .arg(env!("CARGO_BIN_EXE_assay-runner"))
        .args(["service", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Service {
        child,
        folder,
        place: place.clone(),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn check(script: &str) -> ServiceCheck {
    ServiceCheck {
        argv: words(&["/bin/sh", "-c", script]),
        interval_ms: 20,
        timeout_ms: 60_000,
        retries: 3,
        start_period_ms: 0,
        start_interval_ms: 20,
    }
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped("root");
    }
    root
}

async fn main_beside(services: &[&ServicePlace]) -> Sandbox {
    let services = services.iter().map(|&place| place.clone()).collect();
    let setup = Setup {
        services,
        ..Setup::default()
    };
    Sandbox::start(setup).await.unwrap()
}

async fn state(sandbox: &Sandbox, name: &str) -> ServiceState {
    let health = sandbox.client.health().await.unwrap();
    let found = health.services.into_iter().find(|service| service.name == name);
    found.unwrap().state
}

async fn failure(sandbox: &Sandbox, name: &str) -> String {
    until("the service has failed", async || {
        matches!(state(sandbox, name).await, ServiceState::Failed { .. })
    })
    .await;
    let ServiceState::Failed { reason } = state(sandbox, name).await else {
        panic!("{name} has not failed")
    };
    reason
}

#[tokio::test]
async fn no_work_is_taken_before_a_service_is_healthy() {
    if !is_root() {
        return;
    }
    let place = place("db");
    let sandbox = main_beside(&[&place]).await;
    assert_eq!(code(sandbox.client.execute(&shell("true")).await), "not_ready");
    let service = start(
        &place,
        "echo up and running; echo too >&2; exec sleep 100",
        |config| {
            config.healthcheck = Some(ServiceCheck {
                retries: 100_000,
                ..check("test -e $DIR/healthy")
            });
        },
    );
    until("it has started", async || {
        state(&sandbox, "db").await == ServiceState::Started
    })
    .await;
    let health = sandbox.client.health().await.unwrap();
    assert!(!health.ready && health.reason.unwrap().contains("service db"));
    fs::write(service.folder.path().join("healthy"), "").unwrap();
    until("main takes work", async || {
        sandbox.client.health().await.unwrap().ready
    })
    .await;
    assert_eq!(sandbox.shell("true").await.end.exit_code, Some(0));
    until("its output is there", async || {
        let output = sandbox.client.service_output("db").await.unwrap();
        let text = String::from_utf8_lossy(&output).into_owned();
        text.contains("up and running\n") && text.contains("too\n")
    })
    .await;
    assert_eq!(
        code(sandbox.client.service_output("web").await),
        "no_such_service"
    );
}

#[tokio::test]
async fn nobody_else_is_told_what_a_service_prints() {
    if !is_root() {
        return;
    }
    let place = place("db");
    let _service = start(&place, "echo hidden; exec sleep 100", |_| {});
    let sandbox = main_beside(&[&place]).await;
    until("main takes work", async || {
        sandbox.client.health().await.unwrap().ready
    })
    .await;
    let ask = |wanted: &str| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, place.port)).unwrap();
        writeln!(stream, "{wanted}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    assert_eq!(ask("all"), "", "main's runner has it already");
    assert_eq!(ask("state"), "{\"state\":{\"state\":\"ready\"}}\n");
    assert_eq!(ask("nonsense"), "");
}

#[tokio::test]
async fn a_service_that_never_gets_healthy_is_told_with_its_last_try() {
    if !is_root() {
        return;
    }
    let [place, slow] = ["db", "slow"].map(place);
    // Nobody says that a service prints before it is looked at.
    let said = "until [ -e $DIR/said ]; do sleep 0.01; done; echo no answer; exit 4";
    let service = start(
        &place,
        "echo still loading; touch $DIR/said; exec sleep 100",
        |config| {
            config.healthcheck = Some(check(said));
        },
    );
    let _slow = start(&slow, "exec sleep 100", |config| {
        config.healthcheck = Some(ServiceCheck {
            timeout_ms: 50,
            retries: 1,
            ..check("sleep 100")
        });
    });
    let sandbox = main_beside(&[&place, &slow]).await;
    let reason = failure(&sandbox, "db").await;
    for words in [
        "never became healthy",
        "failed 3 times",
        "code 4: no answer",
        "still loading",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    let reason = failure(&sandbox, "slow").await;
    assert!(reason.contains("no answer within 50 ms"), "{reason}");
    // Its runner stays, to say so.
    assert!(fs::metadata(format!("/proc/{}", service.child.id())).is_ok());
    assert!(!sandbox.client.health().await.unwrap().ready);
    assert_eq!(service.place.name, "db");
}

#[tokio::test]
async fn a_service_that_ends_is_told_with_its_last_words() {
    if !is_root() {
        return;
    }
    let places = ["ends", "missing", "done"].map(place);
    let _services = [
        start(&places[0], "echo out of luck >&2; exit 3", |config| {
            config.healthcheck = Some(ServiceCheck {
                retries: 100_000,
                ..check("false")
            });
        }),
        start(&places[1], "", |config| {
            config.argv = words(&["/no/such/program"]);
        }),
        start(&places[2], "true", |_| {}),
    ];
    let sandbox = main_beside(&[&places[0], &places[1], &places[2]]).await;
    let reason = failure(&sandbox, "ends").await;
    assert!(
        reason.contains("ended with code 3") && reason.contains("out of luck"),
        "{reason}"
    );
    let reason = failure(&sandbox, "missing").await;
    assert!(reason.contains("cannot run /no/such/program"), "{reason}");
    until("it is done", async || {
        state(&sandbox, "done").await == ServiceState::Done
    })
    .await;
}

#[tokio::test]
async fn a_service_starts_after_what_it_waits_for() {
    if !is_root() {
        return;
    }
    let places = ["web", "db", "bad", "late"].map(place);
    let after = |index: usize, healthy| After {
        place: places[index].clone(),
        healthy,
    };
    let sandbox = main_beside(&[&places[0], &places[3]]).await;
    let _web = start(&places[0], "exec sleep 100", |config| {
        config.after = vec![after(1, true)];
    });
    let _late = start(&places[3], "exec sleep 100", |config| {
        config.after = vec![after(2, false)];
    });
    until("web waits", async || {
        matches!(state(&sandbox, "web").await, ServiceState::Waiting { reason } if reason.contains("service db"))
    })
    .await;
    let _bad = start(&places[2], "", |config| {
        config.argv = words(&["/no/such/program"]);
    });
    let _db = start(&places[1], "exec sleep 100", |config| {
        config.healthcheck = Some(check("true"));
    });
    until("web is up", async || {
        state(&sandbox, "web").await == ServiceState::Ready
    })
    .await;
    until("late has failed or begun", async || {
        !matches!(state(&sandbox, "late").await, ServiceState::Waiting { .. })
    })
    .await;
}

#[tokio::test]
async fn the_command_of_a_service_is_confined_as_an_agent_is() {
    if !is_root() {
        return;
    }
    let place = place("db");
    let script = "
import os, errno
for attempt in (lambda: os.setuid(1337), lambda: os.setgid(1337)):
    try: attempt(); print('done')
    except OSError as error: print(errno.errorcode[error.errno])
for line in open('/proc/self/status'):
    if line.startswith(('CapBnd', 'Seccomp:')): print(*line.split())
";
    let _service = start(&place, "", |config| {
        config.argv = words(&["/usr/bin/python3", "-c", script]);
        config.healthcheck = None;
    });
    let sandbox = main_beside(&[&place]).await;
    until("it is done", async || {
        state(&sandbox, "db").await == ServiceState::Done
    })
    .await;
    let output = sandbox.client.service_output("db").await.unwrap();
    let text = String::from_utf8_lossy(&output).into_owned();
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skipped("/usr/bin/python3");
    }
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["EINVAL", "EINVAL"], "{text}");
    let bounding = u64::from_str_radix(lines[2].split(' ').nth(1).unwrap(), 16).unwrap();
    for (name, number) in [
        ("NET_ADMIN", 12),
        ("NET_RAW", 13),
        ("SYS_PTRACE", 19),
        ("SYS_ADMIN", 21),
    ] {
        assert_eq!(bounding & (1 << number), 0, "{name}: {text}");
    }
    assert_eq!(lines[3], "Seccomp: 2");
}
