//! The step between the runner and the workload: this program again, single-threaded, with safe calls only.
//!
//! It enters the namespace, loads the filter, gives up rights, becomes the wanted user and executes the command.
//! What goes wrong is told over a pipe that closes by itself when the command starts.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::{fd::RawFd, unix::process::CommandExt as _},
    process::Command,
};

use caps::{CapSet, Capability};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::{prctl, resource},
    unistd::{Gid, Uid, chdir, close, setgid, setgroups, setsid, setuid},
};
use serde::{Deserialize, Serialize};

use crate::{sys, user};

/// What a child is to become. Travels through an anonymous file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What to run.
    pub(crate) argv: Vec<String>,
    /// Where.
    pub(crate) cwd: String,
    /// The environment; `PATH` and `HOME` are added where absent.
    pub(crate) env: BTreeMap<String, String>,
    /// As whom.
    pub(crate) user: Option<String>,
}

/// The descriptors that the runner left open for its child, by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inherited {
    /// The [`Order`].
    pub(crate) order: RawFd,
    /// Where to tell what went wrong.
    pub(crate) status: RawFd,
    /// The user namespace; negative when there is none.
    pub(crate) namespace: RawFd,
}

/// Why a command was not started.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read the order: {0}")]
    Order(String),
    #[error(transparent)]
    User(#[from] user::Error),
    #[error("{0}: {1}")]
    Call(&'static str, Errno),
    #[error("cannot give up rights: {0}")]
    Rights(#[from] caps::errors::CapsError),
    #[error(transparent)]
    Filter(#[from] assay_confine::Error),
    #[error("cannot change to {0}: {1}")]
    Directory(String, Errno),
    #[error("cannot run {0}: {1}")]
    Execute(String, std::io::Error),
    #[error("no command")]
    Empty,
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const OPEN_FILES: u64 = 65_536;

/// What root keeps inside: enough for packages, `su` and servers.
const KEPT: &[Capability] = &[
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_MKNOD,
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_SETFCAP,
];

/// Becomes the command. Returns only when that failed, after telling why.
pub(crate) fn become_command(inherited: Inherited) {
    let status = OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{}", inherited.status));
    if let (Err(error), Ok(mut status)) = (attempt(inherited), status) {
        // Nobody is left to tell when this fails too; the runner then sees the exit code alone.
        drop(status.write_all(error.to_string().as_bytes()));
    }
}

fn attempt(inherited: Inherited) -> Result<(), Error> {
    // From here on nobody of the same user can look into this process, until it is the command.
    call("hide from others", prctl::set_dumpable(false))?;
    let order = read_order(inherited.order)?;
    let namespace = open_namespace(inherited.namespace)?;
    for descriptor in [inherited.order, inherited.status, inherited.namespace] {
        if descriptor >= 0 {
            call("close", close(descriptor))?;
        }
    }
    let account = user::resolve(order.user.as_deref())?;
    prepare_process()?;
    if let Some(namespace) = &namespace {
        call(
            "enter the user namespace",
            setns(namespace, CloneFlags::CLONE_NEWUSER),
        )?;
    } else {
        call("set no_new_privs", prctl::set_no_new_privs())?;
    }
    for program in assay_confine::programs(namespace.is_none())? {
        call("load the filter", sys::load_filter(&program))?;
    }
    drop(namespace);
    limit_rights()?;
    become_user(&account)?;
    chdir(order.cwd.as_str()).map_err(|errno| Error::Directory(order.cwd.clone(), errno))?;
    execute(&order, &account)
}

fn read_order(descriptor: RawFd) -> Result<Order, Error> {
    let mut text = Vec::new();
    File::open(format!("/proc/self/fd/{descriptor}"))
        .and_then(|mut file| file.read_to_end(&mut text))
        .map_err(|error| Error::Order(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| Error::Order(error.to_string()))
}

fn open_namespace(descriptor: RawFd) -> Result<Option<File>, Error> {
    if descriptor < 0 {
        return Ok(None);
    }
    File::open(format!("/proc/self/fd/{descriptor}"))
        .map(Some)
        .map_err(|error| Error::Order(error.to_string()))
}

fn prepare_process() -> Result<(), Error> {
    sys::default_signals();
    call("start a session", setsid().map(drop))?;
    // The kernel should take the workload first when memory ends. Some sandboxes refuse to be told.
    drop(fs::write("/proc/self/oom_score_adj", "1000"));
    call(
        "limit core files",
        resource::setrlimit(resource::Resource::RLIMIT_CORE, 0, 0),
    )?;
    let (_, most) = resource::getrlimit(resource::Resource::RLIMIT_NOFILE).unwrap_or((0, OPEN_FILES));
    let open_files = most.min(OPEN_FILES);
    call(
        "limit open files",
        resource::setrlimit(resource::Resource::RLIMIT_NOFILE, open_files, open_files),
    )
}

fn limit_rights() -> Result<(), Error> {
    assay_confine::bound(KEPT)?;
    let held = caps::read(None, CapSet::Permitted)?;
    let kept = held
        .into_iter()
        .filter(|capability| KEPT.contains(capability))
        .collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::clear(None, CapSet::Inheritable)?;
    Ok(())
}

fn become_user(account: &user::Account) -> Result<(), Error> {
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    call("set groups", setgroups(&groups))?;
    call("set the group", setgid(Gid::from_raw(account.gid)))?;
    call("set the user", setuid(Uid::from_raw(account.uid)))
}

fn execute(order: &Order, account: &user::Account) -> Result<(), Error> {
    let name = order
        .argv
        .first()
        .filter(|name| !name.is_empty())
        .ok_or(Error::Empty)?;
    let mut env = order.env.clone();
    env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    env.entry("HOME".to_owned())
        .or_insert_with(|| account.home.clone());
    // The library's exec looks along the new PATH and puts SIGPIPE and the signal mask back to their defaults.
    let error = Command::new(name)
        .args(order.argv.iter().skip(1))
        .env_clear()
        .envs(&env)
        .exec();
    Err(Error::Execute(name.clone(), error))
}

fn call(what: &'static str, result: nix::Result<()>) -> Result<(), Error> {
    result.map_err(|errno| Error::Call(what, errno))
}
