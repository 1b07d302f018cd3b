//! How long a sandbox takes from nothing to a runner that takes phases.
//!
//! usage: ready SOCKET FOLDER-OF-STATIC-PROGRAMS IMAGE TIMES

use std::{
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
    Engine as _,
    containers::{Binaries, Containers, Settings},
    trial,
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
