//! What container daemons get wrong at times.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use assay_engine::{Engine as _, SandboxSpec, containers::Containers};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::bench::{Bench, installation, name, ready, spec};

/// Podman 4, when two of its processes write to its storage at the same moment, believes in a mount that is gone for as
/// long as the container is there. A front says so in the daemon's place: it cannot be called for.
pub async fn a_lost_mount_is_met_with_new_containers(bench: &Bench<Containers>) {
    let front = Front::before(&bench.place);
    let engine = installation(&front.socket).await;
    let spec = spec();
    let sandbox = engine.create(&spec).await.unwrap();
    assert!(front.said.load(Ordering::SeqCst), "no container was started");
    ready(sandbox.runner).await;
    assert_eq!(engine.list().await.unwrap().len(), 1);
    engine.destroy(&name(&spec)).await.unwrap();
    assert!(engine.list().await.unwrap().is_empty());
}

/// The platform's files are not left behind.
pub async fn a_volume_goes_with_its_container(bench: &Bench<Containers>) {
    let spec = spec();
    bench.engine.create(&spec).await.unwrap();
    let volumes = volumes_of(bench, &spec);
    assert_eq!(volumes.len(), 3, "{volumes:?}");
    bench.engine.destroy(&name(&spec)).await.unwrap();
    let left = left_of(bench, &volumes);
    assert!(left.is_empty(), "{left:?}");
}

/// As after a daemon that was killed between the removal of a container and that of its volume.
pub async fn a_volume_without_its_container_is_found_and_removed(bench: &Bench<Containers>) {
    let spec = spec();
    bench.engine.create(&spec).await.unwrap();
    let volumes = volumes_of(bench, &spec);
    let mut command = vec!["rm".to_owned(), "-f".to_owned()];
    command.extend(containers_of(bench, &spec));
    docker(bench, &command).unwrap();
    assert_eq!(left_of(bench, &volumes), volumes);
    let listed = bench.engine.list().await.unwrap();
    assert!(listed.iter().any(|one| one.name == name(&spec)), "{listed:?}");
    bench.engine.destroy(&name(&spec)).await.unwrap();
    let left = left_of(bench, &volumes);
    assert!(left.is_empty(), "{left:?}");
    assert!(bench.engine.list().await.unwrap().is_empty());
}

fn containers_of(bench: &Bench<Containers>, spec: &SandboxSpec) -> Vec<String> {
    let filter = format!("label=assay.dev/sandbox={}", spec.sandbox);
    let command = ["ps", "-aq", "--no-trunc", "--filter", &filter].map(str::to_owned);
    let printed = docker(bench, &command).unwrap();
    printed.lines().map(str::to_owned).collect()
}

fn volumes_of(bench: &Bench<Containers>, spec: &SandboxSpec) -> Vec<String> {
    let format = "{{range .Mounts}}{{println .Name}}{{end}}";
    let mut command = ["inspect", "--format", format].map(str::to_owned).to_vec();
    command.extend(containers_of(bench, spec));
    let printed = docker(bench, &command).unwrap();
    let lines = printed.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// Those that are still there.
fn left_of(bench: &Bench<Containers>, volumes: &[String]) -> Vec<String> {
    let there = |name: &&String| {
        docker(
            bench,
            &["volume".to_owned(), "inspect".to_owned(), (*name).clone()],
        )
        .is_ok()
    };
    volumes.iter().filter(there).cloned().collect()
}

/// What the client prints, to either daemon.
fn docker(bench: &Bench<Containers>, args: &[String]) -> Result<String, String> {
    let socket = format!("unix://{}", bench.place.display());
    let mut command = std::process::Command::new("docker");
    let output = command.arg("-H").arg(socket).args(args).output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Carries all on but the first request to start a container, which it answers itself.
struct Front {
    socket: PathBuf,
    said: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

impl Front {
    fn before(daemon: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("front.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let said = Arc::new(AtomicBool::new(false));
        tokio::spawn(serve(listener, daemon.to_owned(), Arc::clone(&said)));
        Self {
            socket,
            said,
            _folder: folder,
        }
    }
}

async fn serve(listener: UnixListener, daemon: PathBuf, said: Arc<AtomicBool>) {
    while let Ok((client, _)) = listener.accept().await {
        let (daemon, said) = (daemon.clone(), Arc::clone(&said));
        tokio::spawn(async move {
            // However a connection ends, both sides see it end.
            drop(carry(client, &daemon, &said).await);
        });
    }
}

async fn carry(client: UnixStream, daemon: &Path, said: &AtomicBool) -> io::Result<()> {
    let (mut from_daemon, to_daemon) = UnixStream::connect(daemon).await?.into_split();
    let (from_client, mut to_client) = client.into_split();
    tokio::select! {
        // cancel-safe: the connections end with this.
        asked = ask(from_client, to_daemon, said) => if asked? {
            to_client.write_all(answer().as_bytes()).await?;
        },
        answered = tokio::io::copy(&mut from_daemon, &mut to_client) => drop(answered?),
    }
    Ok(())
}

/// `true` when a request came that is to be answered here. A client waits for an answer before it asks again, so a
/// request begins where something is read.
async fn ask(mut client: OwnedReadHalf, mut daemon: OwnedWriteHalf, said: &AtomicBool) -> io::Result<bool> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let length = client.read(&mut piece).await?;
        if length == 0 {
            daemon.shutdown().await?;
            return std::future::pending().await;
        }
        if starts_a_container(&piece[..length]) && !said.swap(true, Ordering::SeqCst) {
            return Ok(true);
        }
        daemon.write_all(&piece[..length]).await?;
    }
}

fn starts_a_container(piece: &[u8]) -> bool {
    let text = String::from_utf8_lossy(piece);
    let target = text
        .strip_prefix("POST ")
        .and_then(|rest| rest.split([' ', '?']).next());
    target.is_some_and(|path| path.contains("/containers/") && path.ends_with("/start"))
}

fn answer() -> String {
    let body = r#"{"message":"mounting storage for container 4779: lstat /root/overlay/e365/merged: no such file or directory"}"#;
    format!(
        "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
