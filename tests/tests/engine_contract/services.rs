//! Containers beside main.

use std::{collections::BTreeMap, time::Duration};

use assay_core::{
    control::{
        runner::{Event, ExecLimits, Execute, RunnerConfig},
        service::{After, ServiceCheck, ServiceConfig, ServicePlace, ServiceState},
    },
    egress::port,
    id::{ExecId, Fence},
};
use assay_engine::{ImageRef, Resources, Sandbox, SandboxSpec, ServiceSpec};
use assay_runtime::control::RunnerClient;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::time::Instant;

use super::bench::{Bench, IMAGE, PATIENCE, Real, SEED, http, name, random, ready, spec};

/// Answers each connection with one line.
const SERVER: &str = r#"my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 8000, Listen => 5,
ReuseAddr => 1) or die "no socket: $!"; while (my $peer = $server->accept) { print $peer "a service answers\n"; close $peer }"#;

pub async fn a_service_is_reached_by_its_name<E: Real>(bench: &Bench<E>) {
    let mut spec = spec();
    let first = service(&spec, 0, "web", &["perl", "-MIO::Socket::INET", "-e", SERVER]);
    let mut second = service(
        &spec,
        1,
        "caller",
        &[
            "bash",
            "-c",
            "exec 3<>/dev/tcp/web/8000; cat <&3; exec sleep 1000",
        ],
    );
    second.config.after = vec![After {
        place: first.config.place.clone(),
        healthy: true,
    }];
    let mut first = first;
    // It may be slow to come up.
    first.config.healthcheck = Some(ServiceCheck {
        start_period_ms: 120_000,
        ..check("exec 3<>/dev/tcp/127.0.0.1/8000")
    });
    first.tmpfs = vec![("/scratch".to_owned(), 1 << 20)];
    with(&mut spec, [first, second]);
    let sandbox = bench.engine.create(&spec).await.unwrap();
    let again = bench.engine.create(&spec).await.unwrap();
    assert_eq!(sandbox.runner, again.runner);
    ready(sandbox.runner).await;
    let printed = run(
        &sandbox,
        "exec 3<>/dev/tcp/web/8000; cat <&3; getent hosts main caller",
    )
    .await;
    assert!(printed.contains("a service answers"), "{printed}");
    assert_eq!(printed.matches("127.0.0.1").count(), 2, "{printed}");
    let heard = output(&sandbox, "caller", "a service answers").await;
    assert!(
        heard.contains("a service answers"),
        "services reach each other: {heard}"
    );
    assert!(bench.engine.find(&name(&spec)).await.unwrap().is_some());
    assert!(bench.engine.evidence(&name(&spec)).await.unwrap().is_whole());
    bench.engine.destroy(&name(&spec)).await.unwrap();
    assert!(bench.engine.list().await.unwrap().is_empty());
    assert!(bench.engine.evidence(&name(&spec)).await.unwrap().gone);
}

/// The same walls as main: the packet rules, the capabilities, the proxy's user, the memory limit.
pub async fn a_service_meets_the_walls_of_the_sandbox<E: Real>(bench: &Bench<E>) {
    let attack = r#"
grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status
perl -e '$> = 1337; $< = 1337; print "uid $< $>\n"'
unshare -n true 2>&1
mount -t tmpfs x /mnt 2>&1
timeout 5 bash -c 'exec 3<>/dev/tcp/192.0.2.1/7; echo hello >&3; cat <&3; echo "tcp $?"' 2>&1
(echo x > /dev/udp/192.0.2.1/7 && echo udp out) 2>&1
perl -MSocket -e 'socket(my $s, PF_INET, SOCK_RAW, 1) or print "raw: $!\n"'
cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null
df -k /scratch | tail -1
echo over; exec sleep 1000"#;
    let mut spec = spec();
    let mut attacker = service(&spec, 0, "attacker", &["bash", "-c", attack]);
    attacker.tmpfs = vec![("/scratch".to_owned(), 1 << 20)];
    with(&mut spec, [attacker]);
    let sandbox = bench.engine.create(&spec).await.unwrap();
    ready(sandbox.runner).await;
    let told = output(&sandbox, "attacker", "over\n").await;
    let line = |word: &str| {
        let found = told.lines().find(|line| line.starts_with(word));
        found.unwrap_or_else(|| panic!("{word}: {told}")).to_owned()
    };
    let bounding = line("CapBnd:");
    let bounding = u64::from_str_radix(bounding.split_whitespace().nth(1).unwrap(), 16).unwrap();
    for (name, number) in [
        ("NET_ADMIN", 12),
        ("NET_RAW", 13),
        ("SYS_PTRACE", 19),
        ("SYS_ADMIN", 21),
    ] {
        assert_eq!(bounding & (1 << number), 0, "{name}: {told}");
    }
    assert!(
        line("NoNewPrivs:").ends_with('1') && line("Seccomp:").ends_with('2'),
        "{told}"
    );
    assert!(!line("uid").contains("1337"), "{told}");
    for word in ["unshare:", "mount:", "raw:"] {
        line(word);
    }
    assert!(!told.contains("udp out"), "{told}");
    assert!(
        told.contains((64_u64 << 20).to_string().as_str()),
        "its memory limit: {told}"
    );
    assert!(line("tmpfs").contains(" 1024 "), "{told}");
    bench.engine.destroy(&name(&spec)).await.unwrap();
}

pub async fn a_service_that_fails_is_told_with_its_last_words<E: Real>(bench: &Bench<E>) {
    let mut spec = spec();
    let ends = service(&spec, 0, "ends", &["sh", "-c", "echo no luck; exit 3"]);
    let mut sick = service(&spec, 1, "sick", &["sleep", "1000"]);
    sick.config.healthcheck = Some(check("echo not yet; exit 1"));
    with(&mut spec, [ends, sick]);
    let sandbox = bench.engine.create(&spec).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let reasons = loop {
        let answer = http(sandbox.runner, "GET /healthz HTTP/1.1\r\nhost: runner")
            .await
            .unwrap_or_default();
        let health = answer
            .split_once("\r\n\r\n")
            .and_then(|(_, body)| serde_json::from_str::<assay_core::control::runner::Health>(body).ok());
        let services = health.map(|health| health.services).unwrap_or_default();
        let reasons: Vec<String> = services
            .into_iter()
            .filter_map(|service| match service.state {
                ServiceState::Failed { reason } => Some(format!("{}: {reason}", service.name)),
                _ => None,
            })
            .collect();
        if reasons.len() == 2 {
            break reasons.join("\n");
        }
        assert!(Instant::now() < deadline, "{answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for words in [
        "ends: it ended with code 3",
        "no luck",
        "sick: it never became healthy",
        "not yet",
    ] {
        assert!(reasons.contains(words), "{reasons}");
    }
    bench.engine.destroy(&name(&spec)).await.unwrap();
}

pub async fn an_image_of_a_service_that_is_missing_is_named<E: Real>(bench: &Bench<E>) {
    let mut spec = spec();
    let mut service = service(&spec, 0, "db", &["true"]);
    service.image = ImageRef("assay/no-such-service:1".to_owned());
    with(&mut spec, [service]);
    let error = bench.engine.create(&spec).await.unwrap_err();
    assert!(error.to_string().contains("assay/no-such-service:1"), "{error}");
    bench.engine.destroy(&name(&spec)).await.unwrap();
    assert!(bench.engine.list().await.unwrap().is_empty());
}

fn service(spec: &SandboxSpec, number: u16, name: &str, argv: &[&str]) -> ServiceSpec {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    ServiceSpec {
        image: ImageRef(IMAGE.to_owned()),
        resources: Resources {
            cpu_milli: 500,
            memory_bytes: 64 << 20,
            pids: 64,
            disk_bytes: 1 << 30,
        },
        entrypoint: None,
        command: Some(words(argv)),
        workdir: None,
        tmpfs: Vec::new(),
        config: ServiceConfig {
            runner: RunnerConfig {
                max_pids: 48,
                ..spec.files.runner.clone()
            },
            place: ServicePlace {
                name: name.to_owned(),
                port: port::SERVICES + number,
            },
            argv: Vec::new(),
            env: BTreeMap::new(),
            user: None,
            cwd: String::new(),
            healthcheck: None,
            after: Vec::new(),
        },
    }
}

fn check(script: &str) -> ServiceCheck {
    ServiceCheck {
        argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
        interval_ms: 50,
        timeout_ms: 60_000,
        retries: 3,
        start_period_ms: 2_000,
        start_interval_ms: 20,
    }
}

fn with<const N: usize>(spec: &mut SandboxSpec, services: [ServiceSpec; N]) {
    spec.files.runner.services = services.iter().map(|one| one.config.place.clone()).collect();
    spec.services = services.into();
}

fn client(sandbox: &Sandbox) -> RunnerClient {
    RunnerClient::new(sandbox.runner, sandbox.name.sandbox, Fence(1), &SEED)
}

/// What a script prints in main.
async fn run(sandbox: &Sandbox, script: &str) -> String {
    let request = Execute {
        exec: ExecId(uuid::Uuid::from_bytes(random())),
        argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
        cwd: None,
        env: BTreeMap::new(),
        user: None,
        stdin: false,
        limits: ExecLimits {
            wall_ms: 120_000,
            grace_ms: 100,
        },
        keep_survivors: false,
    };
    let mut events = client(sandbox).execute(&request).await.unwrap();
    let mut printed = String::new();
    while let Some(event) = events.next().await.unwrap() {
        match event {
            Event::Output { data, .. } => {
                printed.push_str(&String::from_utf8_lossy(&STANDARD.decode(data).unwrap()));
            }
            Event::End(_) => break,
            Event::Started { .. } | Event::Gap { .. } => {}
        }
    }
    printed
}

/// What a service has printed, once these words are in it.
async fn output(sandbox: &Sandbox, name: &str, words: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let bytes = client(sandbox).service_output(name).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.contains(words) {
            return text;
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
