"""Our proxy and its peers as processes: how each is configured, started and stopped."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import configs
from load import MODEL, PROXY_CORE, SPLICED, Target, on_core, wait_for

BACKEND = 9443
# A backend that takes its time, so that many requests are under way at once.
SLOW = 9444
CHAT = "/api/v1/chat/completions"


class Peer:
    """A running proxy. `splice` and `terminate` are its targets, where it has them."""

    def __init__(self, name, command, ports, env=None):
        self.name, self.splice, self.terminate = name, None, None
        self.process = subprocess.Popen(
            command, env=os.environ | (env or {}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=on_core(PROXY_CORE)
        )
        for port in ports:
            wait_for(port, self.process)

    def pids(self):
        """Itself and its workers."""
        found, look_at = [], [self.process.pid]
        while look_at:
            found.append(look_at.pop())
            with contextlib.suppress(OSError), open(f"/proc/{found[-1]}/task/{found[-1]}/children", encoding="utf-8") as file:
                look_at += [int(pid) for pid in file.read().split()]
        return found

    def cpu_seconds(self):
        ticks = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                fields = file.read().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        pages = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/statm", encoding="utf-8") as file:
                pages += int(file.read().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        # Workers too: they would go on listening for a master that is gone.
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Peers:
    """Starts everything that can be had, and ends it."""

    def __init__(self, proxy, peers, load, folder):
        self.proxy, self.installed, self.load, self.folder = proxy, peers, load, folder
        self.missing, self.running, self.lives = {}, {}, 0

    def __enter__(self):
        self.backends = [self.load.backend(BACKEND), self.load.backend(SLOW, think_ms=200, output_tokens=300)]
        self.direct = Target(BACKEND, MODEL, CHAT, self.load.root, self.load.body)
        self.start("assay", self.assay)
        for name, start in {"nginx": self.nginx, "haproxy": self.haproxy, "mitmproxy": self.mitmproxy, "litellm": self.litellm}.items():
            try:
                self.start(name, start)
            except (OSError, RuntimeError) as error:
                self.missing[name] = str(error)
        return self

    def __exit__(self, *_):
        for process in [*self.running.values()]:
            process.stop()
        for process in self.backends:
            process.kill()
            process.wait()

    def start(self, name, start, **options):
        """Starts a peer, or starts it again."""
        if name in self.running:
            self.running.pop(name).stop()
        self.running[name] = start(**options)
        return self.running[name]

    def assay(self, budget="1000000", backend=BACKEND):
        self.lives += 1
        state = f"{self.folder}/state-{self.lives}"
        os.mkdir(state)
        assignment = f"{state}/assignment.json"
        configs.write(assignment, configs.assay(self.load.root, backend, budget))
        command = [self.proxy, "--assignment", assignment, "--state", state, "--log", "error"]
        peer = Peer("assay", command, [15443, 15088, 15090])
        trust = f"{self.folder}/trust.pem"
        subprocess.run(["curl", "-sf", "-o", trust, "http://127.0.0.1:15090/trust"], check=True)
        peer.splice = Target(15443, SPLICED, "/file", self.load.root)
        peer.terminate = Target(15443, MODEL, CHAT, trust, self.load.body)
        return peer

    def nginx(self):
        config = f"{self.folder}/nginx.conf"
        configs.write(config, configs.nginx(self.load, self.folder, BACKEND, self._module("ngx_stream_module.so")))
        peer = Peer("nginx", [self._program("nginx"), "-c", config, "-e", "/dev/null"], [8441, 8442])
        return self._proxying(peer, 8441, 8442)

    def haproxy(self):
        config = f"{self.folder}/haproxy.cfg"
        configs.write(config, configs.haproxy(self.load, BACKEND))
        peer = Peer("haproxy", [self._program("haproxy"), "-db", "-f", config], [8451, 8452])
        return self._proxying(peer, 8451, 8452)

    def mitmproxy(self):
        options = [f"certs=*={self.load.certificates}/server.pem", f"ssl_verify_upstream_trusted_ca={self.load.root}", "keep_host_header=true"]
        command = [self._venv("mitmdump"), "-q", "--mode", f"reverse:https://127.0.0.1:{BACKEND}", "--listen-port", "8461", f"--set=confdir={self.folder}/mitmproxy"]
        peer = Peer("mitmproxy", [*command, *(f"--set={option}" for option in options)], [8461])
        peer.terminate = Target(8461, MODEL, CHAT, self.load.root, self.load.body)
        return peer

    def litellm(self, budget=None, backend=BACKEND):
        config = f"{self.folder}/litellm.yaml"
        configs.write(config, configs.litellm(backend, budget))
        command = [self._venv("litellm"), "--config", config, "--host", "127.0.0.1", "--port", "8471", "--num_workers", "1"]
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}
        peer = Peer("litellm", command, [8471], env={"SSL_CERT_FILE": self.load.root, "OPENAI_API_KEY": "placeholder", **quiet})
        # Plain HTTP: it opens no TLS of its own, and so does less than the others.
        peer.terminate = Target(8471, "127.0.0.1", "/v1/chat/completions", None, self.load.body)
        return peer

    def _proxying(self, peer, splice, terminate):
        peer.splice = Target(splice, SPLICED, "/file", self.load.root)
        peer.terminate = Target(terminate, MODEL, CHAT, self.load.root, self.load.body)
        return peer

    def _program(self, name):
        unpacked = f"{self.installed}/debian/usr/sbin/{name}"
        program = unpacked if os.path.exists(unpacked) else shutil.which(name)
        if not program:
            raise RuntimeError("it is not installed")
        return program

    def _module(self, name):
        for root in (f"{self.installed}/debian", ""):
            path = f"{root}/usr/lib/nginx/modules/{name}"
            if os.path.exists(path):
                return path
        raise RuntimeError(f"it has no {name}")

    def _venv(self, name):
        program = f"{self.installed}/{name}/bin/{name}"
        if not os.path.exists(program):
            raise RuntimeError("it is not installed")
        return program


def wait_until_idle(peer):
    """Until it has used no time for a tenth of a second."""
    before = -1.0
    while (now := peer.cpu_seconds()) != before:
        before = now
        time.sleep(0.1)
