//! An S3 service on a folder, in this process, on a free port of 127.0.0.1.

use std::{net::SocketAddr, path::Path};

use assay_runtime::serve;
use hyper::body::Incoming;
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// Where an object store answers, and what opens it.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Its access key.
    pub access_key: String,
    /// Its secret key.
    pub secret_key: String,
}

impl Door {
    /// A free port of 127.0.0.1 and fresh keys.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            access_key: random_hex(10)?,
            secret_key: random_hex(20)?,
        })
    }
}

/// A running object store.
#[derive(Debug)]
pub struct Objects {
    /// Where it answers.
    pub address: SocketAddr,
    /// Its access key.
    pub access_key: String,
    /// Its secret key, made for this life.
    pub secret_key: String,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl Objects {
    /// Serves `folder` with one bucket.
    ///
    /// # Errors
    /// The folder cannot be made, or no port is free.
    pub async fn start(folder: &Path, bucket: &str) -> Result<Self, Error> {
        Self::start_at(folder, bucket, Door::new()?).await
    }

    /// The same at a door that is known already.
    ///
    /// # Errors
    /// The folder cannot be made, or the port is not free.
    pub async fn start_at(folder: &Path, bucket: &str, door: Door) -> Result<Self, Error> {
        let home = folder.join(bucket);
        std::fs::create_dir_all(&home).map_err(|error| Error::unwritable(&home, &error))?;
        let files = FileSystem::new(folder);
        let files = files
            .map_err(|error| Error::CannotWrite(format!("cannot serve {}: {error:?}", folder.display())))?;
        let (access_key, secret_key) = (door.access_key, door.secret_key);
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(access_key.clone(), secret_key.clone()));
        let service = builder.build();
        let listener = TcpListener::bind(door.address).await;
        let listener = listener
            .map_err(|error| Error::Unavailable(format!("cannot listen on {}: {error}", door.address)))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        let stop = CancellationToken::new();
        let draining = stop.clone();
        let server = tokio::spawn(serve::serve(
            listener,
            serve::Options::default(),
            draining,
            move |request| answer(service.clone(), request),
        ));
        Ok(Self {
            address,
            access_key,
            secret_key,
            stop,
            server,
        })
    }

    /// Where it answers, to be opened again.
    pub fn door(&self) -> Door {
        Door {
            address: self.address,
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
        }
    }

    /// Lets the requests under way end.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::warn!(%error, "the object store ended badly");
        }
    }
}

async fn answer(service: S3Service, request: http::Request<Incoming>) -> http::Response<s3s::Body> {
    let answer: Result<_, s3s::HttpError> = hyper::service::Service::call(&service, request).await;
    answer.unwrap_or_else(|error| {
        tracing::warn!(?error, "the object store failed");
        let mut response = http::Response::new(s3s::Body::empty());
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// `bytes` random bytes as hexadecimal digits.
///
/// # Errors
/// The system has no randomness.
pub fn random_hex(bytes: usize) -> Result<String, Error> {
    let mut random = vec![0_u8; bytes];
    getrandom::fill(&mut random).map_err(|error| Error::Software(format!("no random bytes: {error}")))?;
    Ok(assay_core::digest::hex(&random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_runtime::client::{self, Client};

    #[tokio::test]
    async fn a_stranger_without_the_key_gets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("assay")).unwrap();
        std::fs::write(folder.path().join("assay/secret"), "x").unwrap();
        let objects = Objects::start(folder.path(), "assay").await.unwrap();
        let request = http::Request::get(format!("http://{}/assay/secret", objects.address));
        let client = Client::new(std::time::Duration::from_secs(5));
        let response = client
            .send(request.body(client::full("")).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), http::StatusCode::FORBIDDEN);
        objects.stop().await;
    }
}
