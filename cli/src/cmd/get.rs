//! `get`: what a run left behind.

use std::path::{Component, Path, PathBuf};

use assay_core::{id::RunId, wire::people::Artifact};

use super::Context;
use crate::{api::Api, args::GetArgs, error::Error, screen};

/// Lists, prints or writes what the last attempt of a run left.
pub(super) async fn get(context: &Context, args: &GetArgs) -> Result<(), Error> {
    let api = context.api()?;
    let artifacts = of_run(&api, args.run).await?;
    if args.patch {
        return patch(context, &api, &artifacts).await;
    }
    match &args.artifacts {
        Some(folder) => write_all(context, &api, &artifacts, folder).await,
        None => listing(context, &artifacts),
    }
}

/// The artifacts of a run's last attempt.
pub(super) async fn of_run(api: &Api, run: RunId) -> Result<Vec<Artifact>, Error> {
    let run = api.run(run).await?;
    match run.attempt {
        Some(attempt) => api.artifacts(attempt).await,
        None => Err(Error::NoInput(format!(
            "no worker has taken run {} yet, so it left nothing; `assay why {}` says where it is",
            run.id, run.id
        ))),
    }
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
        Some(content) => shell.screen.untrusted(&content),
        None => Err(Error::NoInput("the run left no patch".to_owned())),
    }
}

fn listing(context: &Context, artifacts: &[Artifact]) -> Result<(), Error> {
    if context.screen.json {
        return context.screen.document(&artifacts);
    }
    let rows = artifacts.iter().map(|artifact| {
        vec![
            artifact.name.clone(),
            artifact.size_bytes.to_string(),
            artifact.digest.to_string(),
        ]
    });
    context.screen.table(&["name", "bytes", "digest"], rows.collect())
}

async fn write_all(context: &Context, api: &Api, artifacts: &[Artifact], folder: &Path) -> Result<(), Error> {
    let mut written = Vec::new();
    for artifact in artifacts {
        let path = folder.join(inside(&artifact.name)?);
        let parent = path.parent().unwrap_or(folder);
        tokio::fs::create_dir_all(parent)
            .await
            .map_err(|error| Error::unwritable(parent, &error))?;
        let mut options = tokio::fs::OpenOptions::new();
        // `create_new`: nothing of the user's is overwritten, and no link is followed.
        let file = options.write(true).create_new(true).open(&path).await;
        let mut file = file.map_err(|error| Error::unwritable(&path, &error))?;
        api.fetch(artifact, &mut file).await?;
        tokio::io::AsyncWriteExt::flush(&mut file)
            .await
            .map_err(|error| Error::unwritable(&path, &error))?;
        if !context.screen.json {
            context
                .screen
                .line(screen::harmless(&path.display().to_string()))?;
        }
        written.push(path);
    }
    if context.screen.json {
        return context.screen.document(&written);
    }
    Ok(())
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
