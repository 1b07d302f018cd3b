//! The sandbox's side: init-iptables, proxy and runner as an engine starts them, and attacks as their workload.

mod attack;
mod control;
mod disk;

use std::{
    ffi::OsStr,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::AtomicU64,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use assay_core::{
    control::{proxy::ProxyAssignment, runner::RunnerConfig, signature::Signer},
    egress::PROXY_UID,
    id::{Fence, SandboxId},
};
use tokio::process::{Child, Command};
use uuid::Uuid;

pub use self::{
    attack::Outcome,
    control::{Kept, proxy_client, runner_client},
};
use super::{Internet, Place, address::RESOLVER, namespace};
use crate::folder::Passing;

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

/// What the workload finds as its image's trust store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// This machine's.
    Plain,
    /// This machine's and the root of the stage's sites, as if that were a public one.
    TrustsSites,
}

/// The whole stage.
#[derive(Debug)]
pub struct Stage {
    /// The other side.
    pub internet: Internet,
    walls: Walls,
    image: Image,
    sandbox: Place,
    folder: Passing,
    processes: Vec<Process>,
    generation: AtomicU64,
}

#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
}

impl Stage {
    /// Starts everything that `walls` name. `change` changes the proxy's assignment.
    pub fn start(walls: Walls, change: impl FnOnce(&mut ProxyAssignment)) -> anyhow::Result<Self> {
        Self::start_in(Image::Plain, walls, change)
    }

    /// The same, in another image.
    pub fn start_in(
        image: Image,
        walls: Walls,
        change: impl FnOnce(&mut ProxyAssignment),
    ) -> anyhow::Result<Self> {
        let (sandbox, outside) = (Place::new()?, Place::new()?);
        namespace::connect(&sandbox, &outside)?;
        let internet = Internet::start(outside)?;
        let folder = Passing::open("assay-stage")?;
        let mut stage = Self {
            internet,
            walls,
            image,
            sandbox,
            folder,
            processes: Vec::new(),
            generation: AtomicU64::new(1),
        };
        stage.write_resolver()?;
        stage.write_roots()?;
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
            stage.start_runner(None)?;
        }
        Ok(stage)
    }

    /// A command in process, mount and other namespaces of its own, in which the proxy's files are not to be seen.
    fn in_container(&self, options: &[&str]) -> Command {
        let roots = match self.image {
            Image::Plain => String::new(),
            Image::TrustsSites => format!("mount --bind \"$3\" {ROOTS} && "),
        };
        let script = format!(
            "mount --bind \"$1\" /etc/resolv.conf && mount -t tmpfs none \"$2\" && {roots} shift 3 && exec \"$@\""
        );
        let mut command = self.contained(options);
        command
            .args(["sh", "-c", &script, "sh"])
            .arg(self.path("resolv.conf"))
            .arg(self.path("proxy"))
            .arg(self.path("roots.pem"));
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
            format!("nameserver {server}\noptions timeout:10 attempts:1\n"),
        )?;
        fs::create_dir_all(self.path("proxy/state"))?;
        Ok(())
    }

    fn write_roots(&self) -> anyhow::Result<()> {
        if self.image == Image::TrustsSites {
            let machine = fs::read_to_string(ROOTS).context(ROOTS)?;
            fs::write(self.path("roots.pem"), machine + &self.internet.root_pem)?;
        }
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

    /// Starts the proxy on a stage without one, and waits until it answers.
    pub fn add_proxy(&mut self) -> anyhow::Result<()> {
        self.walls.proxy = true;
        let assignment = self.assignment()?;
        self.write_assignment(&assignment)?;
        self.start_proxy()
    }

    /// Starts the runner on a stage without one. It takes its root from whoever answers at `proxy`.
    pub fn add_runner(&mut self, proxy: SocketAddr) -> anyhow::Result<()> {
        self.start_runner(Some(proxy))
    }

    fn start_runner(&mut self, proxy: Option<SocketAddr>) -> anyhow::Result<()> {
        self.begin_runner(proxy)?;
        self.until_ready()
    }

    /// Starts the runner on a stage that may have no walls yet, and waits for nothing.
    pub fn begin_runner(&mut self, proxy: Option<SocketAddr>) -> anyhow::Result<()> {
        self.walls.runner = true;
        let config = RunnerConfig {
            sandbox: sandbox_id(),
            public_key: Signer::new(&SEED).public_key(),
            fence: FENCE,
            proxy: self.walls.proxy || proxy.is_some(),
            max_pids: 4_000,
            services: Vec::new(),
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
            .args(
                proxy
                    .iter()
                    .flat_map(|proxy| ["--proxy".to_owned(), proxy.to_string()]),
            )
            .stderr(fs::File::create(self.path("runner.log"))?);
        self.spawn("runner", command)
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
            let log = fs::read_to_string(self.path(format!("{name}.log"))).unwrap_or_default();
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

    /// Kills the proxy with SIGKILL, if it lives, and waits for its end.
    ///
    /// Its keeper ends once it has waited for it. Were the keeper killed, the proxy would hold its ports for a moment more.
    pub fn kill_proxy(&mut self) -> anyhow::Result<()> {
        if let Ok(pid) = self.proxy_pid() {
            // Somebody else may have been first.
            self.operator(&format!("kill -9 {pid} || true"))?;
        }
        let at = self
            .processes
            .iter()
            .rposition(|process| process.name == "proxy")
            .context("no proxy")?;
        let mut process = self.processes.remove(at);
        let ended = async move { tokio::time::timeout(PATIENCE, process.child.wait()).await };
        self.sandbox.run(ended)??;
        Ok(())
    }

    /// What a program of the sandbox wrote to standard error.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(format!("{name}.log"))).unwrap_or_default()
    }

    /// A file of the stage; `proxy/…` is not to be seen by the workload.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.folder.path().join(Path::new(name.as_ref()))
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

const SEED: [u8; 32] = [7; 32];
const FENCE: Fence = Fence(1);
/// Where Debian and its kin keep the roots.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
const PATIENCE: Duration = Duration::from_mins(2);
/// What the container of a task keeps (DESIGN: main).
const MAIN_CAPABILITIES: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,\
    +net_bind_service,+sys_chroot,+mknod,+audit_write,+setfcap";
