//! Fresh network namespaces for the tests, and users in them.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt},
    unistd::{Uid, geteuid, setfsuid},
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_assay-init-iptables");
/// How long something that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long something that must not happen is given to happen.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// Runs `test` on a thread of its own in a fresh network namespace with lo up.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if !geteuid().is_root() {
        eprintln!("skipped: root is missing");
        return;
    }
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        test();
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A second namespace at the other end of a cable; ours has the default route through it.
pub(crate) struct Peer(File);

impl Peer {
    pub(crate) fn connect() -> Self {
        let own = current();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        let peer = Self(current());
        setns(&own, CloneFlags::CLONE_NEWNET).unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), peer.0.as_raw_fd());
        ip(&format!("link add eth0 type veth peer name eth1 netns {path}"));
        for line in [
            "addr add 10.9.0.2/24 dev eth0",
            "addr add fd09::2/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 10.9.0.1",
            "-6 route add default via fd09::1",
        ] {
            ip(line);
        }
        peer.within(|| {
            for line in [
                "addr add 10.9.0.1/24 dev eth1",
                "addr add fd09::1/64 dev eth1 nodad",
                "link set eth1 up",
            ] {
                ip(line);
            }
        });
        peer
    }

    /// Does `act` on the other side.
    pub(crate) fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        let own = current();
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
        let result = act();
        setns(own, CloneFlags::CLONE_NEWNET).unwrap();
        result
    }
}

fn current() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

pub(crate) fn ip(arguments: &str) {
    let output = shell(&format!("ip {arguments}"));
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

pub(crate) fn shell(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).output().unwrap()
}

/// Is `program` installed? Says so when not.
pub(crate) fn installed(program: &str) -> bool {
    let found = shell(&format!("command -v {program}")).status.success();
    if !found {
        eprintln!("skipped: {program} is missing");
    }
    found
}

/// Sockets that `act` makes and uses belong to `user`.
pub(crate) fn as_user<T>(user: u32, act: impl FnOnce() -> T) -> T {
    let before = setfsuid(Uid::from_raw(user));
    let result = act();
    setfsuid(before);
    result
}

pub(crate) fn dial(user: u32, target: &str) -> io::Result<TcpStream> {
    let target: SocketAddr = target.parse().unwrap();
    as_user(user, || TcpStream::connect_timeout(&target, PATIENCE))
}

/// Dials from a port that other connections may have, too.
pub(crate) fn dial_from(own: &str, target: &str) -> TcpStream {
    let [own, target]: [SocketAddr; 2] = [own, target].map(|address| address.parse().unwrap());
    let family = if own.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(own)).unwrap();
    socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(target)).unwrap();
    socket.into()
}

/// Dials a target from which no answer may come.
pub(crate) fn dial_briefly(target: &str) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&target.parse().unwrap(), SILENCE)
}

pub(crate) fn listen(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// The connection of `client` arrives at `listener`, and bytes go both ways.
pub(crate) fn talk(mut client: TcpStream, listener: &TcpListener) {
    let deadline = Instant::now() + PATIENCE;
    let mut server = loop {
        match listener.accept() {
            Ok((accepted, _)) => break accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(error) => panic!("nothing arrived at {:?}: {error}", listener.local_addr()),
        }
    };
    server.set_nonblocking(false).unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    // Told by what it says and not by its port: the kernel gives a redirected connection another one where an earlier
    // connection from the same port was led to the same listener.
    let said = client.local_addr().unwrap().to_string().into_bytes();
    client.write_all(&said).unwrap();
    let mut heard = vec![0; said.len()];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(heard, said);
    server.write_all(&heard).unwrap();
    client.read_exact(&mut heard).unwrap();
    assert_eq!(heard, said);
}

/// Runs the program with a configuration, in a file of this call's own: tests run beside each other.
pub(crate) fn init(backend: &str) -> Output {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let number = CALLS.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("assay-init-{}-{number}.json", std::process::id()));
    std::fs::write(&path, format!(r#"{{"hold":false,"backend":"{backend}"}}"#)).unwrap();
    let output = Command::new(BINARY).arg("--config").arg(&path).output().unwrap();
    std::fs::remove_file(path).unwrap();
    output
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

/// The report of a run that must have gone well.
pub(crate) fn report(output: &Output) -> assay_core::control::init::InitReport {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
