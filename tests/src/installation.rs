//! A whole installation in this process, from the parts that `assay up` starts: PostgreSQL, objects, API, screener.
//!
//! Two replicas of the API serve it: people speak to the first, the screener to the second. The scripted model service
//! stands for the world outside.

mod engine;
pub mod files;
mod runs;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use assay_api::{Config, Database, ObjectSettings, Server};
use assay_cli::{
    api::Api,
    profile::Profile,
    up::{
        objects::{Door, Objects, random_hex},
        postgres::{self, Postgres},
    },
};
use assay_core::{
    upstream::{Dialect, Secret},
    wire::people::Scope,
};
use assay_engine::containers::{Binaries, Containers, Settings as EngineSettings};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::{engine::Docker, files::Files};
pub use crate::person::{Ended, Order};
use crate::{
    model::{Model, Offer, Script},
    person::Person,
};

/// The model that installations offer.
pub const MODEL: &str = "assay-test/scripted";
/// An archive that is larger is refused.
pub const MAX_ARCHIVE_BYTES: u64 = 32 << 20;

/// What an installation is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The container engine's socket.
    pub socket: PathBuf,
    /// The folder with our static programs.
    pub programs: PathBuf,
    /// Runs at the same time.
    pub slots: u32,
}

/// A running installation. [`Installation::stop`] ends it.
#[derive(Debug)]
pub struct Installation {
    /// Somebody with an admin key.
    pub person: Person,
    /// The engine, looked at from outside.
    pub docker: Docker,
    /// The model service.
    pub model: Model,
    setup: Setup,
    folder: tempfile::TempDir,
    postgres: Postgres,
    objects: Option<Objects>,
    door: Door,
    stop: CancellationToken,
    replicas: Vec<JoinHandle<Result<(), assay_api::Error>>>,
    screener: JoinHandle<Result<(), assay_screener::Error>>,
}

impl Setup {
    /// From `variable`, which names the engine's socket, and `ASSAY_SANDBOX_BIN`; `Err` says what is missing.
    pub fn from_env(variable: &str) -> Result<Self, String> {
        let path = |name: &str, what: &str| {
            let value = std::env::var_os(name).map(PathBuf::from);
            value.ok_or_else(|| format!("{name} ({what}) is not set"))
        };
        let setup = Self {
            socket: path(variable, "an engine's socket")?,
            programs: path("ASSAY_SANDBOX_BIN", "our static programs")?,
            slots: 8,
        };
        match postgres::programs(None) {
            Ok(_) => Ok(setup),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// An installation is there to be used by somebody.
impl std::ops::Deref for Installation {
    type Target = Person;

    fn deref(&self) -> &Person {
        &self.person
    }
}

impl Installation {
    /// Starts everything.
    pub async fn start(setup: Setup) -> anyhow::Result<Self> {
        let folder = crate::folder::open("assay-suite-")?;
        let docker = Docker::new(&setup.socket);
        let (model, upstreams) = model(&docker, folder.path()).await?;
        let postgres = Postgres::start(&postgres::programs(None)?, &folder.path().join("postgres")).await?;
        let (objects, door) = objects(&folder.path().join("objects")).await?;
        let (admin, worker) = keys(&postgres.url()).await?;
        let stop = CancellationToken::new();
        let mut replicas = Vec::new();
        let mut addresses = Vec::new();
        let config = config(postgres.url(), &door, upstreams, setup.slots)?;
        for _ in 0..2 {
            let server = Server::bind(config.clone()).await?;
            addresses.push(format!("http://{}", server.addresses()?.0));
            replicas.push(tokio::spawn(server.run(stop.clone())));
        }
        let [people, workers] = <[String; 2]>::try_from(addresses).ok().context("two replicas")?;
        let screener = screener(&setup, workers, worker, folder.path(), stop.clone());
        Ok(Self {
            person: Person {
                api: Api::new(Profile::new(&people, &admin)?),
            },
            docker,
            model,
            setup,
            folder,
            postgres,
            objects: Some(objects),
            door,
            stop,
            replicas,
            screener,
        })
    }

    /// The same API for somebody with another key.
    pub fn api_with_key(&self, key: &str) -> anyhow::Result<Api> {
        Ok(Api::new(Profile::new(self.api.address(), key)?))
    }

    /// Where the object store keeps its files.
    pub fn objects_folder(&self) -> PathBuf {
        self.folder.path().join("objects").join(BUCKET)
    }

    /// The engine's socket.
    pub fn socket(&self) -> &Path {
        &self.setup.socket
    }

    /// Ends the object store. Requests under way end first.
    pub async fn stop_objects(&mut self) {
        if let Some(objects) = self.objects.take() {
            objects.stop().await;
        }
    }

    /// Starts the object store again, at the same address with the same keys.
    pub async fn start_objects(&mut self) -> anyhow::Result<()> {
        let folder = self.folder.path().join("objects");
        self.objects = Some(Objects::start_at(&folder, BUCKET, self.door.clone()).await?);
        Ok(())
    }

    /// Ends everything: the screener first, because it hands its leases back.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.screener.await??;
        for replica in self.replicas {
            replica.await??;
        }
        if let Some(objects) = self.objects {
            objects.stop().await;
        }
        self.postgres.stop().await;
        Ok(())
    }
}

/// The scripted service where sandboxes reach this machine, and the file that tells the API about it.
async fn model(docker: &Docker, folder: &Path) -> anyhow::Result<(Model, PathBuf)> {
    let gateway = docker.gateway().await?;
    let offer = Offer {
        host: "models.assay-test.example".to_owned(),
        model: MODEL.to_owned(),
        dialect: Dialect::OpenRouter,
        key: format!("scripted-{}", random_hex(16)?),
    };
    // Some engines make their bridge with the first container only; then the service listens everywhere.
    let near = offer.settings(SocketAddr::from((gateway, 0)), Script::default())?;
    let model = match Model::start(near).await {
        Ok(model) => model,
        Err(_) => {
            let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            Model::start(offer.settings(everywhere, Script::default())?).await?
        }
    };
    let path = folder.join("upstreams.toml");
    offer
        .catalogue(&model, SocketAddr::new(IpAddr::V4(gateway), model.address.port()))?
        .store(&path)?;
    Ok((model, path))
}

/// The object store, on a port that is given to nobody by chance: one that is started again must come back to its own, and one
/// that was merely free is somebody else's by then.
async fn objects(folder: &Path) -> anyhow::Result<(Objects, Door)> {
    let mut door = Door::new()?;
    let mut last = None;
    for _ in 0..OBJECT_PORTS {
        door.address.set_port(own_port());
        match Objects::start_at(folder, BUCKET, door.clone()).await {
            Ok(objects) => return Ok((objects, door)),
            Err(error) => last = Some(error),
        }
    }
    bail!("no port is left for an object store: {last:?}")
}

/// Below those that connections and servers without a wish are given. Of this process alone, and each of them once.
fn own_port() -> u16 {
    static USED: AtomicU16 = AtomicU16::new(0);
    let [low, ..] = std::process::id().to_le_bytes();
    let number = USED.fetch_add(1, Ordering::Relaxed) % OBJECT_PORTS;
    FIRST_OBJECT_PORT + u16::from(low % PROCESSES) * OBJECT_PORTS + number
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

fn config(database_url: String, door: &Door, upstreams: PathBuf, slots: u32) -> anyhow::Result<Config> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(Config {
        database: Database {
            database_url,
            database_connections: 24,
        },
        objects: ObjectSettings {
            s3_endpoint: format!("http://{}", door.address),
            s3_public_endpoint: None,
            s3_bucket: BUCKET.to_owned(),
            s3_access_key: door.access_key.clone(),
            s3_secret_key: door.secret_key.clone(),
            s3_region: "us-east-1".to_owned(),
        },
        worker_tokens: assay_api::WorkerTokens::default(),
        listen: anywhere,
        listen_internal: anywhere,
        pending_work_token: None,
        upstreams: Some(upstreams),
        seal_key: Some(random_hex(32)?),
        seal_key_file: None,
        require_same_commit: true,
        source_dir: None,
        lease_ms: 60_000,
        beat_ms: 1_000,
        slots_per_worker: slots,
        max_workers: 1,
        max_archive_bytes: MAX_ARCHIVE_BYTES,
    })
}

fn screener(
    setup: &Setup,
    api: String,
    key: String,
    folder: &Path,
    stop: CancellationToken,
) -> JoinHandle<Result<(), assay_screener::Error>> {
    let config = assay_screener::Config {
        slots: setup.slots,
        longest_poll: Duration::from_millis(250),
        ..assay_screener::Config::new(api, Secret::new(key), folder.join("work"))
    };
    let (socket, binaries) = (setup.socket.clone(), Binaries::in_folder(&setup.programs));
    let connect = |owner: String| async move {
        let settings = EngineSettings {
            socket,
            owner,
            binaries,
        };
        Containers::connect(&settings).await
    };
    tokio::spawn(assay_screener::run(config, stop, connect))
}

const BUCKET: &str = "assay";
const FIRST_OBJECT_PORT: u16 = 20_000;
/// For each process.
const OBJECT_PORTS: u16 = 100;
/// So many differ, then their ports come again.
const PROCESSES: u8 = 100;
