//! Users, files and processes.

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::chown,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::PathBuf,
    process::Command,
};

use assay_core::egress::PROXY_UID;
use nix::{
    sys::{ptrace, signal::kill},
    unistd::{Pid, Uid, geteuid, setresuid},
};

use super::{Probe, Verdict};

pub(super) const PROBES: &[Probe] = &[
    Probe {
        row: "B1",
        what: "becoming the proxy's user",
        run: become_proxy,
    },
    Probe {
        row: "B3",
        what: "a file of the proxy's user",
        run: give_file,
    },
    Probe {
        row: "B5",
        what: "a user namespace",
        run: namespace,
    },
    Probe {
        row: "B19",
        what: "seeing a process of the proxy",
        run: see_proxy,
    },
    Probe {
        row: "B19",
        what: "looking into the runner",
        run: look_into_first,
    },
    Probe {
        row: "B25",
        what: "an abstract socket of somebody else",
        run: abstract_sockets,
    },
    Probe {
        row: "B26",
        what: "a service account's token",
        run: token,
    },
    Probe {
        row: "I5",
        what: "the proxy's assignment and state",
        run: files,
    },
    Probe {
        row: "J6",
        what: "stopping the runner",
        run: stop_first,
    },
];

fn become_proxy() -> Verdict {
    if !geteuid().is_root() {
        return Verdict::Untried("not root".to_owned());
    }
    by_child("become-proxy-user")
}

/// Afterwards this process would be somebody else, so a child of it tries.
fn by_child(command: &str) -> Verdict {
    let child = std::env::current_exe().and_then(|own| Command::new(own).arg(command).status());
    match child {
        Ok(status) if status.success() => Verdict::Open("it worked".to_owned()),
        Ok(status) => Verdict::Closed(status.to_string()),
        Err(error) => Verdict::Untried(error.to_string()),
    }
}

/// What that child does: only root can.
pub fn become_proxy_user() -> bool {
    let proxy = Uid::from_raw(PROXY_UID);
    setresuid(proxy, proxy, proxy).is_ok()
}

fn give_file() -> Verdict {
    let path = std::env::temp_dir().join(format!("assay-selftest-{}", std::process::id()));
    let given = fs::write(&path, b"").and_then(|()| chown(&path, Some(PROXY_UID), None));
    drop(fs::remove_file(path));
    Verdict::fails(given)
}

fn namespace() -> Verdict {
    by_child("enter-user-namespace")
}

/// What that child does.
pub fn enter_user_namespace() -> bool {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_ok()
}

/// They belong to the network namespace, which the workload has in common with the proxy. One of our own shows that they
/// are to be seen.
fn abstract_sockets() -> Verdict {
    let own = format!("assay-selftest-{}", std::process::id());
    let bound = SocketAddr::from_abstract_name(&own).and_then(|address| UnixDatagram::bind_addr(&address));
    let table = bound.and_then(|_bound| fs::read_to_string("/proc/net/unix"));
    match table.as_deref().map(abstract_names) {
        Ok(names) if !names.contains(&own.as_str()) => {
            Verdict::Untried("not even our own is to be seen".to_owned())
        }
        Ok(names) => match names.iter().find(|name| **name != own) {
            Some(name) => Verdict::Open(format!("@{name}")),
            None => Verdict::Closed("none is to be seen".to_owned()),
        },
        Err(error) => Verdict::Untried(error.to_string()),
    }
}

/// The names in the kernel's table of sockets that are no files.
fn abstract_names(table: &str) -> Vec<&str> {
    let names = table.lines().filter_map(|line| line.split_once(" @"));
    names.map(|(_, name)| name).collect()
}

fn see_proxy() -> Verdict {
    let own = std::process::id().to_string();
    let entries = match fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(error) => return Verdict::Untried(error.to_string()),
    };
    let seen = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| is_proxy(path, &own));
    match seen {
        Some(path) => Verdict::Open(path.display().to_string()),
        None => Verdict::Closed("none is to be seen".to_owned()),
    }
}

fn is_proxy(path: &std::path::Path, own: &str) -> bool {
    let is_process = path
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.parse::<u32>().is_ok() && name != own);
    let command = fs::read(path.join("cmdline")).unwrap_or_default();
    let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let serves = !command.windows(8).any(|part| part == b"selftest");
    is_process && program.ends_with(b"proxy") && serves
}

fn look_into_first() -> Verdict {
    let read = |name: &str| Verdict::fails(fs::read(PathBuf::from("/proc/1").join(name)));
    let attached = ptrace::seize(Pid::from_raw(1), ptrace::Options::empty());
    Verdict::all([
        read("environ"),
        read("maps"),
        Verdict::fails(attached.map_err(io::Error::from)),
    ])
}

fn token() -> Verdict {
    let found = [
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/run/secrets/kubernetes.io/serviceaccount/token",
    ];
    Verdict::all(found.map(|path| Verdict::fails(fs::metadata(path))))
}

fn files() -> Verdict {
    let paths = [
        "/assay/assignment.json",
        "/assay/state",
        "/assay/state/identity.json",
    ];
    Verdict::all(paths.map(|path| Verdict::fails(fs::metadata(path))))
}

/// A stop that reached the first process would be seen in its state.
fn stop_first() -> Verdict {
    let first = Pid::from_raw(1);
    if let Err(error) = kill(first, nix::sys::signal::Signal::SIGSTOP) {
        return Verdict::Closed(error.to_string());
    }
    match fs::read_to_string("/proc/1/stat") {
        Ok(stat) if stat.contains(") T ") => {
            kill(first, nix::sys::signal::Signal::SIGCONT).ok();
            Verdict::Open("it stopped".to_owned())
        }
        Ok(_) => Verdict::Closed("it goes on".to_owned()),
        Err(error) => Verdict::Untried(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_sockets_are_told_from_files() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00000000 0001 01 2 /run/x.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 3\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 4 @proxy";
        assert_eq!(abstract_names(table), ["proxy"]);
    }
}
