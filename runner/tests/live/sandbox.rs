//! A runner in its own PID and mount namespace, at an address of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use assay_core::{
    control::{
        runner::{End, Event, ExecLimits, Execute, RunnerConfig, Stream},
        service::ServicePlace,
        signature::Signer,
    },
    id::{ExecId, Fence, SandboxId},
};
use assay_runtime::{
    client,
    control::{Error, Events, RunnerClient},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use uuid::Uuid;

pub(crate) const SEED: [u8; 32] = [7; 32];
pub(crate) const FENCE: Fence = Fence(5);

pub(crate) struct Sandbox {
    child: Child,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) client: RunnerClient,
}

pub(crate) struct Setup {
    pub(crate) max_pids: u64,
    pub(crate) proxy: Option<SocketAddr>,
    pub(crate) services: Vec<ServicePlace>,
    /// Without them the runner is started as a container's default profile would have it.
    pub(crate) user_namespaces: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max_pids: 400,
            proxy: None,
            services: Vec::new(),
            user_namespaces: true,
        }
    }
}

/// Python does what a shell cannot: system calls with chosen arguments.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Refuses `unshare` by a filter, then becomes the program that its arguments name.
const WITHOUT_USER_NAMESPACES: &str = r#"
import ctypes, os, struct, sys
unshare = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, unshare), (6, 0, 0, 0x00050001), (6, 0, 0, 0x7fff0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
if ctypes.CDLL(None).prctl(22, 2, ctypes.byref(Program(len(steps), ctypes.addressof(program))), 0, 0):
    sys.exit("the filter is refused")
os.execv(sys.argv[1], sys.argv[1:])
"#;

pub(crate) fn id() -> SandboxId {
    SandboxId(Uuid::from_u128(9))
}

/// A port at this process's own loopback address, below those that connections take: one that was merely free a moment
/// ago may be taken by a connection.
pub(crate) fn own_address() -> SocketAddr {
    static USED: AtomicU16 = AtomicU16::new(0);
    let [low, middle, high, _] = std::process::id().to_le_bytes();
    let port = 15_020 + USED.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 64 | high, middle, low], port))
}

pub(crate) fn client_of(address: SocketAddr, fence: Fence, seed: &[u8; 32]) -> RunnerClient {
    RunnerClient::new(address, id(), fence, seed)
}

impl Sandbox {
    /// `None`, with the reason printed, where namespaces cannot be made.
    pub(crate) async fn start(setup: Setup) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skipped("root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = RunnerConfig {
            sandbox: id(),
            public_key: Signer::new(&SEED).public_key(),
            fence: FENCE,
            proxy: setup.proxy.is_some(),
            max_pids: setup.max_pids,
            services: setup.services,
        };
        let file = folder.path().join("runner.json");
        fs::write(&file, serde_json::to_vec(&config).unwrap()).unwrap();
        let address = own_address();
        // No cgroup bounds the processes here, and a fork bomb is not to take those of the other tests. Root is exempt.
        let mut command = Command::new("prlimit");
        command.args(["--nproc=2000", "unshare"]).args([
            "--pid",
            "--fork",
            "--mount",
            "--mount-proc",
            "--kill-child",
        ]);
        if !setup.user_namespaces {
            command.args([PYTHON, "-c", WITHOUT_USER_NAMESPACES]);
        }
        command
            .arg(env!("CARGO_BIN_EXE_assay-runner"))
            .args(["serve", "--config"])
            .arg(&file)
            .args(["--listen", &address.to_string(), "--trust"])
            .arg(folder.path().join("trust"))
            .stdin(Stdio::null());
        if let Some(proxy) = setup.proxy {
            command.args(["--proxy", &proxy.to_string()]);
        }
        let child = command.spawn().unwrap();
        let client = client_of(address, FENCE, &SEED);
        let sandbox = Self {
            child,
            folder,
            address,
            client,
        };
        until("the runner answers", async || {
            sandbox.client.health().await.is_ok()
        })
        .await;
        Some(sandbox)
    }

    /// The runner's own process, seen from outside.
    pub(crate) fn pid(&self) -> u32 {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// Its resident memory, KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) async fn run(&self, request: &Execute) -> Done {
        finish(self.client.execute(request).await.unwrap()).await
    }

    pub(crate) async fn shell(&self, script: &str) -> Done {
        self.run(&shell(script)).await
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// All that an execution said.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) gaps: u64,
    pub(crate) end: End,
}

impl Done {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

pub(crate) async fn finish(mut events: Events) -> Done {
    let (mut stdout, mut stderr, mut gaps) = (Vec::new(), Vec::new(), 0);
    loop {
        let event = tokio::time::timeout(Duration::from_mins(5), events.next())
            .await
            .expect("an event within minutes")
            .unwrap();
        match event.expect("an end event") {
            Event::Started { .. } => {}
            Event::Output { stream, data, .. } => {
                let bytes = STANDARD.decode(data).unwrap();
                match stream {
                    Stream::Stdout => stdout.extend(bytes),
                    Stream::Stderr => stderr.extend(bytes),
                }
            }
            Event::Gap { from, to, .. } => gaps += to - from,
            Event::End(end) => {
                assert!(events.next().await.unwrap().is_none(), "one end");
                return Done {
                    stdout,
                    stderr,
                    gaps,
                    end,
                };
            }
        }
    }
}

pub(crate) fn shell(script: &str) -> Execute {
    command(&["/bin/sh", "-c", script])
}

pub(crate) fn command(argv: &[&str]) -> Execute {
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    Execute {
        exec: ExecId(Uuid::from_bytes(random)),
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        cwd: None,
        env: BTreeMap::new(),
        user: None,
        stdin: false,
        limits: ExecLimits {
            wall_ms: 300_000,
            grace_ms: 200,
        },
        keep_survivors: false,
    }
}

pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(
            start.elapsed() < Duration::from_mins(2),
            "waited too long: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The code of a refusal.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    if let Error::Call(client::Error::Problem { problem, .. }) = error {
        return problem.code;
    }
    panic!("not a refusal: {error}")
}

#[expect(clippy::print_stderr, reason = "a skipped test says what is missing")]
pub(crate) fn skipped(what: &str) {
    eprintln!("skipped: {what}");
}
