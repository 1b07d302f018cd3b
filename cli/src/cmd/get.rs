//! `get`: what a run left behind.

use std::path::{Component, Path, PathBuf};

use assay_core::{
    id::{AttemptId, RunId},
    wire::{
        channel::{Channel, Sidecar},
        people::{Artifact, Output},
    },
};
use serde::Serialize;
use tokio::{fs::File, io::AsyncWriteExt as _};

use super::{Context, trajectory};
use crate::{api::Api, args::GetArgs, error::Error, screen};

/// Lists, prints or writes what the last attempt of a run left.
pub(super) async fn get(context: &Context, args: &GetArgs) -> Result<(), Error> {
    let api = context.api()?;
    let attempt = attempt_of(&api, args.run).await?;
    let artifacts = api.artifacts(attempt).await?;
    if args.patch {
        return patch(context, &api, &artifacts).await;
    }
    if args.trajectory || args.recording {
        return trajectory::print(context, &api, (args.run, attempt), args.trajectory).await;
    }
    let streams = api.outputs(attempt, 0, std::time::Duration::ZERO).await?;
    let records: Vec<_> = streams.into_iter().filter_map(Stored::of).collect();
    match &args.artifacts {
        Some(folder) => write_all(context, &api, attempt, (&artifacts, &records), folder).await,
        None => listing(context, &artifacts, &records),
    }
}

/// What a proxy wrote down, as a file among the artifacts.
#[derive(Debug, Serialize)]
pub(super) struct Stored {
    pub(super) name: String,
    media_type: &'static str,
    size_bytes: u64,
    #[serde(skip)]
    pub(super) stream: Output,
}

impl Stored {
    pub(super) fn of(stream: Output) -> Option<Self> {
        let Channel::Proxy(sidecar, record) = stream.channel else {
            return None;
        };
        let place = match sidecar {
            Sidecar::Main => String::new(),
            Sidecar::Verifier if stream.step == 0 => "verifier-".to_owned(),
            Sidecar::Verifier => format!("step-{}-verifier-", stream.step),
        };
        Some(Self {
            name: format!("{place}{}.jsonl", record.name()),
            media_type: "application/jsonl",
            size_bytes: stream.bytes,
            stream,
        })
    }
}

async fn attempt_of(api: &Api, run: RunId) -> Result<AttemptId, Error> {
    let run = api.run(run).await?;
    run.attempt.ok_or_else(|| {
        Error::NoInput(format!(
            "no worker has taken run {} yet, so it left nothing; `assay why {}` says where it is",
            run.id, run.id
        ))
    })
}

/// Reads a small artifact into memory; none of that name is `None`.
pub(super) async fn read(api: &Api, artifacts: &[Artifact], name: &str) -> Result<Option<Vec<u8>>, Error> {
    let Some(artifact) = artifacts.iter().find(|artifact| artifact.name == name) else {
        return Ok(None);
    };
    if artifact.size_bytes > MOST_IN_MEMORY {
        return Err(Error::Data(format!(
            "{name} has {} bytes; write it with `assay get RUN --artifacts DIR`",
            artifact.size_bytes
        )));
    }
    let mut content = Vec::new();
    api.fetch(artifact, &mut content).await?;
    Ok(Some(content))
}

async fn patch(shell: &Context, api: &Api, artifacts: &[Artifact]) -> Result<(), Error> {
    match read(api, artifacts, "patch.diff").await? {
        Some(content) if shell.screen.json => {
            let patch = String::from_utf8_lossy(&content);
            shell.screen.document(&serde_json::json!({ "patch": patch }))
        }
        Some(content) => shell.screen.untrusted(&content),
        None => Err(Error::NoInput("the run left no patch".to_owned())),
    }
}

fn listing(context: &Context, artifacts: &[Artifact], records: &[Stored]) -> Result<(), Error> {
    if context.screen.json {
        let all = artifacts.iter().map(serde_json::to_value);
        let all: Result<Vec<_>, _> = all.chain(records.iter().map(serde_json::to_value)).collect();
        return context
            .screen
            .document(&all.map_err(|error| Error::Data(error.to_string()))?);
    }
    let stored = records
        .iter()
        .map(|record| vec![record.name.clone(), record.size_bytes.to_string(), "–".to_owned()]);
    let rows = artifacts.iter().map(|artifact| {
        vec![
            artifact.name.clone(),
            artifact.size_bytes.to_string(),
            artifact.digest.to_string(),
        ]
    });
    let rows = rows.chain(stored).collect();
    context.screen.table(&["name", "bytes", "digest"], rows)
}

async fn write_all(
    context: &Context,
    api: &Api,
    attempt: AttemptId,
    (artifacts, records): (&[Artifact], &[Stored]),
    folder: &Path,
) -> Result<(), Error> {
    let mut written = Vec::new();
    for artifact in artifacts {
        let (path, mut file) = create(folder, &artifact.name).await?;
        api.fetch(artifact, &mut file).await?;
        written.push(close(path, file).await?);
    }
    for record in records {
        let (path, mut file) = create(folder, &record.name).await?;
        copy(api, attempt, &record.stream, &mut file)
            .await?
            .map_err(|error| Error::unwritable(&path, &error))?;
        written.push(close(path, file).await?);
    }
    if context.screen.json {
        return context.screen.document(&written);
    }
    for path in &written {
        context
            .screen
            .line(screen::harmless(&path.display().to_string()))?;
    }
    Ok(())
}

/// `create_new`: nothing of the user's is overwritten, and no link is followed.
async fn create(folder: &Path, name: &str) -> Result<(PathBuf, File), Error> {
    let path = folder.join(inside(name)?);
    let parent = path.parent().unwrap_or(folder);
    tokio::fs::create_dir_all(parent)
        .await
        .map_err(|error| Error::unwritable(parent, &error))?;
    let mut options = tokio::fs::OpenOptions::new();
    match options.write(true).create_new(true).open(&path).await {
        Ok(file) => Ok((path, file)),
        Err(error) => Err(Error::unwritable(&path, &error)),
    }
}

async fn close(path: PathBuf, mut file: File) -> Result<PathBuf, Error> {
    match file.flush().await {
        Ok(()) => Ok(path),
        Err(error) => Err(Error::unwritable(&path, &error)),
    }
}

/// Copies a stream as far as it is stored. The inner error is the file's.
async fn copy(
    api: &Api,
    attempt: AttemptId,
    stream: &Output,
    file: &mut File,
) -> Result<std::io::Result<()>, Error> {
    let mut offset = 0;
    while offset < stream.bytes {
        let stretch = api.output(attempt, (stream.step, stream.channel), offset).await?;
        if stretch.next_offset <= offset {
            break;
        }
        offset = stretch.next_offset;
        if let Err(error) = file.write_all(&stretch.bytes).await {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// A name from the API as a path that stays inside of the folder.
fn inside(name: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(name);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if is_plain && !name.is_empty() {
        Ok(path)
    } else {
        Err(Error::Data(format!(
            "artifact {name:?} has a name that leaves the folder; it is not written"
        )))
    }
}

const MOST_IN_MEMORY: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_stay_inside_of_the_folder() {
        assert_eq!(inside("a/b.txt").unwrap(), Path::new("a/b.txt"));
        for name in ["", "/etc/passwd", "../x", "a/../../x", "./x/.."] {
            assert!(inside(name).is_err(), "{name}");
        }
    }
}
