//! Image builds on the cluster: one Job for each image, what it may do, and whose fault its end is.

#[path = "build/queue.rs"]
mod queue;

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use assay_core::{
    clock::{Clock as _, SystemClock},
    control::signature::Signer,
    digest::{Digest, hex},
    egress::Egress,
    id::SandboxId,
    phase::EgressPhase,
};
use assay_engine::{
    Archive, BuildNetwork, BuildOutcome, BuildProxy, Engine as _, Error, ImageSpec, SandboxRef,
    kubernetes::{Access, BeaconAt, Images, Kubernetes, PodOptions, Reach, Registries, Settings},
    trial,
};
use assay_registry::{Client, Manifest, Reference};
use assay_tests::builds::{self, left, store};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::kubectl::{self, Kubectl};

const BASE: &str = "debian:bookworm-slim";
/// The node's address, where pods reach what the tests serve.
const NODE: &str = "10.250.0.1";
/// What a step tries to find, reach and do. It fails where it succeeds.
const PROBE: &str = include_str!("build/probe.py");

/// An engine that builds.
struct Stage {
    settings: Settings,
    engine: Kubernetes,
    admin: Kubectl,
}

impl Stage {
    async fn set() -> Option<Self> {
        let kubeconfig = std::env::var_os("ASSAY_TEST_KUBERNETES")?;
        let registry = std::env::var_os("ASSAY_TEST_REGISTRY")?.into_string().ok()?;
        let admin = kubectl::with("ASSAY_TEST_KUBERNETES_ADMIN")?;
        let host = registry.trim_start_matches("http://").to_owned();
        let ours = |name: &str| format!("{host}/assay/{name}:test");
        let settings = Settings {
            access: Access {
                kubeconfig: Some(kubeconfig.into()),
                context: None,
            },
            namespace: "assay-sandboxes".to_owned(),
            owner: format!("test-{}", random()),
            images: Images {
                init: ours("init-iptables"),
                proxy: ours("proxy"),
            },
            registries: Registries {
                mirrors: BTreeMap::from([
                    ("docker.io".to_owned(), registry.clone()),
                    (host.clone(), registry),
                ]),
                credentials: BTreeMap::new(),
            },
            reach: Reach::Direct,
            beacon: BeaconAt::Nowhere,
            most_waiting: 6,
            pods: PodOptions {
                cpu_request_percent: 10,
                ..PodOptions::default()
            },
            builds: Some(builds::settings(&host)),
        };
        Some(Self {
            engine: Kubernetes::connect(settings.clone()).await.unwrap(),
            settings,
            admin,
        })
    }

    /// An image of a task whose environment is this Dockerfile. It is another one in each run of the tests.
    fn image(&self, dockerfile: &str) -> (ImageSpec, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let context = folder.path().join("environment");
        fs::create_dir(&context).unwrap();
        fs::write(
            context.join("Dockerfile"),
            format!("{dockerfile}# {}\n", random()),
        )
        .unwrap();
        fs::write(context.join("file"), "from the archive\n").unwrap();
        fs::write(context.join("probe.py"), PROBE).unwrap();
        let archive = builds::stored(folder.path(), &context).unwrap();
        let spec = ImageSpec {
            key: archive.digest,
            context,
            archive,
            dockerfile: "Dockerfile".to_owned(),
            args: BTreeMap::new(),
            network: BuildNetwork::None,
            timeout: Duration::from_mins(10),
            memory_bytes: 512 << 20,
            disk_bytes: 1 << 30,
        };
        (spec, folder)
    }

    async fn build(&self, spec: &ImageSpec) -> (Result<BuildOutcome, Error>, String) {
        let (sender, mut lines) = mpsc::channel::<Bytes>(64);
        let read = async {
            let mut text = String::new();
            while let Some(piece) = lines.recv().await {
                text.push_str(&String::from_utf8_lossy(&piece));
            }
            text
        };
        tokio::join!(self.engine.build(spec, sender), read)
    }

    /// Nothing is left but what an ended build keeps for whoever asks again.
    async fn swept(&self) {
        left::swept(&self.admin, &self.settings.owner).await.unwrap();
    }

    async fn built(&self, dockerfile: &str) -> (String, String) {
        let (spec, _folder) = self.image(dockerfile);
        match self.build(&spec).await {
            (Ok(BuildOutcome::Built { image, .. }), log) => (image.0, log),
            (other, log) => panic!("{other:?}\n{log}"),
        }
    }

    /// The layers of an image as the registry names them, the lowest first.
    async fn layers(&self, image: &str) -> Vec<String> {
        let reference = Reference::parse(image).unwrap();
        let client = Client::new(self.settings.registries.clone());
        let manifest = client.repository(&reference).manifest(&reference.version).await;
        let manifest: Manifest = serde_json::from_slice(&manifest.unwrap().1).unwrap();
        manifest.layers.into_iter().map(|layer| layer.digest).collect()
    }
}

/// How often the archive was fetched: the store counts what each build begins with.
fn asked(spec: &ImageSpec) -> usize {
    store::asked(&spec.archive.digest.hex())
}

fn random() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    hex(&bytes)
}

fn cached(outcome: &Result<BuildOutcome, Error>) -> bool {
    match outcome {
        Ok(BuildOutcome::Built { cached, .. }) => *cached,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_once_and_its_log_is_told_to_all_who_wait() {
    let Some(stage) = Stage::set().await else { return };
    let (spec, _folder) = stage.image(&format!(
        "FROM {BASE}\nRUN echo said-$((1 + 1)) && sleep 1\nCOPY file /copied\n"
    ));
    let (one, two) = tokio::join!(stage.build(&spec), stage.build(&spec));
    assert_ne!(cached(&one.0), cached(&two.0), "{one:?} {two:?}");
    for (_, log) in [&one, &two] {
        assert_eq!(log.matches("said-2").count(), 1, "{log}");
    }
    let (again, log) = stage.build(&spec).await;
    assert!(cached(&again) && log.is_empty(), "{log}");
    assert_eq!(asked(&spec), 1, "fetched once");
    stage.swept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_built_image_is_named_by_digest_and_a_sandbox_runs_it() {
    let Some(stage) = Stage::set().await else { return };
    let (image, _) = stage
        .built(&format!(
            "FROM {BASE}\nCOPY file /copied\nENV SAID=yes\nWORKDIR /work\n"
        ))
        .await;
    assert!(image.contains("/assay/tasks@sha256:"), "{image}");
    let (base, layers) = (stage.layers(BASE).await, stage.layers(&image).await);
    assert!(
        layers.starts_with(&base) && layers.len() > base.len(),
        "nodes have the base's already: {layers:?}, {base:?}"
    );
    let signer = Signer::new(&[7; 32]);
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).unwrap();
    let id = SandboxId::new(SystemClock.now(), bytes);
    let spec = trial::spec(id, &image, &signer);
    let sandbox = stage.engine.create(&spec).await;
    let name = SandboxRef { sandbox: id };
    stage.engine.destroy(&name).await.unwrap();
    let sandbox = sandbox.unwrap();
    assert_eq!(sandbox.workdir, "/work");
    assert_eq!(sandbox.env["SAID"], "yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_that_fails_is_the_tasks_fault_with_its_last_lines() {
    let Some(stage) = Stage::set().await else { return };
    for (step, words) in [
        ("RUN echo seen-$((1 + 1)) && exit 7\n", vec!["seen-2", "7"]),
        ("COPY nothere /\n", vec!["nothere"]),
        ("RUM x\n", vec!["RUM"]),
    ] {
        let (spec, _folder) = stage.image(&format!("FROM {BASE}\n{step}"));
        let (outcome, log) = stage.build(&spec).await;
        let Ok(BuildOutcome::Failed { reason }) = outcome else {
            panic!("{step}: {outcome:?}\n{log}");
        };
        for word in words {
            assert!(reason.contains(word), "{step}: {reason}");
        }
        // Whoever asks for the same gets the same answer, and nothing runs for it.
        let (again, _) = stage.build(&spec).await;
        assert!(matches!(again, Ok(BuildOutcome::Failed { .. })), "{again:?}");
        assert_eq!(asked(&spec), 1);
    }
    stage.swept().await;
}

/// What an ended build keeps is the cluster's to remove. Five minutes, so only where `ASSAY_TEST_KUBE_SLOW` is set.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_build_is_left_after_five_minutes() {
    if std::env::var_os("ASSAY_TEST_KUBE_SLOW").is_none() {
        eprintln!("skipped: ASSAY_TEST_KUBE_SLOW is not set; it takes five minutes");
        return;
    }
    let Some(stage) = Stage::set().await else { return };
    for step in ["true", "false"] {
        let (spec, _folder) = stage.image(&format!("FROM {BASE}\nRUN {step}\n"));
        stage.build(&spec).await.0.unwrap();
    }
    left::forgotten(&stage.admin, &stage.settings.owner)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_never_ends_or_eats_memory_is_stopped() {
    let Some(stage) = Stage::set().await else { return };
    let (mut spec, _folder) = stage.image(&format!("FROM {BASE}\nRUN sleep 600\n"));
    spec.timeout = Duration::from_secs(5);
    let (outcome, log) = stage.build(&spec).await;
    assert_eq!(outcome.unwrap(), BuildOutcome::TimedOut, "{log}");
    let eater = "RUN head -c 3000000000 /dev/zero | tail\n";
    let (spec, _folder) = stage.image(&format!("FROM {BASE}\n{eater}"));
    let (outcome, log) = stage.build(&spec).await;
    let Ok(BuildOutcome::Failed { reason }) = outcome else {
        panic!("{outcome:?}\n{log}");
    };
    // Twice: with what the task has, then with the most that the installation gives.
    assert_eq!(reason, "the build ran out of 1024 MiB of memory");
    assert_eq!(asked(&spec), 2);
    stage.swept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_broken_outside_of_the_dockerfile_is_not_its_fault() {
    let Some(stage) = Stage::set().await else { return };
    let (spec, _folder) = stage.image("FROM assay/no-such-base:1\n");
    let (outcome, _) = stage.build(&spec).await;
    assert!(
        matches!(&outcome, Err(Error::NoImage(name)) if name == "assay/no-such-base:1"),
        "{outcome:?}"
    );
    let (mut spec, _folder) = stage.image(&format!("FROM {BASE}\nRUN true\n"));
    let good = spec.archive.clone();
    for url in [
        store::url("gone"),
        // Nobody listens there.
        format!("http://{NODE}:5002/gone"),
    ] {
        spec.archive.source = Arc::new(url);
        let (outcome, log) = stage.build(&spec).await;
        let error = outcome.expect_err(&log);
        assert!(error.is_transient(), "{error}");
    }
    spec.archive = Archive {
        digest: Digest::of("something else"),
        ..good.clone()
    };
    let error = stage.build(&spec).await.0.unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    spec.archive = good;
    // And then it works: nothing of the failures is kept.
    assert!(!cached(&stage.build(&spec).await.0));
    stage.swept().await;
}

/// From inside of a step: no credential, no token, no network, no way to mount, and nothing of the node.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_finds_no_credential_no_token_and_nobody_to_talk_to() {
    let Some(stage) = Stage::set().await else { return };
    let (_, log) = stage
        .built(&format!(
            "FROM python:3.12-slim\nCOPY probe.py /\nRUN BUILDER={} python3 /probe.py\n",
            builds::tool().1
        ))
        .await;
    assert!(log.contains("nothing found"), "{log}");
}

/// A build that may reach something has packet rules and a proxy of its own, and no step becomes whom they let through.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_behind_a_proxy_meets_its_resolver_and_its_rules() {
    let Some(stage) = Stage::set().await else { return };
    let (mut spec, _folder) = stage.image(
        "FROM python:3.12-slim\nRUN ! getent hosts refused.example.org\n\
         RUN bash -c 'exec 3<>/dev/tcp/127.0.0.1/15090 && printf \"GET /healthz HTTP/1.0\\r\\n\\r\\n\" >&3 && cat <&3'\n\
         RUN ! python3 -c 'import urllib.request as u; u.urlopen(\"http://10.250.0.1:5000/v2/\", timeout=5)'\n\
         RUN ! python3 -c 'import os; os.setuid(1337)'\n",
    );
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).unwrap();
    let id = SandboxId::new(SystemClock.now(), bytes);
    let other = trial::spec(id, "none", &Signer::new(&[7; 32]));
    spec.network = BuildNetwork::Through(Box::new(BuildProxy {
        egress: Egress::None,
        files: trial::files(id, EgressPhase::Build, &Signer::new(&[7; 32])),
        attempt: other.attempt,
        run: other.run,
    }));
    let (outcome, log) = stage.build(&spec).await;
    assert!(
        matches!(outcome, Ok(BuildOutcome::Built { .. })),
        "{outcome:?}\n{log}"
    );
    assert!(log.contains("200 OK"), "{log}");
    stage.swept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_nobodys_fault_and_later_the_build_succeeds() {
    let Some(stage) = Stage::set().await else { return };
    let (spec, _folder) = stage.image(&format!("FROM {BASE}\nCOPY file /copied\n"));
    // Away for everybody: it is not known whether the image is there, so nothing is built.
    let away = format!("http://{NODE}:5002");
    let mut deaf = stage.settings.clone();
    for url in deaf.registries.mirrors.values_mut() {
        url.clone_from(&away);
    }
    let error = Kubernetes::connect(deaf)
        .await
        .unwrap()
        .build(&spec, mpsc::channel(1).0)
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(asked(&spec), 0);
    // Away when the result is pushed.
    let mut late = stage.settings.clone();
    late.registries.mirrors.insert("away.example".to_owned(), away);
    if let Some(builds) = &mut late.builds {
        builds.push_repository = "away.example/assay/tasks".to_owned();
    }
    let error = Kubernetes::connect(late)
        .await
        .unwrap()
        .build(&spec, mpsc::channel(64).0)
        .await
        .unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("push"),
        "{error}"
    );
    let (outcome, log) = stage.build(&spec).await;
    assert!(!cached(&outcome), "{log}");
    stage.swept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_a_build_reaches_registry_and_store_only() {
    let Some(stage) = Stage::set().await else { return };
    if std::env::var_os("ASSAY_TEST_CNI").is_none_or(|name| name != "cilium") {
        eprintln!("skipped: ASSAY_TEST_CNI does not enforce NetworkPolicies");
        return;
    }
    // The pod's own network, as the builder's container has it and its steps do not.
    // It is taken away when all has been tried, however long that takes.
    let (spec, _folder) = stage.image(&format!("FROM {BASE}\nRUN sleep 500\n"));
    let probe = async {
        let pod = stage.pod_in("build").await;
        stage.shell_in(&pod).await;
        for (host, port, open) in [
            (NODE, 5000, true),
            (NODE, 6443, false),
            (NODE, 10250, false),
            ("10.96.0.1", 443, false),
        ] {
            // What is open answers, on a busy node too; what is closed is dropped in silence.
            let seconds = if open { 60 } else { 2 };
            let script = format!("timeout {seconds} bash -c 'exec 3<>/dev/tcp/{host}/{port}'");
            let words = in_builder(&pod, &script);
            let output = stage.admin.run(&words, None);
            assert_eq!(output.status.success(), open, "{host}:{port} {output:?}");
        }
        let words = [
            "exec",
            &pod,
            "-n",
            "assay-builds",
            "-c",
            "build",
            "--",
            "ls",
            "/var/run/secrets",
            "/assay",
        ];
        let said = stage.admin.run(&words, None);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(
            !said.contains("kubernetes.io") && !said.contains("order") && !said.contains("login"),
            "{said}"
        );
        let job = pod.rsplit_once('-').unwrap().0;
        let deleted = stage
            .admin
            .run(&["delete", "job", job, "-n", "assay-builds"], None);
        assert!(deleted.status.success(), "{deleted:?}");
    };
    let ((outcome, _), ()) = tokio::join!(stage.build(&spec), probe);
    // Taken away from outside: nobody knows how it would have ended.
    let error = outcome.unwrap_err();
    assert!(error.is_transient(), "{error}");
    stage.swept().await;
}

/// What runs a script of bash in a builder.
fn in_builder<'a>(pod: &'a str, script: &'a str) -> [&'a str; 10] {
    [
        "exec",
        pod,
        "-n",
        "assay-builds",
        "-c",
        "build",
        "--",
        "bash",
        "-c",
        script,
    ]
}

impl Stage {
    /// Kaniko's image has none, until the base is unpacked over it.
    async fn shell_in(&self, pod: &str) {
        let words = in_builder(pod, "true");
        let deadline = tokio::time::Instant::now() + Duration::from_mins(3);
        loop {
            let output = self.admin.run(&words, None);
            if output.status.success() {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no shell in {pod}: {output:?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The pod of this installation whose container runs.
    async fn pod_in(&self, container: &str) -> String {
        let label = "--selector=assay.dev/role=build";
        let path = format!(
            "jsonpath={{range .items[*]}}{{.metadata.name}} {{.metadata.labels.assay\\.dev/owner}} \
             {{.status.initContainerStatuses[?(@.name==\"{container}\")].state.running.startedAt}}\n{{end}}"
        );
        let deadline = tokio::time::Instant::now() + Duration::from_mins(3);
        loop {
            let output = self
                .admin
                .run(&["get", "pods", "-n", "assay-builds", label, "-o", &path], None);
            let text = String::from_utf8(output.stdout).unwrap();
            let own = text
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            let mut running = own.filter(|words| words.len() == 3 && words[1] == self.settings.owner);
            if let Some(words) = running.next() {
                return words[0].to_owned();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no pod runs {container}: {text}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
