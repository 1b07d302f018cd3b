//! Images between a registry and a layout on this machine.

use assay_core::digest::Digest;
use http::{Method, StatusCode, header};

use crate::{
    Caps, Checked, Error, Layout, Manifest, Repository,
    client::{elsewhere, empty_body, own_platform},
    exchange::{get, of_file, save, whole},
    layout::Descriptor,
};

const OCTETS: &str = "application/octet-stream";
/// Redirects that are followed.
const REDIRECTS: usize = 4;

impl Repository<'_> {
    /// Brings the image of our platform into the layout. Answers its manifest's descriptor. An index on the way to it is
    /// kept too: the image may be asked for by the index's digest.
    pub async fn pull(&self, layout: &Layout, caps: Caps) -> Result<Descriptor, Error> {
        let (mut digest, mut bytes) = self.manifest(&self.reference.version).await?;
        let mut manifest: Manifest = read(&bytes)?;
        if let Some(own) = own_platform(&manifest.manifests) {
            keep(layout, &digest, &bytes).await?;
            (digest, bytes) = self.manifest(&own.digest).await?;
            manifest = read(&bytes)?;
        }
        let mut left = caps.bytes;
        for blob in manifest.config.iter().chain(&manifest.layers) {
            left = left.checked_sub(blob.size).ok_or_else(|| {
                Error::Wrong(format!(
                    "{} has more than {} bytes",
                    self.reference.given, caps.bytes
                ))
            })?;
            self.pull_blob(layout, blob).await?;
        }
        keep(layout, &digest, &bytes).await?;
        Ok(Descriptor {
            media_type: manifest.kind("").to_owned(),
            digest: digest.to_string(),
            size: bytes.len() as u64,
            platform: None,
            annotations: None,
        })
    }

    async fn pull_blob(&self, layout: &Layout, blob: &Descriptor) -> Result<(), Error> {
        let wrong = |what: &str| Error::Wrong(format!("blob {} {what}", blob.digest));
        let digest: Digest = blob.digest.parse().map_err(|_| wrong("has no SHA-256"))?;
        let path = layout.blob(&digest);
        if tokio::fs::try_exists(&path).await.map_err(Error::file(&path))? {
            return Ok(());
        }
        let body = self.open(&format!("blobs/{digest}")).await?;
        let part = path.with_extension("part");
        let (_, found) = save(body, blob.size, &part).await?;
        if found != digest {
            return Err(wrong("came with other bytes"));
        }
        tokio::fs::rename(&part, &path).await.map_err(Error::file(&path))
    }

    /// A large body, wherever the registry keeps it.
    async fn open(&self, path: &str) -> Result<hyper::body::Incoming, Error> {
        let request = self.request(&Method::GET, &self.url(path)).await;
        let request = request.body(crate::exchange::empty());
        let request = request.map_err(|error| Error::away(&error))?;
        let mut answer = self.client.http.head(request, 0).await?;
        for _ in 0..REDIRECTS {
            let Some(next) = elsewhere(answer.status(), answer.headers()) else {
                break;
            };
            answer = self.client.http.head(get(&next)?, 0).await?;
        }
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            StatusCode::NOT_FOUND => Err(Error::NotThere(self.reference.given.clone())),
            status => Err(Error::Away(format!("{} answered {status}", self.base()))),
        }
    }

    /// Puts a checked image under the reference's tag: blobs first, so that nobody sees a manifest without them.
    pub async fn push(&self, layout: &Layout, image: &Checked) -> Result<(), Error> {
        for (digest, size) in &image.blobs {
            self.push_blob(layout, digest, *size).await?;
        }
        let kind = known_kind(&image.kind);
        let bytes = bytes::Bytes::copy_from_slice(&image.manifest);
        let url = self.url(&format!("manifests/{}", self.reference.version));
        let body = || async { Ok((whole(bytes.clone()), Some(kind))) };
        let answer = self.call(Method::PUT, &url, body, bytes.len() as u64).await?;
        self.judge(&answer)
    }

    /// Begins an upload and takes it back: may images be put here?
    ///
    /// # Errors
    /// [`Error::Refused`] where the registry does not allow it.
    pub async fn may_push(&self) -> Result<(), Error> {
        let place = self.begin_upload().await?;
        // A registry that takes nothing back forgets what was begun after a while.
        self.call(Method::DELETE, &place, empty_body, 0).await.map(|_| ())
    }

    async fn begin_upload(&self) -> Result<String, Error> {
        let begun = self
            .call(Method::POST, &self.url("blobs/uploads/"), empty_body, 0)
            .await?;
        self.judge(&begun)?;
        let place = begun
            .headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        let place = place.ok_or_else(|| Error::Away("an upload without a place".to_owned()))?;
        Ok(if place.contains("://") {
            place.to_owned()
        } else {
            format!("{}{place}", self.base())
        })
    }

    async fn push_blob(&self, layout: &Layout, digest: &Digest, size: u64) -> Result<(), Error> {
        let head = self.url(&format!("blobs/{digest}"));
        let known = self.call(Method::HEAD, &head, empty_body, 0).await?;
        match self.judge(&known) {
            Ok(()) => return Ok(()),
            Err(Error::NotThere(_)) => {}
            Err(error) => return Err(error),
        }
        let place = self.begin_upload().await?;
        let joint = if place.contains('?') { '&' } else { '?' };
        let path = layout.blob(digest);
        let body = || async { Ok((of_file(&path).await?, Some(OCTETS))) };
        let url = format!("{place}{joint}digest={digest}");
        self.judge(&self.call(Method::PUT, &url, body, size).await?)
    }
}

async fn keep(layout: &Layout, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
    let path = layout.blob(digest);
    tokio::fs::write(&path, bytes).await.map_err(Error::file(&path))
}

/// The few manifest types that we send.
fn known_kind(kind: &str) -> &'static str {
    match kind {
        "application/vnd.docker.distribution.manifest.v2+json" => {
            "application/vnd.docker.distribution.manifest.v2+json"
        }
        _ => "application/vnd.oci.image.manifest.v1+json",
    }
}

fn read(bytes: &[u8]) -> Result<Manifest, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Away(format!("no manifest: {error}")))
}
