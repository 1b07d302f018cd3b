//! What the workload cannot do.

use std::{fs, os::unix::fs::PermissionsExt as _};

use assay_core::control::runner::{Isolation, Outcome};

use crate::sandbox::{PYTHON, Sandbox, Setup, command, shell, skipped};

async fn with_python(setup: Setup) -> Option<Sandbox> {
    if !std::path::Path::new(PYTHON).exists() {
        skipped(PYTHON);
        return None;
    }
    Sandbox::start(setup).await
}

async fn start() -> Option<Sandbox> {
    let sandbox = with_python(Setup::default()).await?;
    if sandbox.client.health().await.unwrap().isolation != Isolation::UserNamespace {
        skipped("user namespaces");
        return None;
    }
    Some(sandbox)
}

async fn python(sandbox: &Sandbox, script: &str) -> String {
    let done = sandbox.run(&command(&[PYTHON, "-c", script])).await;
    format!("{}{}", done.text(), String::from_utf8_lossy(&done.stderr))
        .trim()
        .to_owned()
}

/// Tries to be the proxy's user.
const BECOME_THE_PROXY: &str = "
import os, errno, tempfile
def attempt(f, *a):
    try: f(*a); print('done')
    except OSError as e: print(errno.errorcode[e.errno])
attempt(os.setuid, 1337)
attempt(os.setresuid, 1337, 1337, 1337)
attempt(os.setgid, 1337)
_, own = tempfile.mkstemp()
attempt(os.chown, own, 1337, -1)
os.remove(own)";

#[tokio::test]
async fn nobody_can_become_the_proxys_user() {
    let Some(sandbox) = start().await else { return };
    assert_eq!(
        python(&sandbox, BECOME_THE_PROXY).await,
        "EINVAL\nEINVAL\nEINVAL\nEINVAL"
    );
    let mut request = shell("id -u");
    request.user = Some("1337".to_owned());
    assert_eq!(sandbox.run(&request).await.end.outcome, Outcome::SpawnFailed);
}

#[tokio::test]
async fn a_setuid_file_of_the_proxys_user_has_no_effect() {
    let Some(sandbox) = start().await else { return };
    let file = sandbox.path("id1337");
    fs::copy("/usr/bin/id", &file).unwrap();
    std::os::unix::fs::chown(&file, Some(1337), Some(1337)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
    let done = sandbox.run(&command(&[file.to_str().unwrap(), "-u"])).await;
    assert_eq!(done.text(), "0\n");
}

#[tokio::test]
async fn other_users_work_both_ways() {
    let Some(sandbox) = start().await else { return };
    assert_eq!(
        python(&sandbox, "import os; os.setuid(1000); print(os.getuid())").await,
        "1000"
    );
    let mut request = shell("id -u; id -g");
    request.user = Some("65534:7".to_owned());
    assert_eq!(sandbox.run(&request).await.text(), "65534\n7\n");
    // Back to root by a setuid file, as `su` does it.
    let file = sandbox.path("id0");
    fs::copy("/usr/bin/id", &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(sandbox.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut request = command(&[file.to_str().unwrap(), "-u"]);
    request.user = Some("1000".to_owned());
    assert_eq!(sandbox.run(&request).await.text(), "0\n");
}

/// System calls that a container runtime refuses, and what each has to say here.
const DANGEROUS: (&str, &str) = (
    "
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, *a):
    r = libc.syscall(*a)
    print(name, 'done' if r >= 0 else errno.errorcode[ctypes.get_errno()])
for family in (17, 40):
    try: socket.socket(family, socket.SOCK_RAW if family == 17 else socket.SOCK_STREAM); print('socket')
    except OSError as e: print(errno.errorcode[e.errno])
attempt('unshare', 272, 0x10000000)
attempt('clone3', 435, 0, 0)
attempt('clone', 56, 0x10000000 | 17, 0, 0, 0, 0)
attempt('keyctl', 250, 0, -3, 0)
attempt('bpf', 321, 0, 0, 0)
attempt('io_uring', 425, 1, 0)
attempt('mount', 165, b'none', b'/mnt', b'tmpfs', 0, 0)
attempt('x32', 0x40000000 + 39)",
    "EPERM\nEPERM\nunshare EPERM\nclone3 ENOSYS\nclone EPERM\nkeyctl EPERM\nbpf EPERM\nio_uring EPERM\nmount EPERM\nx32 ENOSYS",
);

#[tokio::test]
async fn dangerous_calls_are_refused() {
    let Some(sandbox) = start().await else { return };
    if cfg!(target_arch = "x86_64") {
        assert_eq!(python(&sandbox, DANGEROUS.0).await, DANGEROUS.1);
    }
}

/// Where user namespaces are refused nobody gains a right, so nobody becomes root again either.
#[tokio::test]
async fn without_user_namespaces_nobody_becomes_the_proxys_user_either() {
    let setup = Setup {
        user_namespaces: false,
        ..Setup::default()
    };
    let Some(sandbox) = with_python(setup).await else {
        return;
    };
    let health = sandbox.client.health().await.unwrap();
    assert_eq!(health.isolation, Isolation::NoNewPrivileges);
    assert!(health.reason.unwrap().contains("user namespaces are refused"));
    // The packet rules ask for the user alone. A file may belong to it: nothing that is started from one gets that user.
    assert_eq!(
        python(&sandbox, BECOME_THE_PROXY).await,
        "EPERM\nEPERM\ndone\ndone"
    );
    let mut request = shell("id -u");
    request.user = Some("1337".to_owned());
    assert_eq!(sandbox.run(&request).await.end.outcome, Outcome::SpawnFailed);
    fs::set_permissions(sandbox.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (owner, mode) in [(1337, 0o6755), (0, 0o4755)] {
        let file = sandbox.path(&format!("id{owner}"));
        fs::copy("/usr/bin/id", &file).unwrap();
        std::os::unix::fs::chown(&file, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let mut request = command(&[file.to_str().unwrap(), "-u"]);
        request.user = Some("1000".to_owned());
        assert_eq!(sandbox.run(&request).await.text(), "1000\n");
    }
    if cfg!(target_arch = "x86_64") {
        assert_eq!(python(&sandbox, DANGEROUS.0).await, DANGEROUS.1);
    }
}

#[tokio::test]
async fn the_runner_cannot_be_touched() {
    let Some(sandbox) = start().await else { return };
    let script = "
import os, errno
def attempt(f, *a):
    try: f(*a); print('done')
    except OSError as e: print(errno.errorcode[e.errno])
for signal in (9, 15, 19): os.kill(1, signal)
attempt(open, '/proc/1/mem', 'rb')
attempt(os.readlink, '/proc/1/exe')
print(open('/proc/self/status').read().split('CapBnd:')[1].split()[0])
for n in os.listdir('/proc/self/fd'):
    if int(n) > 2 and os.path.exists('/proc/self/fd/' + n): print(n, os.readlink('/proc/self/fd/' + n))";
    assert_eq!(python(&sandbox, script).await, "EACCES\nEACCES\n00000000a80405fb");
    let pid = sandbox.pid();
    // The namespace outlives kills: no process of ours holds it.
    sandbox.client.kill().await.unwrap();
    assert_eq!(
        sandbox
            .shell("cat /proc/self/uid_map")
            .await
            .text()
            .lines()
            .count(),
        2
    );
    assert_eq!(sandbox.pid(), pid);
}
