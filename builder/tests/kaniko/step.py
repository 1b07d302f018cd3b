"""Runs as a step of a build: says by its end whether a step has what it needs and nothing else."""
import os
import socket
import subprocess

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
kept = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "SETGID": 6, "SETUID": 7, "SYS_CHROOT": 18, "SETFCAP": 31}
for held in ("CapBnd", "CapPrm", "CapEff"):
    assert int(status[held], 16) == sum(1 << bit for bit in kept.values()), (held, status[held])
assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2", status

# What Kaniko does for a base image and its steps.
open("/tmp/of-somebody", "w").close()
os.chown("/tmp/of-somebody", 1000, 1000)
os.chmod("/tmp/of-somebody", 0o600)
os.close(os.open("/tmp/of-somebody", os.O_RDONLY | os.O_NOATIME))
os.setxattr("/tmp/of-somebody", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
assert subprocess.run(["id", "-u"], user=1000, group=1000, extra_groups=[1000], capture_output=True).stdout == b"1000\n"
assert os.stat("/assay/context/environment/Dockerfile").st_uid == 65532


def refused(what, call):
    try:
        call()
    except (OSError, subprocess.SubprocessError):
        return
    raise SystemExit(f"{what} was not refused")


# The proxy's user is whom packet rules let through.
refused("becoming the proxy's user", lambda: subprocess.run(["true"], user=1337))
refused("a user namespace", lambda: subprocess.run(["unshare", "-U", "true"], check=True))
refused("a mount", lambda: subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], check=True))
refused("a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
assert [name for _, name in socket.if_nameindex()] == ["lo"], socket.if_nameindex()
for process in filter(str.isdigit, os.listdir("/proc")):
    try:
        environment = open(f"/proc/{process}/environ", "rb").read()
    except OSError:
        continue
    assert b"KUBERNETES_" not in environment, process
print("a step as it should be")
