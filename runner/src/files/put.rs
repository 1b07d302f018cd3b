//! `PUT /v1/files`: a signed tar is staged whole; only when its trailer holds is anything unpacked.

use std::{
    fs::{File, OpenOptions},
    io::{Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use assay_core::{
    control::signature::{AUTH_TRAILER, Claim, Refusal},
    digest::{Digest, Hasher},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::unpack::{Owner, unpack};
use crate::{
    answer::{Body, Failure, json, problem, refusal},
    http::parameter,
    state::Runner,
};

const LONGEST: Duration = Duration::from_mins(15);
/// Where a tar waits for its trailer; on the platform's own volume where there is one.
const STAGING: [&str; 3] = ["/assay", "/tmp", "/"];

/// Stages, checks, unpacks.
pub(crate) async fn receive(
    runner: &Runner,
    request: Request<Incoming>,
    claim: &Claim,
    query: &str,
) -> Result<Response<Body>, Failure> {
    if claim.content.is_some() {
        return Err(refusal(Refusal::WrongContent));
    }
    let root = parameter(query, "root").map(PathBuf::from);
    let root = root
        .filter(|root| root.is_absolute())
        .ok_or_else(|| bad("root must be an absolute path"))?;
    let owner = match parameter(query, "owner") {
        Some(text) => Owner::parse(&text).ok_or_else(|| bad("owner must be uid:gid"))?,
        None => Owner::ROOT,
    };
    let staged = stage(request).await?;
    let trailer = staged.trailer.ok_or_else(|| refusal(Refusal::Malformed))?;
    runner
        .admit_content(&claim.nonce, &trailer, &staged.digest)
        .map_err(refusal)?;
    let mut file = staged.file;
    let stored = spawn_blocking(move || {
        file.rewind()?;
        unpack(&file, &root, owner)
    })
    .await
    .map_err(|error| internal(&error))?
    .map_err(|error| {
        problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_archive",
            &error.to_string(),
        )
    })?;
    Ok(json(StatusCode::OK, &stored))
}

struct Staged {
    file: File,
    digest: Digest,
    trailer: Option<String>,
}

async fn stage(request: Request<Incoming>) -> Result<Staged, Failure> {
    let until = Instant::now() + LONGEST;
    let mut file = staging_file().map_err(|error| full(&error))?;
    let mut hasher = Hasher::default();
    let mut trailer = None;
    let mut body = request.into_body();
    loop {
        let frame = timeout_at(until, body.frame())
            .await
            .map_err(|_| problem(StatusCode::REQUEST_TIMEOUT, "slow_body", "the body took too long"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| bad(&error.to_string()))?;
        if let Some(trailers) = frame.trailers_ref() {
            trailer = trailers
                .get(AUTH_TRAILER)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
        } else if let Ok(data) = frame.into_data() {
            hasher.update(&data);
            file = write(file, data).await?;
        }
    }
    Ok(Staged {
        file,
        digest: hasher.finish(),
        trailer,
    })
}

async fn write(mut file: File, data: Bytes) -> Result<File, Failure> {
    spawn_blocking(move || file.write_all(&data).map(|()| file))
        .await
        .map_err(|error| internal(&error))?
        .map_err(|error| full(&error))
}

/// A file without a name: it is gone with its descriptor, whatever happens to us.
fn staging_file() -> std::io::Result<File> {
    let mut last = std::io::Error::other("nowhere to stage");
    for folder in STAGING.iter().map(Path::new) {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE)
            .open(folder);
        match opened {
            Ok(file) => return Ok(file),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bad(detail: &str) -> Failure {
    problem(StatusCode::BAD_REQUEST, "bad_request", detail)
}

fn full(error: &std::io::Error) -> Failure {
    problem(
        StatusCode::INSUFFICIENT_STORAGE,
        "cannot_stage",
        &format!("cannot stage the archive: {error}"),
    )
}

fn internal(error: &dyn std::error::Error) -> Failure {
    problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string())
}
