//! Network namespaces, and a thread with a runtime in each. What is mounted there is seen there alone.

use std::{fs::File, future::Future, os::fd::AsRawFd as _, process::Command, sync::mpsc};

use anyhow::{Context as _, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use tokio::{runtime::Handle, sync::oneshot};

use super::address;

/// A thread in a network namespace of its own. Sockets and processes that are made here belong there; when the place
/// ends, so do they.
#[derive(Debug)]
pub struct Place {
    handle: Handle,
    net: File,
    _end: oneshot::Sender<()>,
}

impl Place {
    /// A fresh namespace with lo up.
    pub fn new() -> anyhow::Result<Self> {
        let (told, made) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("place".to_owned())
            .spawn(move || {
                let place = enter();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match (place, runtime) {
                    (Ok(net), Ok(runtime)) => {
                        drop(told.send(Ok((runtime.handle().clone(), net))));
                        drop(runtime.block_on(ended));
                        runtime.shutdown_background();
                    }
                    (Err(error), _) => drop(told.send(Err(error))),
                    (_, Err(error)) => drop(told.send(Err(error.into()))),
                }
            })?;
        let (handle, net) = made.recv()??;
        Ok(Self {
            handle,
            net,
            _end: end,
        })
    }

    /// Runs a task here and waits for it. Never call it from a task.
    pub fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        let (told, done) = mpsc::channel();
        self.handle.spawn(async move { drop(told.send(task.await)) });
        // The task panicked, and has said why on standard error.
        done.recv()
            .unwrap_or_else(|_| panic!("a task of the stage panicked"))
    }

    /// Does something here that needs no runtime.
    pub fn within<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        self.run(async move { act() })
    }

    /// The file that names the namespace to other programs, while this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.net.as_raw_fd())
    }

    /// Starts a task here that goes on by itself.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }
}

fn enter() -> anyhow::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("a namespace (root is needed)")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("mounts of its own")?;
    ip("link set lo up")?;
    Ok(File::open("/proc/thread-self/ns/net")?)
}

/// A cable from the sandbox, whose default route it is, to the internet, which has every address.
pub fn connect(sandbox: &Place, internet: &Place) -> anyhow::Result<()> {
    let path = internet.path();
    sandbox.within(move || -> anyhow::Result<()> {
        ip(&format!("link add eth0 type veth peer name eth0 netns {path}"))
    })?;
    internet.within(|| -> anyhow::Result<()> {
        for address in address::all() {
            let bits = if address.is_ipv4() { 24 } else { 64 };
            ip(&format!(
                "addr add {address}/{bits} dev eth0 {}",
                nodad(address.is_ipv6())
            ))?;
        }
        ip("link set eth0 up")
    })?;
    sandbox.within(|| -> anyhow::Result<()> {
        ip(&format!("addr add {}/24 dev eth0", address::SANDBOX))?;
        ip(&format!("addr add {}/64 dev eth0 nodad", address::SANDBOX_V6))?;
        ip("link set eth0 up")?;
        ip(&format!("route add default via {}", address::GATEWAY))?;
        ip(&format!("-6 route add default via {}", address::GATEWAY_V6))?;
        // As container engines do: an echo request needs no right.
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
        // And every port can be listened on.
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
        Ok(())
    })
}

fn nodad(v6: bool) -> &'static str {
    if v6 { "nodad" } else { "" }
}

/// Moves into the namespace of `place` with the calling thread, for good.
pub fn join(place: &Place) -> anyhow::Result<()> {
    Ok(setns(&place.net, CloneFlags::CLONE_NEWNET)?)
}

pub fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .context("ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {said}");
    Ok(())
}
