//! Starts a child as `stage`, with its order in an anonymous file and a pipe that tells why it could not.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::AsRawFd,
    process::{Command, Stdio},
};

use nix::{
    fcntl::OFlag,
    sys::memfd::{MFdFlags, memfd_create},
    unistd::{dup, pipe2},
};
use tokio::net::unix::pipe;

use crate::{isolation::Confinement, stage::Order};

/// A child that was started.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its process id.
    pub(crate) pid: i32,
    /// The open end of its standard input, if asked for.
    pub(crate) stdin: Option<pipe::Sender>,
    /// Its standard output.
    pub(crate) stdout: pipe::Receiver,
    /// Its standard error.
    pub(crate) stderr: pipe::Receiver,
    /// Ends empty when the command starts, else says why it does not.
    pub(crate) status: pipe::Receiver,
}

/// Starts a child. The caller must watch its pid before it awaits anything.
pub(crate) fn spawn(confinement: &Confinement, order: &Order, stdin: bool) -> io::Result<Child> {
    // These descriptors are inherited; nothing else is started while they are open, and the child closes them.
    let mut file = File::from(memfd_create(c"order", MFdFlags::empty())?);
    file.write_all(&serde_json::to_vec(order)?)?;
    let (status, status_of_child) = pipe2(OFlag::O_CLOEXEC)?;
    let status_of_child = dup(status_of_child)?;
    let namespace = confinement.inheritable()?;
    let namespace_number = namespace.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let mut child = Command::new("/proc/self/exe")
        .arg("stage")
        .arg(file.as_raw_fd().to_string())
        .arg(status_of_child.as_raw_fd().to_string())
        .arg(namespace_number.to_string())
        .env_clear()
        .current_dir("/")
        .stdin(if stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let missing = || io::Error::other("a pipe is missing");
    let stdin = child
        .stdin
        .take()
        .map(|end| pipe::Sender::from_owned_fd(end.into()));
    Ok(Child {
        pid: i32::try_from(child.id()).map_err(io::Error::other)?,
        stdin: stdin.transpose()?,
        stdout: pipe::Receiver::from_owned_fd(child.stdout.take().ok_or_else(missing)?.into())?,
        stderr: pipe::Receiver::from_owned_fd(child.stderr.take().ok_or_else(missing)?.into())?,
        status: pipe::Receiver::from_owned_fd(status)?,
    })
}
