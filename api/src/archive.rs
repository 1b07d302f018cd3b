//! Takes what a person has put, checks it against its digest and keeps it where no presigned URL can replace it.

use assay_core::{
    digest::{Digest, Hasher},
    id::TenantId,
};
use aws_sdk_s3::primitives::ByteStream;
use tokio::io::AsyncWriteExt as _;

use crate::{app::App, code::Code, objects, refusal::Refusal};

/// An archive in a local file, removed with it. Its content has the digest that names it.
#[derive(Debug)]
pub struct Fetched {
    /// The file.
    pub file: tempfile::NamedTempFile,
    /// Its size.
    pub size_bytes: u64,
    /// Whether the object store holds it among the checked ones.
    kept: bool,
}

/// Fetches an archive by its digest.
pub async fn fetch(app: &App, tenant: TenantId, digest: Digest) -> Result<Fetched, Refusal> {
    let missing = || {
        let detail = format!("{digest} was not uploaded; ask POST /v1/uploads where to put it");
        Refusal::new(Code::NotUploaded, detail)
    };
    let (body, kept) = stored(app, tenant, digest).await?.ok_or_else(missing)?;
    let (file, size_bytes, found) = store_locally(app, body).await?;
    if found != digest {
        let detail = format!("the uploaded bytes are {found}, not {digest}; upload them again");
        return Err(Refusal::new(Code::DigestMismatch, detail));
    }
    Ok(Fetched {
        file,
        size_bytes,
        kept,
    })
}

/// The archive's bytes, and whether they are among the checked ones.
async fn stored(
    app: &App,
    tenant: TenantId,
    digest: Digest,
) -> Result<Option<(ByteStream, bool)>, objects::Error> {
    let checked = objects::archive(tenant, digest);
    if let Some(body) = app.objects.get(&checked).await? {
        return Ok(Some((body, true)));
    }
    if let Some(body) = app.objects.get(&objects::incoming(tenant, digest)).await? {
        return Ok(Some((body, false)));
    }
    // A registration beside this one may have moved it in between.
    Ok(app.objects.get(&checked).await?.map(|body| (body, true)))
}

async fn store_locally(
    app: &App,
    mut body: ByteStream,
) -> Result<(tempfile::NamedTempFile, u64, Digest), Refusal> {
    let file = tokio::task::spawn_blocking(tempfile::NamedTempFile::new).await;
    let file = file.map_err(|_| Refusal::internal())??;
    let mut writer = tokio::fs::File::from_std(file.reopen()?);
    let (mut hasher, mut size) = (Hasher::default(), 0u64);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| objects::Error::File(std::io::Error::other(error)))?;
        size += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if size > app.config.max_archive_bytes {
            let detail = format!(
                "the archive is larger than {} bytes",
                app.config.max_archive_bytes
            );
            return Err(Refusal::new(Code::ArchiveTooLarge, detail));
        }
        hasher.update(&piece);
        writer.write_all(&piece).await?;
    }
    writer.flush().await?;
    Ok((file, size, hasher.finish()))
}

/// Keeps a fetched archive among the checked ones.
pub async fn keep(app: &App, tenant: TenantId, digest: Digest, fetched: &Fetched) -> Result<(), Refusal> {
    if fetched.kept {
        return Ok(());
    }
    let key = objects::archive(tenant, digest);
    app.objects.put_file(&key, fetched.file.path()).await?;
    app.objects.delete(&objects::incoming(tenant, digest)).await?;
    Ok(())
}
