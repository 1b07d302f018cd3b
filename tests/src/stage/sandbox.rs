//! The sandbox's side: init-iptables, proxy and runner as an engine starts them, and attacks as their workload.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use assay_core::{
    control::{
        proxy::{AuditLine, Health, Ledger, Metrics, Probe, ProxyAssignment},
        runner::{Event, ExecLimits, Execute, RunnerConfig, Stream},
        signature::Signer,
    },
    digest::hex,
    egress::{PROXY_UID, port},
    id::{ExecId, Fence, SandboxId},
    phase::EgressPhase,
};
use assay_runtime::control::{ProxyClient, RunnerClient};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::{
    Internet, Place,
    address::{MODEL_SERVICE, RESOLVER, SANDBOX},
    internet::Seen,
    namespace,
};

/// Which walls stand between the workload and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walls {
    /// The packet rules.
    pub rules: bool,
    /// The proxy.
    pub proxy: bool,
    /// The runner, with its user namespace, filter and capabilities. Without it the workload is plain root.
    pub runner: bool,
}

impl Walls {
    /// As in a real sandbox.
    pub const ALL: Self = Self {
        rules: true,
        proxy: true,
        runner: true,
    };
    /// None: here every attack must succeed.
    pub const NONE: Self = Self {
        rules: false,
        proxy: false,
        runner: false,
    };
}

/// The whole stage.
#[derive(Debug)]
pub struct Stage {
    /// The other side.
    pub internet: Internet,
    walls: Walls,
    sandbox: Place,
    folder: tempfile::TempDir,
    processes: Vec<Process>,
    generation: AtomicU64,
}

#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
}

/// How an attack ended, and what arrived outside meanwhile.
#[derive(Debug)]
pub struct Outcome {
    /// What it printed.
    pub text: String,
    /// What it complained about.
    pub errors: String,
    /// Its exit code.
    pub code: Option<i32>,
    /// What arrived.
    pub seen: Seen,
}

impl Stage {
    /// Starts everything that `walls` name. `change` changes the proxy's assignment.
    pub fn start(walls: Walls, change: impl FnOnce(&mut ProxyAssignment)) -> anyhow::Result<Self> {
        let (sandbox, outside) = (Place::new()?, Place::new()?);
        namespace::connect(&sandbox, &outside)?;
        let internet = Internet::start(outside)?;
        let folder = tempfile::Builder::new().prefix("assay-stage").tempdir()?;
        open_to_all(folder.path())?;
        let mut stage = Self {
            internet,
            walls,
            sandbox,
            folder,
            processes: Vec::new(),
            generation: AtomicU64::new(1),
        };
        stage.write_resolver()?;
        if walls.rules {
            stage.write_rules()?;
        }
        if walls.proxy {
            let mut assignment = stage.assignment()?;
            change(&mut assignment);
            stage.write_assignment(&assignment)?;
            stage.start_proxy()?;
        }
        if walls.runner {
            stage.start_runner()?;
        }
        Ok(stage)
    }

    /// Runs a program as the workload: as root, or as `user`.
    pub fn attack(&self, user: Option<&str>, argv: &[&str]) -> anyhow::Result<Outcome> {
        let mark = self.internet.mark();
        let (code, stdout, stderr) = if self.walls.runner {
            self.by_runner(user, argv)?
        } else {
            self.by_root(user, argv)?
        };
        Ok(Outcome {
            text: String::from_utf8_lossy(&stdout).into_owned(),
            errors: String::from_utf8_lossy(&stderr).into_owned(),
            code,
            seen: self.internet.since(mark)?,
        })
    }

    fn by_runner(
        &self,
        user: Option<&str>,
        argv: &[&str],
    ) -> anyhow::Result<(Option<i32>, Vec<u8>, Vec<u8>)> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
        let request = Execute {
            exec: ExecId(Uuid::from_bytes(random)),
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            cwd: None,
            env: BTreeMap::new(),
            user: user.map(str::to_owned),
            stdin: false,
            limits: ExecLimits {
                wall_ms: 90_000,
                grace_ms: 200,
            },
            keep_survivors: false,
        };
        self.internet.place.run(async move {
            let mut events = runner_client().execute(&request).await?;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(event) = events.next().await? {
                match event {
                    Event::Output { stream, data, .. } => match stream {
                        Stream::Stdout => stdout.extend(STANDARD.decode(data)?),
                        Stream::Stderr => stderr.extend(STANDARD.decode(data)?),
                    },
                    Event::End(end) => {
                        stderr.extend(format!("\n[{:?}]", end.outcome).into_bytes());
                        return Ok((end.exit_code, stdout, stderr));
                    }
                    Event::Started { .. } | Event::Gap { .. } => {}
                }
            }
            bail!("the execution has no end")
        })
    }

    fn by_root(&self, user: Option<&str>, argv: &[&str]) -> anyhow::Result<(Option<i32>, Vec<u8>, Vec<u8>)> {
        let mut command = self.in_container(&[]);
        if let Some(user) = user {
            command.args(["setpriv", "--clear-groups", "--reuid", user, "--"]);
        }
        command.args(argv).stdout(Stdio::piped());
        let output = self.sandbox.run(async move { command.output().await })?;
        Ok((output.status.code(), output.stdout, output.stderr))
    }

    /// A command in process, mount and other namespaces of its own, in which the proxy's files are not to be seen.
    fn in_container(&self, options: &[&str]) -> Command {
        let script =
            "mount --bind \"$1\" /etc/resolv.conf && mount -t tmpfs none \"$2\" && shift 2 && exec \"$@\"";
        let mut command = self.contained(options);
        command
            .args(["sh", "-c", script, "sh"])
            .arg(self.path("resolv.conf"))
            .arg(self.path("proxy"));
        command
    }

    /// The same with everything to be seen. It dies with this process.
    fn contained(&self, options: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--kill-child",
                "--fork",
                "--pid",
                "--ipc",
            ])
            .args(["--uts", "--mount", "--mount-proc"])
            .args(options)
            .arg("--")
            .env_remove("SSL_CERT_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn write_resolver(&self) -> anyhow::Result<()> {
        let server = if self.walls.proxy {
            IpAddr::from([127, 0, 0, 1])
        } else {
            RESOLVER.into()
        };
        fs::write(
            self.path("resolv.conf"),
            format!("nameserver {server}\noptions timeout:2 attempts:1\n"),
        )?;
        fs::create_dir_all(self.path("proxy/state"))?;
        Ok(())
    }

    /// Runs init-iptables again, as an engine would.
    pub fn write_rules(&self) -> anyhow::Result<String> {
        fs::write(self.path("init.json"), r#"{"hold":false,"backend":"auto"}"#)?;
        let mut init = Command::new(program("assay-init-iptables")?);
        init.arg("--config").arg(self.path("init.json"));
        let output = self.sandbox.run(async move { init.output().await })?;
        ensure!(
            output.status.success(),
            "init: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command of the operator's in the sandbox's network namespace, with every right.
    pub fn operator(&self, line: &str) -> anyhow::Result<String> {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        let output = self.sandbox.run(async move { command.output().await })?;
        ensure!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What the proxy of the stage is told.
    fn assignment(&self) -> anyhow::Result<ProxyAssignment> {
        let signer = Signer::new(&SEED);
        let prices: assay_core::price::PriceTable = toml::from_str(&super::internet::web::prices())?;
        let model_host = |host: &str, address: Value| {
            json!({
                "host": host, "base_path": "/api/v1", "dialect": "open_router", "models": ["test/small"],
                "credential": "sk-stage-real-credential", "address": address, "ca_pem": self.internet.model.root_pem,
            })
        };
        let hosts = json!([
            "allowed.example",
            "other.example",
            "*.wild.example",
            "rebind.example",
            "metadata.example",
            "private.example",
            "loopback.example",
            "mapped.example",
            "nat64.example",
            "unique.example",
            "mixed.example",
            "nowhere.example",
        ]);
        Ok(serde_json::from_value(json!({
            "sandbox": sandbox_id(), "run": "01900000-0000-7000-8000-000000000002", "fence": FENCE,
            "public_key": signer.public_key(), "mac_key": hex(&signer.mac_key()),
            "egress": {
                "setup": {"mode": "public"},
                "agent": {"mode": "hosts", "hosts": hosts},
                "verify": {"mode": "none"},
            },
            "phase": "agent",
            "purses": {"agent": {
                "budget": "1000", "models": ["test/small"],
                "max_requests": 1_000_000, "max_tokens": 1_000_000_000_u64, "max_parallel": 64,
            }},
            "upstreams": [
                model_host("models.example.com", json!(MODEL_SERVICE)),
                model_host("broken.example.com", Value::Null),
            ],
            "prices": prices.models, "price_version": prices.version,
            "resolvers": [SocketAddr::new(RESOLVER.into(), 53)],
        }))?)
    }

    fn write_assignment(&self, assignment: &ProxyAssignment) -> anyhow::Result<()> {
        fs::write(
            self.path("proxy/assignment.json"),
            serde_json::to_vec(assignment)?,
        )?;
        for path in ["proxy", "proxy/state", "proxy/assignment.json"] {
            std::os::unix::fs::chown(self.path(path), Some(PROXY_UID), Some(PROXY_UID))?;
        }
        Ok(())
    }

    /// Starts the proxy, and waits until it answers.
    pub fn start_proxy(&mut self) -> anyhow::Result<()> {
        let id = PROXY_UID.to_string();
        let mut command = self.contained(&[]);
        command
            .args([
                "setpriv",
                "--reuid",
                &id,
                "--regid",
                &id,
                "--clear-groups",
                "--no-new-privs",
            ])
            // Once more: a change of user forgets it.
            .args([
                "--bounding-set",
                "-all",
                "--inh-caps",
                "-all",
                "--pdeathsig",
                "KILL",
                "--",
            ])
            .arg(program("assay-proxy")?)
            .arg("--assignment")
            .arg(self.path("proxy/assignment.json"))
            .arg("--state")
            .arg(self.path("proxy/state"))
            .stderr(fs::File::create(self.path("proxy.log"))?);
        self.spawn("proxy", command)?;
        self.until("proxy", || async { proxy_client().health().await.is_ok() })
    }

    fn start_runner(&mut self) -> anyhow::Result<()> {
        let config = RunnerConfig {
            sandbox: sandbox_id(),
            public_key: Signer::new(&SEED).public_key(),
            fence: FENCE,
            proxy: self.walls.proxy,
            max_pids: 4_000,
        };
        fs::write(self.path("runner.json"), serde_json::to_vec(&config)?)?;
        let mut command = self.in_container(&[]);
        command
            .args([
                "setpriv",
                "--bounding-set",
                MAIN_CAPABILITIES,
                "--inh-caps",
                "-all",
                "--",
            ])
            .arg(program("assay-runner")?)
            .args(["serve", "--config"])
            .arg(self.path("runner.json"))
            .arg("--trust")
            .arg(self.path("trust"))
            .stderr(fs::File::create(self.path("runner.log"))?);
        self.spawn("runner", command)?;
        self.until("runner", || async {
            runner_client().health().await.is_ok_and(|health| health.ready)
        })
    }

    fn spawn(&mut self, name: &'static str, mut command: Command) -> anyhow::Result<()> {
        let child = self.sandbox.within(move || command.spawn()).context(name)?;
        self.processes.push(Process { name, child });
        Ok(())
    }

    fn until<F>(&self, name: &str, ready: impl Fn() -> F + Send + 'static) -> anyhow::Result<()>
    where
        F: Future<Output = bool> + Send,
    {
        let wait = async move {
            while !ready().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = self
            .internet
            .place
            .run(async move { tokio::time::timeout(PATIENCE, wait).await });
        waited.map_err(|_| {
            let log = fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
            anyhow::anyhow!("the {name} did not get ready: {log}")
        })
    }

    /// The process of the proxy itself, as its container's engine sees it.
    pub fn proxy_pid(&self) -> anyhow::Result<u32> {
        let process = self
            .processes
            .iter()
            .rfind(|process| process.name == "proxy")
            .context("no proxy")?;
        let outer = process.child.id().context("the proxy has ended")?;
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
        Ok(children.trim().parse()?)
    }

    /// Kills the proxy with SIGKILL and waits for its end.
    pub fn kill_proxy(&mut self) -> anyhow::Result<()> {
        let at = self
            .processes
            .iter()
            .rposition(|process| process.name == "proxy")
            .context("no proxy")?;
        let mut process = self.processes.remove(at);
        self.sandbox.run(async move { process.child.kill().await })?;
        Ok(())
    }

    /// The proxy's audit so far.
    pub fn audit(&self) -> anyhow::Result<Vec<AuditLine>> {
        let text = self
            .internet
            .place
            .run(async { whole(|from| async move { proxy_client().audit(from).await }).await })?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The proxy's account.
    pub fn ledger(&self) -> anyhow::Result<Ledger> {
        Ok(self.internet.place.run(async { proxy_client().ledger().await })?)
    }

    /// What the proxy counted.
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(self
            .internet
            .place
            .run(async { proxy_client().metrics().await })?)
    }

    /// Lets the proxy connect to these addresses.
    pub fn probe(&self, addresses: &[&str]) -> anyhow::Result<Vec<bool>> {
        let addresses = addresses
            .iter()
            .map(|address| address.parse())
            .collect::<Result<_, _>>()?;
        let probe = Probe {
            addresses,
            patience_ms: 500,
        };
        Ok(self
            .internet
            .place
            .run(async move { proxy_client().probe(&probe).await })?
            .connected)
    }

    /// Switches the phase.
    pub fn switch(&self, phase: EgressPhase) -> anyhow::Result<()> {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst);
        self.internet
            .place
            .run(async move { proxy_client().switch(generation, phase).await })?;
        Ok(())
    }

    /// What the proxy answers to a question for its health.
    pub fn proxy_answer(&self) -> anyhow::Result<Health> {
        let asked = async { tokio::time::timeout(Duration::from_secs(1), proxy_client().health()).await };
        Ok(self.internet.place.run(asked)??)
    }

    /// Waits until the proxy has found out by itself that it must serve nobody.
    pub fn until_unprotected(&self) -> anyhow::Result<()> {
        self.until("proxy", || async {
            proxy_client().health().await.is_ok_and(|health| !health.serving)
        })
    }

    /// Waits until the runner takes nothing more.
    pub fn until_idle(&self) -> anyhow::Result<()> {
        self.until("runner", || async {
            runner_client().health().await.is_ok_and(|health| !health.ready)
        })
    }

    /// What a program of the sandbox wrote to standard error.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// A file of the stage; `proxy/…` is not to be seen by the workload.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.folder.path().join(Path::new(name.as_ref()))
    }
}

/// The control plane's way to the proxy; use it at the internet's place.
pub fn proxy_client() -> ProxyClient {
    let address = SocketAddr::new(SANDBOX.into(), port::PROXY);
    ProxyClient::new(address, sandbox_id(), FENCE, &SEED)
}

/// The control plane's way to the runner; use it at the internet's place.
pub fn runner_client() -> RunnerClient {
    let address = SocketAddr::new(SANDBOX.into(), port::RUNNER);
    RunnerClient::new(address, sandbox_id(), FENCE, &SEED)
}

async fn whole<F, E>(read: impl Fn(u64) -> F) -> anyhow::Result<String>
where
    F: Future<Output = Result<bytes::Bytes, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut all = Vec::new();
    loop {
        let part = read(all.len() as u64).await?;
        if part.is_empty() {
            return Ok(String::from_utf8(all)?);
        }
        all.extend(part);
    }
}

/// Where the static programs of a sandbox are: `ASSAY_SANDBOX_BIN`, as for every other suite.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("ASSAY_SANDBOX_BIN").context("ASSAY_SANDBOX_BIN")?;
    let path = PathBuf::from(folder).join(name);
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}

fn sandbox_id() -> SandboxId {
    SandboxId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001))
}

fn open_to_all(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

const SEED: [u8; 32] = [7; 32];
const FENCE: Fence = Fence(1);
const PATIENCE: Duration = Duration::from_secs(20);
/// What the container of a task keeps (DESIGN: main).
const MAIN_CAPABILITIES: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,\
    +net_bind_service,+sys_chroot,+mknod,+audit_write,+setfcap";
