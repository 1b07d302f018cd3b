//! Objects through presigned URLs: streamed, capped, hashed on the way.

use std::{path::Path, time::Duration};

use assay_core::{
    digest::{Digest, Hasher},
    wire::worker::PutArtifact,
};
use assay_runtime::client::{self, Client};
use futures_util::TryStreamExt as _;
use http::{Method, Request, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::{Error, retry};

/// Fetches an object of at most `size` bytes into a file and tells its digest.
pub async fn fetch(url: &str, size: u64, into: &Path) -> Result<Digest, Error> {
    let client = Client::new(HEAD_TIMEOUT);
    retry(PATIENCE, || fetch_once(&client, url, size, into)).await
}

async fn fetch_once(client: &Client, url: &str, size: u64, into: &Path) -> Result<Digest, Error> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(url)
        .body(client::full(""))
        .map_err(|error| client::Error::Invalid(error.to_string()))?;
    let response = client.send(request).await?;
    let status = response.status();
    if !status.is_success() {
        let body = client.read(response, OBJECT).await?;
        return Err(client::problem(status, &body).into());
    }
    let mut body = response.into_body();
    let mut file = tokio::fs::File::create(into).await.map_err(at(into))?;
    let mut hasher = Hasher::default();
    let mut taken: u64 = 0;
    while let Some(frame) = next_frame(&mut body).await? {
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        taken += bytes.len() as u64;
        if taken > size {
            return Err(Error::TooLong { announced: size });
        }
        hasher.update(&bytes);
        file.write_all(&bytes).await.map_err(at(into))?;
    }
    file.flush().await.map_err(at(into))?;
    Ok(hasher.finish())
}

async fn next_frame(body: &mut hyper::body::Incoming) -> Result<Option<Frame<bytes::Bytes>>, Error> {
    let broken = |message: String| {
        Error::Call(client::Error::Answer {
            url: OBJECT.to_owned(),
            message,
        })
    };
    match tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await {
        Err(_) => Err(broken("nothing came for too long".to_owned())),
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => Err(broken(error.to_string())),
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
    }
}

/// Puts an announced file through its presigned URL.
pub async fn put(url: &str, announced: &PutArtifact, file: &Path) -> Result<(), Error> {
    // The answer comes only after the whole file went up: a slow line may take 1 MiB a second.
    let client = Client::new(HEAD_TIMEOUT + Duration::from_secs(announced.size_bytes >> 20));
    retry(PATIENCE, || put_once(&client, url, announced, file)).await
}

async fn put_once(client: &Client, url: &str, announced: &PutArtifact, file: &Path) -> Result<(), Error> {
    let size = announced.size_bytes;
    let source = tokio::fs::File::open(file).await.map_err(at(file))?;
    let stream = ReaderStream::with_capacity(source.take(size), BUFFER_BYTES).map_ok(Frame::data);
    let request = Request::builder()
        .method(Method::PUT)
        .uri(url)
        .header(header::CONTENT_TYPE, &announced.media_type)
        .header("x-amz-checksum-sha256", announced.digest.base64())
        .header(header::CONTENT_LENGTH, size)
        .body(BodyExt::boxed(StreamBody::new(stream)))
        .map_err(|error| client::Error::Invalid(error.to_string()))?;
    let response = client.send(request).await?;
    let status = response.status();
    let body = client.read(response, OBJECT).await?;
    if status.is_success() {
        Ok(())
    } else {
        Err(client::problem(status, &body).into())
    }
}

/// Size and digest of a file.
pub async fn measure(file: &Path) -> Result<(u64, Digest), Error> {
    let mut source = tokio::fs::File::open(file).await.map_err(at(file))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size = 0;
    loop {
        let count = source.read(&mut buffer).await.map_err(at(file))?;
        if count == 0 {
            return Ok((size, hasher.finish()));
        }
        size += count as u64;
        hasher.update(&buffer[..count]);
    }
}

/// Names the file in an error.
pub fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::File {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}

const OBJECT: &str = "object store";
const BUFFER_BYTES: usize = 64 << 10;
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The store may be away for a minute without an attempt being lost.
const PATIENCE: Duration = Duration::from_mins(2);
