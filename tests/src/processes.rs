//! An installation of real processes that a suite may kill: PostgreSQL, two replicas of the API, two screeners, the
//! scripted model, and a ground for the sandboxes: a container daemon of its own, or a cluster that is there already. What
//! a supervisor would do, the suite does: it starts them again.

mod child;
mod cluster;
mod daemon;
mod faulty;
mod front;
mod gate;
mod node;
mod outside;
mod skewed;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use assay_cli::{
    api::Api,
    profile::Profile,
    up::{
        objects::{Objects, random_hex},
        postgres::{self, Postgres},
    },
};
use assay_core::wire::people::Scope;

pub use self::{
    child::Part,
    cluster::Cluster,
    daemon::Daemon,
    faulty::{Fault, Faulty},
    front::{Front, Hold},
    gate::Gate,
    node::Node,
    outside::Outside,
};

/// The model that the installation offers.
pub const MODEL: &str = "assay-test/scripted";

/// The programs that the suite was built with.
#[derive(Debug, Clone)]
pub struct Programs {
    /// API and screener.
    pub part: PathBuf,
    /// The scripted model.
    pub model: PathBuf,
    /// The folder of the static programs of a sandbox.
    pub sandbox: PathBuf,
    /// Seconds that the database's clock is ahead of this machine's.
    pub database_ahead_sec: i64,
}

/// Where the sandboxes of an installation are.
pub trait Ground {
    /// The address of this machine that sandboxes can be let to.
    fn gateway(&self) -> &str;

    /// Lets agents come to the model service on this port there.
    fn let_to_model(&self, port: u16) -> anyhow::Result<()>;

    /// Says to a screener where its sandboxes are.
    fn tell(&self, screener: &mut Part, programs: &Programs);

    /// What the ground itself printed last; empty where somebody else keeps that.
    fn log(&self) -> String {
        String::new()
    }
}

/// A running installation.
#[derive(Debug)]
pub struct Installation<G = Daemon> {
    /// The API as a person with an admin key meets it, through the front.
    pub api: Api,
    /// What stands before the replicas.
    pub front: Front,
    /// Where the sandboxes are.
    pub ground: G,
    /// The replicas of the API.
    pub replicas: Vec<Part>,
    /// The screeners.
    pub screeners: Vec<Part>,
    /// Where the replicas listen.
    addresses: Vec<String>,
    postgres: Option<Postgres>,
    postgres_programs: PathBuf,
    admin_key: String,
    folder: tempfile::TempDir,
    programs: Programs,
    _objects: Objects,
    _model: Part,
}

impl Installation {
    /// Starts everything, with a container daemon of its own. `Err` with a reason that begins with `missing:` where this
    /// machine lacks something.
    pub async fn start(programs: &Programs) -> anyhow::Result<Self> {
        let folder = crate::folder::open("assay-kill-")?;
        let daemon = Daemon::start(&folder.path().join("docker")).await?;
        Self::start_in(folder, daemon, programs).await
    }
}

impl<G: Ground> Installation<G> {
    /// Starts everything but the ground, which is there.
    pub async fn start_on(ground: G, programs: &Programs) -> anyhow::Result<Self> {
        Self::start_in(crate::folder::open("assay-kill-")?, ground, programs).await
    }

    async fn start_in(folder: tempfile::TempDir, ground: G, programs: &Programs) -> anyhow::Result<Self> {
        let (model, upstreams) = model(programs, &ground, folder.path()).await?;
        let postgres_programs = match programs.database_ahead_sec {
            0 => postgres::programs(None)?,
            ahead => skewed::postgres(&postgres::programs(None)?, folder.path(), ahead)?,
        };
        let postgres = Postgres::start(&postgres_programs, &folder.path().join("postgres")).await?;
        let objects = Objects::start(&folder.path().join("objects"), BUCKET).await?;
        let (admin, worker) = keys(&postgres.url()).await?;
        let seal = random_hex(32)?;
        let mut replicas = Vec::new();
        let mut addresses = Vec::new();
        for number in 0..2 {
            let address = own_address();
            let mut part = Part::new(&programs.part, &folder.path().join(format!("api-{number}.log")));
            part.args([
                "api",
                "serve",
                "--listen",
                &address,
                "--listen-internal",
                &own_address(),
            ])
            .args(["--lease-ms", &LEASE.as_millis().to_string(), "--beat-ms", "500"])
            .env("DATABASE_URL", postgres.url())
            .env("ASSAY_SEAL_KEY", &seal)
            .env("ASSAY_UPSTREAMS", &upstreams)
            .env("S3_ENDPOINT", format!("http://{}", objects.address))
            .env("S3_BUCKET", BUCKET)
            .env("S3_ACCESS_KEY", &objects.access_key)
            .env("S3_SECRET_KEY", &objects.secret_key);
            part.start()?;
            replicas.push(part);
            addresses.push(address);
        }
        for address in &addresses {
            listens(address).await?;
        }
        let urls = addresses.iter().map(|address| format!("http://{address}"));
        let front = Front::start(urls.collect()).await?;
        std::fs::write(folder.path().join(KEY_FILE), worker)?;
        let mut screeners = Vec::new();
        for number in 0..2 {
            let name = format!("screener-{number}");
            let mut part = screener((&name, &name), folder.path(), &front, programs)?;
            ground.tell(&mut part, programs);
            part.start()?;
            screeners.push(part);
        }
        Ok(Self {
            api: Api::new(Profile::new(front.url(), &admin)?),
            admin_key: admin,
            addresses,
            postgres_programs,
            front,
            ground,
            replicas,
            screeners,
            postgres: Some(postgres),
            folder,
            programs: programs.clone(),
            _objects: objects,
            _model: model,
        })
    }

    /// One more screener. Not started yet.
    pub fn another_screener(&self, name: &str) -> anyhow::Result<Part> {
        self.part_of((name, name))
    }

    /// One that calls itself as another does. Not started yet.
    pub fn twin_of(&self, name: &str) -> anyhow::Result<Part> {
        self.part_of((&format!("twin-of-{name}"), name))
    }

    fn part_of(&self, names: (&str, &str)) -> anyhow::Result<Part> {
        let mut part = screener(names, self.folder.path(), &self.front, &self.programs)?;
        self.ground.tell(&mut part, &self.programs);
        Ok(part)
    }

    /// Kills the screeners and starts others in their places, as the ground tells now.
    pub async fn renew_screeners(&mut self) -> anyhow::Result<()> {
        for screener in &mut self.screeners {
            screener.kill().await?;
        }
        for number in 0..self.screeners.len() {
            let mut part = self.another_screener(&format!("screener-{number}"))?;
            part.start()?;
            self.screeners[number] = part;
        }
        Ok(())
    }

    /// Waits until every replica answers again: what changes something is sent to one alone.
    pub async fn replicas_answer(&self) -> anyhow::Result<()> {
        for address in &self.addresses {
            listens(address).await?;
        }
        Ok(())
    }

    /// The key of an admin.
    pub fn admin_key(&self) -> &str {
        &self.admin_key
    }

    /// Kills the postmaster; its children end by themselves.
    pub fn kill_postgres(&self) -> anyhow::Result<()> {
        let pid_file = self.folder.path().join("postgres/data/postmaster.pid");
        let text = std::fs::read_to_string(&pid_file).context("postmaster.pid")?;
        child::kill(text.lines().next().unwrap_or_default())
    }

    /// Starts PostgreSQL again on its data, as often as that takes.
    pub async fn restart_postgres(&mut self) -> anyhow::Result<()> {
        self.postgres = None;
        let (programs, folder) = (
            self.postgres_programs.clone(),
            self.folder.path().join("postgres"),
        );
        let begun = Instant::now();
        self.postgres = loop {
            match Postgres::start(&programs, &folder).await {
                Ok(postgres) => break Some(postgres),
                Err(error) if begun.elapsed() > RESTARTS => bail!("PostgreSQL stays down: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        Ok(())
    }

    /// The lines of a query.
    pub async fn query(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        let url = self.postgres.as_ref().context("PostgreSQL is down")?.url();
        let psql = postgres::programs(None)?.join("psql");
        let asked = tokio::process::Command::new(psql)
            .args(["-X", "-tA", "-c", sql, &url])
            .output()
            .await?;
        if !asked.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&asked.stderr));
        }
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The end of every log, for a test that fails.
    pub fn logs(&self) -> String {
        let parts = self.replicas.iter().chain(&self.screeners);
        let mut logs: Vec<String> = parts.map(Part::log).collect();
        logs.push(self.ground.log());
        logs.join("\n")
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The command line of a screener, without its ground: where its files are, and what it calls itself.
fn screener(
    (files, name): (&str, &str),
    folder: &Path,
    front: &Front,
    programs: &Programs,
) -> anyhow::Result<Part> {
    let mut part = Part::new(&programs.part, &folder.join(format!("{files}.log")));
    part.args(["screener", "run", "--slots", "10"])
        .args(["--name", name])
        .args(["--listen", &own_address(), "--reconcile-sec", "5"])
        .env("ASSAY_API", front.url())
        .env("ASSAY_KEY_FILE", folder.join(KEY_FILE))
        .env("ASSAY_WORK_DIR", folder.join(format!("work-of-{files}")));
    Ok(part)
}

/// The model service where sandboxes reach this machine, and the file that tells the API about it.
async fn model<G: Ground>(programs: &Programs, ground: &G, folder: &Path) -> anyhow::Result<(Part, PathBuf)> {
    let (script, upstreams) = (folder.join("script.toml"), folder.join("upstreams.toml"));
    std::fs::write(&script, "")?;
    let mut model = Part::new(&programs.model, &folder.join("model.log"));
    model
        .args(["--listen", &format!("{}:0", ground.gateway()), "--model", MODEL])
        .args([
            "--host",
            "models.assay-test.example",
            "--script",
            &script.display().to_string(),
        ])
        .args(["--upstreams", &upstreams.display().to_string()]);
    model.start()?;
    let begun = Instant::now();
    while !upstreams.is_file() {
        if begun.elapsed() > RESTARTS {
            bail!("the model does not come up: {}", model.log());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ground.let_to_model(port_of(&upstreams)?)?;
    Ok((model, upstreams))
}

/// The port that the model service took.
fn port_of(upstreams: &Path) -> anyhow::Result<u16> {
    let told: toml::Table = std::fs::read_to_string(upstreams)?.parse()?;
    let address = told.get("upstreams").and_then(|all| all.get(0)?.get("address"));
    let address = address
        .and_then(toml::Value::as_str)
        .context("the model tells no address")?;
    Ok(address.parse::<SocketAddr>()?.port())
}

/// An admin's key and a worker's.
async fn keys(url: &str) -> anyhow::Result<(String, String)> {
    let pool = assay_api::connect(url, 1).await?;
    assay_api::migrate(&pool).await?;
    let admin = assay_api::create_key(&pool, "default", "suite", Scope::Admin).await?;
    let worker = assay_api::create_key(&pool, "default", "screener", Scope::Worker).await?;
    pool.close().await;
    Ok((admin, worker))
}

/// One of this process's own loopback addresses: a server that is started again must come back to its own, and a port
/// that was merely free a moment ago may be taken by a connection. The number of the process names a network of 254 hosts;
/// who comes after these gets the next port. 65536 addresses differ, then they come again.
fn own_address() -> String {
    static USED: AtomicU16 = AtomicU16::new(0);
    address_of(std::process::id(), USED.fetch_add(1, Ordering::Relaxed))
}

fn address_of(process: u32, number: u16) -> String {
    let [low, high, ..] = process.to_le_bytes();
    let (host, port) = (number % HOSTS + 1, PART_PORT + number / HOSTS);
    format!("127.{high}.{low}.{host}:{port}")
}

async fn listens(address: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if begun.elapsed() > RESTARTS {
            bail!("nobody listens on {address}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Long enough for a busy machine, short enough for a suite.
const LEASE: Duration = Duration::from_secs(5);
/// How long a supervisor tries.
const RESTARTS: Duration = Duration::from_mins(2);
const BUCKET: &str = "assay";
const KEY_FILE: &str = "worker.key";
/// The first port; it and the 258 after it are below those that connections take.
const PART_PORT: u16 = 18_000;
/// Neither a network's own address nor its broadcast.
const HOSTS: u16 = 254;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr};

    use super::*;

    #[test]
    fn every_part_of_a_process_has_an_address_of_its_own_below_the_ports_of_connections() {
        let addresses: BTreeSet<SocketAddr> = (0..=u16::MAX)
            .map(|number| address_of(u32::MAX, number).parse().unwrap())
            .collect();
        assert_eq!(addresses.len(), 1 << 16);
        for address in addresses {
            assert!(address.ip().is_loopback() && address.ip() != Ipv4Addr::new(127, 255, 255, 255));
            assert!((PART_PORT..32_768).contains(&address.port()), "{address}");
        }
    }
}
