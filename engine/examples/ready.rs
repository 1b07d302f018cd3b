//! How long a sandbox takes from nothing to a runner that takes phases.
//!
//! usage: ready SOCKET FOLDER-OF-STATIC-PROGRAMS IMAGE TIMES

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use assay_core::{
    clock::{Clock as _, SystemClock},
    control::{
        init::{Backend, InitConfig},
        proxy::ProxyAssignment,
        runner::RunnerConfig,
        signature::Signer,
    },
    digest::hex,
    id::{AttemptId, Fence, RunId, SandboxId},
    phase::EgressPhase,
    upstream::Secret,
};
use assay_engine::{
    Engine as _, ImageRef, Resources, SandboxFiles, SandboxSpec,
    containers::{Binaries, Containers, Settings},
};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, folder, image, times] = arguments.as_slice() else {
        return Err("usage: ready SOCKET FOLDER IMAGE TIMES".into());
    };
    let engine = Containers::connect(&Settings {
        socket: PathBuf::from(socket),
        owner: format!("ready-{}", std::process::id()),
        binaries: Binaries::in_folder(Path::new(folder)),
    })
    .await?;
    let mut samples = Vec::new();
    for _ in 0..times.parse::<usize>()? {
        let spec = spec(image)?;
        let started = Instant::now();
        let sandbox = engine.create(&spec).await?;
        let created = started.elapsed();
        wait_until_ready(sandbox.runner)?;
        let ready = started.elapsed();
        engine.destroy(&sandbox.name).await?;
        samples.push((ready, created, started.elapsed().saturating_sub(ready)));
    }
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

fn spec(image: &str) -> Result<SandboxSpec, Failure> {
    let now = SystemClock.now();
    let (sandbox, run) = (SandboxId::new(now, random()?), RunId::new(now, random()?));
    let signer = Signer::new(&random()?);
    Ok(SandboxSpec {
        sandbox,
        run,
        attempt: AttemptId::new(now, random()?),
        image: ImageRef(image.to_owned()),
        resources: Resources {
            cpu_milli: 1_000,
            memory_bytes: 512 << 20,
            pids: 256,
            disk_bytes: 1 << 30,
        },
        files: SandboxFiles {
            init: InitConfig {
                hold: true,
                backend: Backend::Auto,
            },
            proxy: ProxyAssignment {
                sandbox,
                run,
                fence: Fence(1),
                public_key: signer.public_key(),
                mac_key: Secret::new(hex(&signer.mac_key())),
                egress: BTreeMap::new(),
                phase: EgressPhase::Setup,
                purses: BTreeMap::new(),
                upstreams: Vec::new(),
                prices: BTreeMap::new(),
                price_version: "1".to_owned(),
                resolvers: Vec::new(),
                fixed_addresses: BTreeMap::new(),
                extra_roots_pem: None,
            },
            runner: RunnerConfig {
                sandbox,
                public_key: signer.public_key(),
                fence: Fence(1),
                proxy: true,
                max_pids: 200,
            },
        },
        start_timeout: Duration::from_mins(1),
    })
}
