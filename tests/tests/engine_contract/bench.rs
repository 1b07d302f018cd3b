//! The engines under test, and the orders that they get.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use assay_core::{
    control::{
        runner::Health,
        signature::{AUTH_HEADER, Claim, Signer},
    },
    digest::{Digest, hex},
    id::{Fence, SandboxId},
    phase::EgressPhase,
};
use assay_engine::{
    Archive, BuildNetwork, Death, Engine, ImageSpec, Sandbox, SandboxFiles, SandboxRef, SandboxSpec,
    containers::{Binaries, Containers, Settings},
    fake::{Addresses, Fake},
    kubernetes::{
        Access, BeaconAt, Images, Kubernetes, PodOptions, Reach, Registries, Settings as KubernetesSettings,
    },
    trial,
};
use assay_tests::builds;
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::Instant,
};

pub const IMAGE: &str = "debian:bookworm-slim";
pub const SEED: [u8; 32] = [7; 32];
/// The longest that a busy machine may take for something that comes.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// One engine under test.
pub struct Bench<E> {
    pub engine: E,
    /// The engine's socket, or the cluster's kubeconfig.
    pub place: PathBuf,
}

/// How main is brought to its end from outside.
pub trait EndMain: Engine {
    async fn end_main(&self, sandbox: &Sandbox);
}

impl EndMain for Fake {
    async fn end_main(&self, sandbox: &Sandbox) {
        let death = Death {
            code: 0,
            oom: false,
            log: String::new(),
        };
        Fake::end_main(self, sandbox.name, death);
    }
}

impl EndMain for Containers {
    async fn end_main(&self, sandbox: &Sandbox) {
        shut_down(sandbox).await;
    }
}

impl EndMain for Kubernetes {
    async fn end_main(&self, sandbox: &Sandbox) {
        shut_down(sandbox).await;
    }
}

/// An engine whose sandboxes run something.
pub trait Real: EndMain + Sized {
    /// An engine of another installation in the same place.
    async fn other(bench: &Bench<Self>) -> Self;
}

impl Real for Containers {
    async fn other(bench: &Bench<Self>) -> Self {
        installation(&bench.place).await
    }
}

impl Real for Kubernetes {
    async fn other(bench: &Bench<Self>) -> Self {
        cluster(&bench.place, Reach::Probe, false).await
    }
}

/// An engine that builds images.
pub trait Builder: Engine {
    /// What a step behind a proxy finds as its resolver, where that is known.
    const RESOLVER: Option<&str> = Some("nameserver 127.0.0.1");

    /// Brings what an image is built from to where the builder finds it.
    fn bring(_image: &mut ImageSpec) {}
}

impl Builder for Fake {}

impl Builder for Containers {}

impl Builder for Kubernetes {
    /// The cluster's, because what fetches and pushes asks it too; packet rules lead the steps' questions to the proxy.
    const RESOLVER: Option<&str> = None;

    /// Builders are pods, which see no folder of this machine, and which a small node has room for.
    fn bring(image: &mut ImageSpec) {
        let folder = image.context.parent().unwrap();
        image.archive = builds::stored(folder, &image.context).unwrap();
        image.memory_bytes = 512 << 20;
        image.disk_bytes = 1 << 30;
        image.timeout = Duration::from_mins(10);
    }
}

/// By the runner's own, signed route.
async fn shut_down(sandbox: &Sandbox) {
    let health = ready(sandbox.runner).await;
    let claim = Claim {
        sandbox: sandbox.name.sandbox,
        fence: Fence(1),
        nonce: hex(&random::<16>()),
        deadline_ms: health.monotonic_ms + 30_000,
        boot: health.boot,
        content: Some(Digest::of("")),
    };
    let auth = Signer::new(&SEED).authorize(&claim, "POST", "/v1/shutdown");
    let head =
        format!("POST /v1/shutdown HTTP/1.1\r\nhost: runner\r\n{AUTH_HEADER}: {auth}\r\ncontent-length: 0");
    let answer = http(sandbox.runner, &head).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

pub async fn fake() -> Option<Bench<Fake>> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    Some(Bench {
        engine: Fake::new(Addresses {
            runner: nowhere,
            proxy: nowhere,
        }),
        place: PathBuf::new(),
    })
}

pub async fn docker() -> Option<Bench<Containers>> {
    containers("ASSAY_TEST_DOCKER").await
}

pub async fn podman() -> Option<Bench<Containers>> {
    containers("ASSAY_TEST_PODMAN").await
}

async fn containers(variable: &str) -> Option<Bench<Containers>> {
    let (Some(socket), Some(_)) = (std::env::var_os(variable), std::env::var_os("ASSAY_SANDBOX_BIN")) else {
        eprintln!("skipped: {variable} (a socket) or ASSAY_SANDBOX_BIN (our static programs) is not set");
        return None;
    };
    let place = PathBuf::from(socket);
    Some(Bench {
        engine: installation(&place).await,
        place,
    })
}

pub async fn kubernetes() -> Option<Bench<Kubernetes>> {
    let place = kubeconfig()?;
    Some(Bench {
        engine: cluster(&place, Reach::Probe, false).await,
        place,
    })
}

pub async fn kubernetes_with_a_native_sidecar() -> Option<Bench<Kubernetes>> {
    let place = kubeconfig()?;
    Some(Bench {
        engine: cluster(&place, Reach::Probe, true).await,
        place,
    })
}

/// As from outside of the cluster.
pub async fn kubernetes_by_port_forward() -> Option<Bench<Kubernetes>> {
    let place = kubeconfig()?;
    Some(Bench {
        engine: cluster(&place, Reach::Forward, false).await,
        place,
    })
}

fn kubeconfig() -> Option<PathBuf> {
    let (Some(kubeconfig), Some(_)) = (
        std::env::var_os("ASSAY_TEST_KUBERNETES"),
        std::env::var_os("ASSAY_TEST_REGISTRY"),
    ) else {
        eprintln!(
            "skipped: ASSAY_TEST_KUBERNETES (a kubeconfig) or ASSAY_TEST_REGISTRY (its registry's URL) is not set"
        );
        return None;
    };
    Some(PathBuf::from(kubeconfig))
}

/// An engine of an installation of its own, in the namespace that the manifests make.
async fn cluster(kubeconfig: &Path, reach: Reach, native_sidecar: bool) -> Kubernetes {
    let registry = std::env::var_os("ASSAY_TEST_REGISTRY").unwrap();
    let registry = registry.to_str().unwrap().to_owned();
    let host = registry.trim_start_matches("http://").to_owned();
    let settings = KubernetesSettings {
        access: Access {
            kubeconfig: Some(kubeconfig.to_owned()),
            context: None,
        },
        namespace: "assay-sandboxes".to_owned(),
        owner: format!("test-{}", hex(&random::<6>())),
        images: Images {
            init: format!("{host}/assay/init-iptables:test"),
            proxy: format!("{host}/assay/proxy:test"),
        },
        registries: Registries {
            mirrors: BTreeMap::from([
                ("docker.io".to_owned(), registry.clone()),
                (host.clone(), registry),
            ]),
            credentials: BTreeMap::new(),
        },
        reach,
        beacon: BeaconAt::default(),
        most_waiting: 6,
        builds: Some(builds::settings(&host)),
        pods: PodOptions {
            cpu_request_percent: 10,
            native_sidecar,
            ..PodOptions::default()
        },
    };
    Kubernetes::connect(settings).await.unwrap()
}

/// An engine of an installation of its own.
pub async fn installation(socket: &Path) -> Containers {
    let folder = PathBuf::from(std::env::var_os("ASSAY_SANDBOX_BIN").unwrap());
    let settings = Settings {
        socket: socket.to_owned(),
        owner: format!("test-{}", hex(&random::<6>())),
        binaries: Binaries::in_folder(&folder),
    };
    Containers::connect(&settings).await.unwrap()
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    bytes
}

/// Files for a sandbox whose phases reach nothing.
pub fn files(sandbox: SandboxId, phase: EgressPhase) -> SandboxFiles {
    trial::files(sandbox, phase, &Signer::new(&SEED))
}

pub fn spec() -> SandboxSpec {
    use assay_core::clock::Clock as _;
    let sandbox = SandboxId::new(assay_core::clock::SystemClock.now(), random());
    SandboxSpec {
        start_timeout: PATIENCE,
        ..trial::spec(sandbox, IMAGE, &Signer::new(&SEED))
    }
}

pub fn name(spec: &SandboxSpec) -> SandboxRef {
    SandboxRef {
        sandbox: spec.sandbox,
    }
}

/// An image with a key of its own from a Dockerfile's text. The folder has to be kept until the build is over.
pub fn image<E: Builder>(_: &Bench<E>, dockerfile: &str) -> (ImageSpec, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let context = folder.path().join("environment");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let mut spec = ImageSpec {
        key: Digest::of(random::<32>()),
        context,
        archive: Archive {
            source: Arc::new(String::new()),
            digest: Digest::of(""),
            size_bytes: 0,
            folder: String::new(),
        },
        dockerfile: "Dockerfile".to_owned(),
        args: BTreeMap::from([("WORD".to_owned(), "given".to_owned())]),
        network: BuildNetwork::None,
        timeout: Duration::from_mins(2),
        memory_bytes: 3 << 30,
        disk_bytes: 10 << 30,
    };
    E::bring(&mut spec);
    (spec, folder)
}

/// A channel for a build's log, and the text once the build is over.
pub fn log() -> (mpsc::Sender<Bytes>, tokio::task::JoinHandle<String>) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(16);
    let reader = tokio::spawn(async move {
        let mut text = String::new();
        while let Some(line) = receiver.recv().await {
            text.push_str(&String::from_utf8_lossy(&line));
        }
        text
    });
    (sender, reader)
}

/// Waits until the runner takes phases.
pub async fn ready(runner: SocketAddr) -> Health {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = http(runner, "GET /healthz HTTP/1.1\r\nhost: runner").await;
        let body = answer
            .as_deref()
            .ok()
            .and_then(|text| text.split_once("\r\n\r\n"));
        let health = body.and_then(|(_, body)| serde_json::from_str::<Health>(body).ok());
        match health {
            Some(health) if health.ready => return health,
            other => assert!(Instant::now() < deadline, "not ready: {other:?} {answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One request without a body; the whole answer as text.
pub async fn http(address: SocketAddr, head: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("{head}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
