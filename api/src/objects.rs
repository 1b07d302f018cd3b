//! The object store: the only user of the S3 client.
//!
//! Keys: `incoming/<tenant>/<hex>` (what people put, unchecked), `archives/<tenant>/<hex>` (checked, immutable),
//! `output/…` (chunks), `artifacts/<attempt>/…`.

use std::{path::Path, time::Duration};

use assay_core::{
    digest::Digest,
    id::{AttemptId, TenantId},
};
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    presigning::PresigningConfig,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

/// Where the object store is.
#[derive(Clone, clap::Args)]
pub struct Settings {
    /// Endpoint of the object store.
    #[arg(long, env = "S3_ENDPOINT")]
    pub s3_endpoint: String,
    /// Endpoint in presigned URLs, where people and workers with keys reach it by another name.
    /// Workers known by the tokens of their pods get the other one.
    #[arg(long, env = "S3_PUBLIC_ENDPOINT")]
    pub s3_public_endpoint: Option<String>,
    /// Bucket; made when it is missing.
    #[arg(long, env = "S3_BUCKET", default_value = "assay")]
    pub s3_bucket: String,
    /// Access key.
    #[arg(long, env = "S3_ACCESS_KEY", hide_env_values = true)]
    pub s3_access_key: String,
    /// Secret key.
    #[arg(long, env = "S3_SECRET_KEY", hide_env_values = true)]
    pub s3_secret_key: String,
    /// Region.
    #[arg(long, env = "S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("s3_endpoint", &self.s3_endpoint)
            .field("s3_bucket", &self.s3_bucket)
            .finish_non_exhaustive()
    }
}

/// The object store refused or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error("{verb} {key}: {message}")]
    Call {
        /// What was tried.
        verb: &'static str,
        /// On which key.
        key: String,
        /// Why it failed.
        message: String,
    },
    /// A local file could not be read.
    #[error("reading the file to be uploaded: {0}")]
    File(#[from] std::io::Error),
}

/// From where a presigned URL is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From beside this server: a pod of its cluster.
    Inside,
    /// From anywhere.
    Outside,
}

/// The object store.
#[derive(Debug, Clone)]
pub struct Objects {
    client: Client,
    presigner: Client,
    bucket: String,
}

impl Objects {
    /// A client; nothing is contacted yet.
    pub fn new(settings: &Settings) -> Self {
        let public = settings
            .s3_public_endpoint
            .as_ref()
            .unwrap_or(&settings.s3_endpoint);
        Self {
            client: client(settings, &settings.s3_endpoint),
            presigner: client(settings, public),
            bucket: settings.s3_bucket.clone(),
        }
    }

    /// Makes the bucket when it is missing.
    pub async fn ensure_bucket(&self) -> Result<(), Error> {
        if self
            .client
            .head_bucket()
            .bucket(&self.bucket)
            .send()
            .await
            .is_ok()
        {
            return Ok(());
        }
        match self.client.create_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.code() {
                Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists") => Ok(()),
                _ => Err(failed("create bucket", &self.bucket, &error)),
            },
        }
    }

    /// Does the bucket answer?
    pub async fn ping(&self) -> Result<(), Error> {
        let answer = self.client.head_bucket().bucket(&self.bucket).send().await;
        answer
            .map(drop)
            .map_err(|error| failed("head bucket", &self.bucket, &error))
    }

    /// Size of an object; `None` when it is not there.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        match self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
        {
            Ok(head) => Ok(Some(
                head.content_length()
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or(0),
            )),
            Err(error)
                if error
                    .raw_response()
                    .is_some_and(|raw| raw.status().as_u16() == 404) =>
            {
                Ok(None)
            }
            Err(error) => Err(failed("head", key, &error)),
        }
    }

    /// Stores a small object.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let put = self.client.put_object().bucket(&self.bucket).key(key);
        let answer = put.body(ByteStream::from(bytes)).send().await;
        answer.map(drop).map_err(|error| failed("put", key, &error))
    }

    /// The object's bytes as a stream; `None` when it is not there.
    pub async fn get(&self, key: &str) -> Result<Option<ByteStream>, Error> {
        match self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
        {
            Ok(object) => Ok(Some(object.body)),
            Err(error) if error.code() == Some("NoSuchKey") => Ok(None),
            Err(error) => Err(failed("get", key, &error)),
        }
    }

    /// Removes an object; one that is not there is fine.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let answer = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await;
        answer.map(drop).map_err(|error| failed("delete", key, &error))
    }

    /// Stores a file of any size, in parts when it is large.
    pub async fn put_file(&self, key: &str, path: &Path) -> Result<(), Error> {
        let mut file = tokio::fs::File::open(path).await?;
        let size = file.metadata().await?.len();
        if size <= PART_BYTES {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await?;
            return self.put(key, bytes.into()).await;
        }
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await;
        let begun = begun.map_err(|error| failed("begin upload", key, &error))?;
        let id = begun.upload_id().unwrap_or_default().to_owned();
        match self.put_parts(key, &id, &mut file).await {
            Ok(parts) => self.complete(key, &id, parts).await,
            Err(error) => {
                let aborted = self
                    .client
                    .abort_multipart_upload()
                    .bucket(&self.bucket)
                    .key(key)
                    .upload_id(&id);
                if let Err(error) = aborted.send().await {
                    tracing::warn!(error = %failed("abort upload", key, &error), "an upload stays behind");
                }
                Err(error)
            }
        }
    }

    async fn put_parts(
        &self,
        key: &str,
        id: &str,
        file: &mut tokio::fs::File,
    ) -> Result<Vec<CompletedPart>, Error> {
        let mut parts = Vec::new();
        for number in 1.. {
            let mut bytes = Vec::new();
            (&mut *file).take(PART_BYTES).read_to_end(&mut bytes).await?;
            if bytes.is_empty() {
                break;
            }
            let part = self
                .client
                .upload_part()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(id);
            let part = part
                .part_number(number)
                .body(ByteStream::from(bytes))
                .send()
                .await;
            let part = part.map_err(|error| failed("upload part", key, &error))?;
            let done = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(part.e_tag().map(str::to_owned));
            parts.push(done.build());
        }
        Ok(parts)
    }

    async fn complete(&self, key: &str, id: &str, parts: Vec<CompletedPart>) -> Result<(), Error> {
        let upload = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(id);
        let answer = complete.multipart_upload(upload).send().await;
        answer
            .map(drop)
            .map_err(|error| failed("complete upload", key, &error))
    }

    fn presigner(&self, side: Side) -> &Client {
        match side {
            Side::Inside => &self.client,
            Side::Outside => &self.presigner,
        }
    }

    /// A URL under which exactly `size` bytes can be put for [`URL_LIFE`]. With `content` the request must carry
    /// `x-amz-checksum-sha256`, the header is part of the signature, and the store refuses other bytes.
    pub async fn presign_put(
        &self,
        key: &str,
        size_bytes: u64,
        content: Option<Digest>,
        side: Side,
    ) -> Result<String, Error> {
        let put = self.presigner(side).put_object().bucket(&self.bucket).key(key);
        let put = put.content_length(i64::try_from(size_bytes).unwrap_or(i64::MAX));
        let put = put.set_checksum_sha256(content.map(|digest| digest.base64()));
        let signed = put.presigned(life(key)?).await;
        signed
            .map(|request| request.uri().to_owned())
            .map_err(|error| failed("presign put", key, &error))
    }

    /// A URL under which the object can be read for [`URL_LIFE`].
    pub async fn presign_get(&self, key: &str, side: Side) -> Result<String, Error> {
        let get = self.presigner(side).get_object().bucket(&self.bucket).key(key);
        let signed = get.presigned(life(key)?).await;
        signed
            .map(|request| request.uri().to_owned())
            .map_err(|error| failed("presign get", key, &error))
    }
}

/// Key of what a tenant put, unchecked.
pub fn incoming(tenant: TenantId, digest: Digest) -> String {
    format!("incoming/{tenant}/{}", digest.hex())
}

/// Key of a checked archive.
pub fn archive(tenant: TenantId, digest: Digest) -> String {
    format!("archives/{tenant}/{}", digest.hex())
}

/// Key of a recording that later runs are answered from.
pub fn recording(tenant: TenantId, digest: Digest) -> String {
    format!("recordings/{tenant}/{}", digest.hex())
}

/// Key of an artifact. Its digest is part of it, so that a replaced one is another object.
pub fn artifact(attempt: AttemptId, digest: Digest) -> String {
    format!("artifacts/{attempt}/{}", digest.hex())
}

fn client(settings: &Settings, endpoint: &str) -> Client {
    let credentials = Credentials::new(
        &settings.s3_access_key,
        &settings.s3_secret_key,
        None,
        None,
        "settings",
    );
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(30))
        .operation_timeout(Duration::from_mins(2))
        .build();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(settings.s3_region.clone()))
        .credentials_provider(credentials)
        .force_path_style(true)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .build();
    Client::from_conf(config)
}

fn life(key: &str) -> Result<PresigningConfig, Error> {
    PresigningConfig::expires_in(URL_LIFE).map_err(|error| Error::Call {
        verb: "presign",
        key: key.to_owned(),
        message: error.to_string(),
    })
}

fn failed<E: ProvideErrorMetadata + std::error::Error + 'static>(
    verb: &'static str,
    key: &str,
    error: &SdkError<E>,
) -> Error {
    let message = match error.code() {
        Some(code) => format!("{code}: {}", error.message().unwrap_or_default()),
        None => DisplayErrorContext(error).to_string(),
    };
    Error::Call {
        verb,
        key: key.to_owned(),
        message,
    }
}

/// How long presigned URLs hold. An attempt that is retried later asks again.
pub const URL_LIFE: Duration = Duration::from_hours(1);

/// Size of a part; the smallest that S3 takes is 5 MiB.
const PART_BYTES: u64 = 8 << 20;
