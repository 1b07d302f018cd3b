"""Runs as a step of a build: everything here has to fail."""
import os
import socket
import subprocess
import sys

found = []

# Kaniko works where its steps do, so they see its volumes; what has secrets in it is no volume of its container.
own = ("/assay/order", "/assay/login") if os.environ.get("BUILDER") == "kaniko" else ("/assay",)
for place in (*own, "/var/run/secrets/kubernetes.io", "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda"):
    if os.path.exists(place):
        found.append(f"{place} is there")
words = (b"X-Amz-Signature", b"dockerconfigjson", b"KUBERNETES_SERVICE_HOST")
for name in os.listdir("/proc"):
    if name.isdigit():
        try:
            environment = open(f"/proc/{name}/environ", "rb").read()
        except OSError:
            continue
        found += [f"{word} in the environment of {name}" for word in words if word in environment]
for host, port in (("10.250.0.1", 6443), ("10.250.0.1", 5000), ("10.96.0.1", 443), ("127.0.0.1", 15090), ("1.1.1.1", 443)):
    with socket.socket() as connection:
        connection.settimeout(2)
        if connection.connect_ex((host, port)) == 0:
            found.append(f"{host}:{port} answers")
if subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], stderr=subprocess.DEVNULL).returncode == 0:
    found.append("it may mount")
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    found.append("it may see packets")
except OSError:
    pass
sys.exit("\n".join(found)) if found else print("nothing found")
