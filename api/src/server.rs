//! One API server: connects, listens, serves until it is told to stop.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use http::Request;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    app::{App, Shared},
    catalogue::{self, Catalogue},
    config::Config,
    identity::{self, Doorkeeper},
    jobs,
    metrics::Metrics,
    objects::{self, Objects},
    pending,
    privacy::Watch,
    routes,
    seal::{self, SealKey},
    store,
    wake::{self, Wake},
};

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("database: {0}")]
    Store(#[from] store::Error),
    /// The object store.
    #[error("object store: {0}")]
    Objects(#[from] objects::Error),
    /// The file of model services.
    #[error(transparent)]
    Catalogue(#[from] catalogue::Error),
    /// The seal key.
    #[error("seal key: {0}")]
    Seal(#[from] seal::Error),
    /// No seal key was given.
    #[error(
        "seal key: give --seal-key-file or ASSAY_SEAL_KEY: 64 hexadecimal digits, the same on every replica"
    )]
    NoSealKey,
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The keys of the workers' tokens.
    #[error("worker tokens: {0}")]
    Tokens(#[from] identity::keys::Error),
    /// The limits cannot be written as JSON.
    #[error("limits: {0}")]
    Limits(#[from] serde_json::Error),
    /// A port cannot be listened to.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A listener broke.
    #[error("serving: {0}")]
    Serve(std::io::Error),
}

/// A server that listens but does not answer yet.
#[derive(Debug)]
pub struct Server {
    app: Shared,
    public: TcpListener,
    internal: TcpListener,
}

/// Prepares and runs a server until `stop`.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<(), Error> {
    Server::bind(config).await?.run(stop).await
}

impl Server {
    /// Connects, makes the bucket, listens. The database must be migrated.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let listen = async |address: SocketAddr| {
            let listener = TcpListener::bind(address).await;
            listener.map_err(|source| Error::Listen { address, source })
        };
        let (public, internal) = (
            listen(config.listen).await?,
            listen(config.listen_internal).await?,
        );
        let app = Arc::new(app(config).await?);
        Ok(Self {
            app,
            public,
            internal,
        })
    }

    /// Where it listens: for people and workers, and the internal port.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.public.local_addr()?, self.internal.local_addr()?))
    }

    /// Answers until `stop`, then lets the requests under way end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        let listeners = [
            (self.public, routes::public(Arc::clone(&self.app))),
            (self.internal, routes::internal(Arc::clone(&self.app))),
        ];
        for (listener, router) in listeners {
            tasks.spawn(listen(listener, router, stop.clone()));
        }
        let jobs_stop = stop.clone();
        let app = Arc::clone(&self.app);
        tasks.spawn(async move {
            tokio::join!(
                jobs::reap(Arc::clone(&app), jobs_stop.clone()),
                jobs::publish(Arc::clone(&app), jobs_stop.clone()),
                wake::tell(Arc::clone(&app), jobs_stop.clone()),
                wake::hear(app, jobs_stop)
            );
            Ok(())
        });
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            // One part that ends early ends them all.
            stop.cancel();
            let ended = ended.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            result = result.and(ended);
        }
        self.app.pool.close().await;
        result.map_err(Error::Serve)
    }
}

async fn listen(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let answer = move |request: Request<_>| {
        let router = router.clone();
        async move {
            match router.oneshot(request.map(axum::body::Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    assay_runtime::serve::serve(listener, assay_runtime::serve::Options::default(), stop, answer).await
}

async fn app(config: Config) -> Result<App, Error> {
    let catalogue = config
        .upstreams
        .as_deref()
        .map(Catalogue::read)
        .transpose()?
        .unwrap_or_default();
    let seal = SealKey::parse(&seal_key(&config)?)?;
    let pool = store::connect(
        &config.database.database_url,
        config.database.database_connections,
    )
    .await?;
    let objects = Objects::new(&config.objects);
    objects.ensure_bucket().await?;
    Ok(App {
        installation: store::installation(&pool).await?,
        commit: assay_core::version::commit(config.source_dir.as_deref()),
        limits: serde_json::to_value(&catalogue.limits)?,
        pool,
        objects,
        catalogue,
        seal,
        doorkeeper: Doorkeeper::new(&config.worker_tokens)?,
        config,
        privacy: Watch::default(),
        metrics: Metrics::default(),
        pending: pending::Cache::default(),
        wake: Wake::default(),
    })
}

fn seal_key(config: &Config) -> Result<String, Error> {
    if let Some(key) = &config.seal_key {
        return Ok(key.clone());
    }
    let path = config.seal_key_file.as_ref().ok_or(Error::NoSealKey)?;
    std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
        path: path.display().to_string(),
        source,
    })
}
