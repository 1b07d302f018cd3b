//! How long a sandbox takes from nothing to a runner that takes phases.
//!
//! usage: ready SOCKET FOLDER-OF-STATIC-PROGRAMS IMAGE TIMES
//!        ready kubernetes KUBECONFIG REGISTRY-URL IMAGE TIMES         our images are REGISTRY/assay/…:test

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use assay_core::{
    clock::{Clock as _, SystemClock},
    control::signature::Signer,
    id::SandboxId,
};
use assay_engine::{
    Engine,
    containers::{Binaries, Containers, Settings},
    kubernetes::{self, Access, BeaconAt, Images, Kubernetes, PodOptions, Reach, Registries},
    trial,
};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["kubernetes", kubeconfig, registry, image, times] => {
            let engine = Kubernetes::connect(cluster(kubeconfig, registry)).await?;
            show(measure(&engine, image, times.parse()?).await?)
        }
        [socket, folder, image, times] => {
            let engine = Containers::connect(&Settings {
                socket: PathBuf::from(socket),
                owner: owner(),
                binaries: Binaries::in_folder(Path::new(folder)),
            })
            .await?;
            show(measure(&engine, image, times.parse()?).await?)
        }
        _ => Err(
            "usage: ready SOCKET FOLDER IMAGE TIMES, or ready kubernetes KUBECONFIG REGISTRY-URL IMAGE TIMES"
                .into(),
        ),
    }
}

fn owner() -> String {
    format!("ready-{}", std::process::id())
}

fn cluster(kubeconfig: &str, registry: &str) -> kubernetes::Settings {
    let host = registry.trim_start_matches("http://").to_owned();
    let ours = |name: &str| format!("{host}/assay/{name}:test");
    kubernetes::Settings {
        access: Access {
            kubeconfig: Some(kubeconfig.into()),
            context: None,
        },
        namespace: "assay-sandboxes".to_owned(),
        owner: owner(),
        images: Images {
            init: ours("init-iptables"),
            proxy: ours("proxy"),
        },
        registries: Registries {
            mirrors: ["docker.io", &host]
                .map(|name| (name.to_owned(), registry.to_owned()))
                .into(),
            credentials: BTreeMap::new(),
        },
        reach: Reach::Direct,
        beacon: BeaconAt::Nowhere,
        builds: None,
        most_waiting: 6,
        pods: PodOptions {
            cpu_request_percent: 5,
            ..PodOptions::default()
        },
    }
}

/// Until it is ready, until it was created, and how long its removal took.
type Sample = (Duration, Duration, Duration);

async fn measure(engine: &impl Engine, image: &str, times: usize) -> Result<Vec<Sample>, Failure> {
    let mut samples = Vec::new();
    for _ in 0..times {
        let sandbox = SandboxId::new(SystemClock.now(), random()?);
        let spec = trial::spec(sandbox, image, &Signer::new(&random()?));
        let started = Instant::now();
        let sandbox = engine.create(&spec).await?;
        let created = started.elapsed();
        wait_until_ready(sandbox.runner)?;
        let ready = started.elapsed();
        engine.destroy(&sandbox.name).await?;
        samples.push((ready, created, started.elapsed().saturating_sub(ready)));
    }
    Ok(samples)
}

fn show(mut samples: Vec<Sample>) -> Result<(), Failure> {
    samples.sort();
    let out = &mut std::io::stdout();
    for (ready, created, destroyed) in &samples {
        let [ready, created, destroyed] = [ready, created, destroyed].map(Duration::as_millis);
        writeln!(
            out,
            "ready {ready} ms  created {created} ms  destroyed in {destroyed} ms"
        )?;
    }
    let median = samples.get(samples.len() / 2).ok_or("no samples")?;
    writeln!(
        out,
        "median of {}: ready {} ms",
        samples.len(),
        median.0.as_millis()
    )?;
    Ok(())
}

fn wait_until_ready(runner: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if health(runner).is_ok_and(|text| text.contains("\"ready\":true")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err("the runner is not ready after 20 s".into())
}

fn health(runner: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(runner)?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: runner\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
