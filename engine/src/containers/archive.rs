//! The platform's files as tar archives for a container's own volume.

use std::io;

use assay_core::{
    control::{runner::RunnerConfig, service::ServiceConfig},
    egress::PROXY_UID,
};
use bytes::Bytes;
use serde::Serialize;

use crate::{Error, SandboxFiles};

/// One file of an archive.
struct File<'a> {
    name: &'static str,
    content: &'a [u8],
    owner: u32,
    mode: u32,
}

/// What init finds.
pub(super) fn init(files: &SandboxFiles) -> Result<Bytes, Error> {
    let config = json(&files.init)?;
    pack(&[File {
        name: "init.json",
        content: &config,
        owner: 0,
        mode: 0o444,
    }])
}

/// What the proxy finds. Nobody else may read it: it holds credentials.
pub(super) fn proxy(files: &SandboxFiles) -> Result<Bytes, Error> {
    let assignment = json(&files.proxy)?;
    let file = File {
        name: "assignment.json",
        content: &assignment,
        owner: PROXY_UID,
        mode: 0o400,
    };
    // The proxy removes the file once it is read, so the folder has to be its own. Beside it: the write-ahead log.
    pack_into_own_folder(&file)
}

/// What main finds.
pub(super) fn main(runner: &[u8], config: &RunnerConfig) -> Result<Bytes, Error> {
    with_runner(runner, "runner.json", &json(config)?)
}

/// What a service finds.
pub(super) fn service(runner: &[u8], config: &ServiceConfig) -> Result<Bytes, Error> {
    with_runner(runner, "service.json", &json(config)?)
}

fn with_runner(runner: &[u8], name: &'static str, config: &[u8]) -> Result<Bytes, Error> {
    pack(&[
        File {
            name: "runner",
            content: runner,
            owner: 0,
            mode: 0o555,
        },
        File {
            name,
            content: config,
            owner: 0,
            mode: 0o444,
        },
    ])
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| refused(&error))
}

fn pack(files: &[File<'_>]) -> Result<Bytes, Error> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        append(&mut archive, file).map_err(|error| refused(&error))?;
    }
    finish(archive)
}

fn pack_into_own_folder(file: &File<'_>) -> Result<Bytes, Error> {
    let mut archive = tar::Builder::new(Vec::new());
    ["./", "state/"]
        .iter()
        .try_for_each(|name| append_folder(&mut archive, name, file.owner))
        .and_then(|()| append(&mut archive, file))
        .map_err(|error| refused(&error))?;
    finish(archive)
}

fn append_folder(archive: &mut tar::Builder<Vec<u8>>, name: &str, owner: u32) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o700);
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    archive.append_data(&mut header, name, io::empty())
}

fn append(archive: &mut tar::Builder<Vec<u8>>, file: &File<'_>) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(file.content.len() as u64);
    header.set_mode(file.mode);
    header.set_uid(file.owner.into());
    header.set_gid(file.owner.into());
    archive.append_data(&mut header, file.name, file.content)
}

fn finish(archive: tar::Builder<Vec<u8>>) -> Result<Bytes, Error> {
    archive
        .into_inner()
        .map(Bytes::from)
        .map_err(|error| refused(&error))
}

fn refused(error: &dyn std::fmt::Display) -> Error {
    Error::Refused {
        operation: "pack files",
        message: error.to_string(),
    }
}
