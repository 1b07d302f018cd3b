//! The user namespace of the workload: every id of the container but the proxy's.
//!
//! A helper process (`holder`) unshares; this process writes its maps and keeps an open descriptor of the
//! namespace, which children enter by setns. Then the helper ends: a namespace lives as long as somebody holds it.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use assay_core::control::runner::Isolation;
use nix::sched::{CloneFlags, unshare};

/// The proxy's user id, exempt from redirection: nothing of the workload may ever have it.
pub(crate) const PROXY_ID: u32 = 1337;

/// How children are confined.
#[derive(Debug)]
pub(crate) struct Confinement {
    /// The namespace to enter; `None` where user namespaces are refused.
    namespace: Option<File>,
    /// Why there is none, for people.
    pub(crate) reason: Option<String>,
}

impl Confinement {
    /// Makes the namespace, or falls back to `no_new_privs` and says why.
    pub(crate) fn establish() -> Self {
        match make_namespace() {
            Ok(namespace) => Self {
                namespace: Some(namespace),
                reason: None,
            },
            Err(error) => Self {
                namespace: None,
                reason: Some(format!("user namespaces are refused here: {error}")),
            },
        }
    }

    /// The word for `/healthz`.
    pub(crate) fn isolation(&self) -> Isolation {
        if self.namespace.is_some() {
            Isolation::UserNamespace
        } else {
            Isolation::NoNewPrivileges
        }
    }

    /// A descriptor of the namespace that a child inherits over exec.
    pub(crate) fn inheritable(&self) -> nix::Result<Option<OwnedFd>> {
        self.namespace.as_ref().map(nix::unistd::dup).transpose()
    }
}

/// The helper's whole life: unshare, say so, wait until the maps are written.
pub(crate) fn hold() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER)?;
    io::stdout().write_all(b"\n")?;
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn make_namespace() -> io::Result<File> {
    let mut holder = Command::new("/proc/self/exe")
        .arg("holder")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let made = map_and_open(&mut holder);
    drop(holder.stdin.take());
    holder.wait()?;
    made
}

fn map_and_open(holder: &mut Child) -> io::Result<File> {
    let mut ready = [0_u8; 1];
    holder
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("no pipe to the helper"))?
        .read_exact(&mut ready)
        .map_err(|_| io::Error::other("the kernel or the runtime does not allow it"))?;
    let process = format!("/proc/{}", holder.id());
    for file in ["uid_map", "gid_map"] {
        let ours = std::fs::read_to_string(format!("/proc/self/{file}"))?;
        std::fs::write(format!("{process}/{file}"), identity_without(&ours, PROXY_ID))?;
    }
    File::open(format!("{process}/ns/user"))
}

/// Identity maps of every range in `map` (the text of a `uid_map`) with one id left out.
fn identity_without(map: &str, hole: u32) -> String {
    let hole = u64::from(hole);
    let mut lines = String::new();
    for line in map.lines() {
        let mut numbers = line
            .split_whitespace()
            .filter_map(|word| word.parse::<u64>().ok());
        let (Some(start), Some(_), Some(count)) = (numbers.next(), numbers.next(), numbers.next()) else {
            continue;
        };
        let end = start + count;
        for (from, to) in [(start, end.min(hole)), (start.max(hole + 1), end)] {
            if from < to {
                let count = to - from;
                lines.extend([format!("{from} {from} {count}\n")]);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::identity_without;

    #[test]
    fn one_id_is_left_out_of_the_whole_range() {
        assert_eq!(
            identity_without("         0          0 4294967295\n", 1337),
            "0 0 1337\n1338 1338 4294965957\n"
        );
    }

    #[test]
    fn ranges_of_a_rootless_container_are_kept() {
        assert_eq!(
            identity_without("0 1000 1\n1 100000 65536\n", 1337),
            "0 0 1\n1 1 1336\n1338 1338 64199\n"
        );
        assert_eq!(identity_without("0 5 1337\n", 1337), "0 0 1337\n");
        assert_eq!(identity_without("1337 5 1\n", 1337), "");
    }
}
