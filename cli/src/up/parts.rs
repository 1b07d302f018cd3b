//! The parts of an installation in one process, started from below and stopped from above.

use std::{future::Future, net::SocketAddr, path::Path, time::Duration};

use assay_core::{upstream::Secret, wire::people::Scope};
use assay_engine::{Engine as _, containers::Containers};
use assay_runtime::lifecycle::Signals;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    engine,
    objects::Objects,
    postgres::{self, Postgres},
    sandbox, screener,
    state::{Installation, PartsInWords, Running},
};
use crate::{api::Api, args::UpArgs, cmd::Context, error::Error, profile::Profile};

/// Everything that runs.
#[derive(Debug)]
pub struct Parts {
    database: Option<Postgres>,
    objects: Option<Objects>,
    api: Server,
    screener: Server,
}

/// A task and what asks it to end.
#[derive(Debug)]
struct Server {
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

impl Server {
    fn spawn<F>(serve: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(stop.clone()));
        Self { stop, task }
    }

    async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(Ok(())) => "it ended".to_owned(),
            Ok(Err(message)) => message,
            Err(error) => error.to_string(),
        }
    }

    async fn stop(self, name: &'static str) {
        self.stop.cancel();
        match tokio::time::timeout(GRACE, self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(message))) => tracing::warn!(name, message, "ended with a fault"),
            Ok(Err(error)) => tracing::debug!(name, %error, "ended before"),
            Err(_) => tracing::warn!(name, "did not end in time"),
        }
    }
}

impl Parts {
    /// Starts everything. What is missing is told before anything is started.
    ///
    /// # Errors
    /// A part is missing or does not start.
    pub async fn start(context: &Context, args: &UpArgs, folder: &Path) -> Result<(Self, Running), Error> {
        let engine = engine::find(args.docker_host.as_deref()).await?;
        let programs = sandbox::find(args.sandbox_bin.as_deref())?;
        let mut installation = Installation::load_or_make(folder)?;
        installation.engine = Some(engine.socket.clone());
        installation.sandbox_bin = Some(programs.folder.clone());
        let (database, url, database_words) = database(args, folder).await?;
        let (objects, settings, objects_words) = objects(args, folder).await?;
        installation.owner = Some(migrated(&url).await?);
        let config = config(args, &installation, url.clone(), settings);
        let (api, address) = serve_api(args, config).await?;
        let base = format!("http://{address}");
        let worker = keys(&url, &mut installation, &base, folder).await?;
        let config = screener::config(args, base.clone(), Secret::new(worker), folder)?;
        let (socket, binaries) = (engine.socket.clone(), programs.folder.clone());
        let screener = Server::spawn(|stop| screener::serve(config, stop, socket, binaries));
        let profile = profile(context, &installation, &base)?;
        let slots = args.slots;
        let parts = PartsInWords {
            database: database_words,
            objects: objects_words,
            screener: format!("class {}, {slots} at a time, on {}", args.class, engine.version),
            profile,
        };
        let running = Running {
            pid: std::process::id(),
            api: base,
            parts,
        };
        Ok((
            Self {
                database,
                objects,
                api,
                screener,
            },
            running,
        ))
    }

    /// Waits until a signal asks for the end, or until a part ends that should not.
    ///
    /// # Errors
    /// A part ended.
    pub async fn watch(&mut self, signals: &mut Signals) -> Result<(), Error> {
        let Self { api, screener, .. } = self;
        tokio::select! {
            _ = signals.next() => Ok(()),
            why = api.ended() => Err(Error::Unavailable(format!("the API ended: {why}"))),
            why = screener.ended() => Err(Error::Unavailable(format!("the screener ended: {why}"))),
        }
    }

    /// Stops everything: the screener first, because it hands its leases back through the API.
    pub async fn stop(self) {
        self.screener.stop("screener").await;
        self.api.stop("api").await;
        if let Some(objects) = self.objects {
            objects.stop().await;
        }
        if let Some(database) = self.database {
            database.stop().await;
        }
    }
}

/// Removes every sandbox of an installation that is gone.
///
/// # Errors
/// The engine does not answer, or refuses.
pub async fn remove_sandboxes(installation: &Installation) -> Result<(), Error> {
    let (Some(socket), Some(owner), Some(folder)) = (
        &installation.engine,
        &installation.owner,
        &installation.sandbox_bin,
    ) else {
        return Ok(());
    };
    let failed = |error: assay_engine::Error| {
        Error::Unavailable(format!(
            "cannot remove sandboxes: {error}; start the container engine and try again"
        ))
    };
    let engine = containers(socket, owner, folder).await?;
    for listed in engine.list().await.map_err(failed)? {
        engine.destroy(&listed.name).await.map_err(failed)?;
    }
    Ok(())
}

async fn database(args: &UpArgs, folder: &Path) -> Result<(Option<Postgres>, String, String), Error> {
    if let Some(url) = &args.database_url {
        return Ok((None, url.clone(), "the one of DATABASE_URL".to_owned()));
    }
    let programs = postgres::programs(args.postgres_bin.as_deref())?;
    let home = folder.join("postgres");
    let postgres = Postgres::start(&programs, &home).await?;
    let url = postgres.url();
    Ok((
        Some(postgres),
        url,
        format!("private PostgreSQL in {}", home.display()),
    ))
}

async fn objects(
    args: &UpArgs,
    folder: &Path,
) -> Result<(Option<Objects>, assay_api::ObjectSettings, String), Error> {
    let s3 = &args.s3;
    let settings = |endpoint: &str, access: &str, secret: &str| assay_api::ObjectSettings {
        s3_endpoint: endpoint.to_owned(),
        s3_public_endpoint: None,
        s3_bucket: s3.s3_bucket.clone(),
        s3_access_key: access.to_owned(),
        s3_secret_key: secret.to_owned(),
        s3_region: s3.s3_region.clone(),
    };
    match (&s3.s3_endpoint, &s3.s3_access_key, &s3.s3_secret_key) {
        (Some(endpoint), Some(access), Some(secret)) => {
            let words = format!("bucket {} at {endpoint}", s3.s3_bucket);
            Ok((None, settings(endpoint, access, secret), words))
        }
        (Some(_), ..) => Err(Error::Config(
            "S3_ENDPOINT is given without S3_ACCESS_KEY and S3_SECRET_KEY; give all three or none".to_owned(),
        )),
        (None, ..) => {
            let home = folder.join("objects");
            let objects = Objects::start(&home, &s3.s3_bucket).await?;
            let endpoint = format!("http://{}", objects.address);
            let settings = settings(&endpoint, &objects.access_key, &objects.secret_key);
            Ok((Some(objects), settings, format!("folder {}", home.display())))
        }
    }
}

/// Brings the database up to date and returns the installation's id.
async fn migrated(url: &str) -> Result<String, Error> {
    let failed =
        |error: assay_api::store::Error| Error::Unavailable(format!("database: {error}; check DATABASE_URL"));
    let pool = assay_api::connect(url, 1).await.map_err(failed)?;
    assay_api::migrate(&pool).await.map_err(failed)?;
    let owner = assay_api::store::installation(&pool).await.map_err(failed)?;
    pool.close().await;
    Ok(owner)
}

fn config(
    args: &UpArgs,
    installation: &Installation,
    database_url: String,
    objects: assay_api::ObjectSettings,
) -> assay_api::Config {
    assay_api::Config {
        database: assay_api::Database {
            database_url,
            database_connections: 24,
        },
        objects,
        worker_tokens: assay_api::WorkerTokens::default(),
        listen: SocketAddr::from(([127, 0, 0, 1], args.port)),
        listen_internal: SocketAddr::from(([127, 0, 0, 1], 0)),
        pending_work_token: None,
        upstreams: args.upstreams.clone(),
        seal_key: Some(installation.seal_key.expose().to_owned()),
        seal_key_file: None,
        require_same_commit: false,
        source_dir: None,
        lease_ms: 60_000,
        beat_ms: 1_000,
        slots_per_worker: args.slots,
        max_workers: 1,
        max_archive_bytes: 512 << 20,
    }
}

/// Serves the API on the first free port.
async fn serve_api(args: &UpArgs, mut config: assay_api::Config) -> Result<(Server, SocketAddr), Error> {
    let last = args.port.saturating_add(PORTS_TRIED);
    loop {
        match assay_api::Server::bind(config.clone()).await {
            Ok(bound) => {
                let addresses = bound.addresses();
                let (address, _) = addresses.map_err(|error| Error::Unavailable(format!("API: {error}")))?;
                let serve = |stop| async move { bound.run(stop).await.map_err(|error| error.to_string()) };
                return Ok((Server::spawn(serve), address));
            }
            Err(assay_api::Error::Listen { address, .. })
                if address == config.listen && address.port() < last =>
            {
                config.listen.set_port(address.port() + 1);
            }
            Err(error @ assay_api::Error::Catalogue(_)) => return Err(Error::Config(error.to_string())),
            Err(error) => return Err(Error::Unavailable(format!("API: {error}"))),
        }
    }
}

/// The worker's key. Keys are made once; those of another database are replaced.
async fn keys(
    url: &str,
    installation: &mut Installation,
    base: &str,
    folder: &Path,
) -> Result<String, Error> {
    if let (Some(admin), Some(worker)) = (&installation.admin_key, &installation.worker_key) {
        let api = Api::new(Profile::new(base, admin.expose())?);
        if api.evaluations(1).await.is_ok() {
            let worker = worker.expose().to_owned();
            installation.store(folder)?;
            return Ok(worker);
        }
    }
    let failed = |error: &dyn std::fmt::Display| Error::Unavailable(format!("cannot make a key: {error}"));
    let pool = assay_api::connect(url, 1).await.map_err(|error| failed(&error))?;
    let key = async |name, scope| {
        assay_api::create_key(&pool, "default", name, scope)
            .await
            .map_err(|error| failed(&error))
    };
    let (admin, worker) = (
        key("assay up", Scope::Admin).await?,
        key("screener", Scope::Worker).await?,
    );
    pool.close().await;
    installation.admin_key = Some(Secret::new(admin));
    installation.worker_key = Some(Secret::new(worker.clone()));
    installation.store(folder)?;
    Ok(worker)
}

fn profile(context: &Context, installation: &Installation, base: &str) -> Result<String, Error> {
    let path = context.places.profile(&context.global.profile);
    let key = installation.admin_key.as_ref().map_or("", Secret::expose);
    Profile::new(base, key)?.store(&path)?;
    Ok(path.display().to_string())
}

async fn containers(socket: &Path, owner: &str, folder: &Path) -> Result<Containers, Error> {
    let connected = screener::connect(socket.to_owned(), owner.to_owned(), folder.to_owned()).await;
    connected.map_err(|error| {
        Error::Unavailable(format!("container engine: {error}; `assay doctor` looks closer"))
    })
}

/// Longest wait for one part to end.
const GRACE: Duration = Duration::from_secs(25);
const PORTS_TRIED: u16 = 100;
