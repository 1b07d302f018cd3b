"""The load program: clients and backends, all on the first core."""

import contextlib
import json
import os
import socket
import subprocess
import time

MODEL, SPLICED = "models.example.com", "files.example.com"
CLIENT_CORE, PROXY_CORE = 0, os.cpu_count() - 1
BODY = {
    "model": "test/small",
    "messages": [{"role": "system", "content": "You are terse. " * 30}, {"role": "user", "content": "STREAM"}],
    "max_tokens": 300,
}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def on_core(core):
    """For subprocesses: stays on this core."""
    return lambda: os.sched_setaffinity(0, {core})


def wait_for(port, process, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode} before it listened on {port}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on {port}")


class Load:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.certificates = f"{folder}/certificates"
        run(program, "certify", self.certificates, MODEL, SPLICED, "127.0.0.1")
        self.root = f"{self.certificates}/root.pem"
        self.body, self.stream_body = f"{folder}/body.json", f"{folder}/stream.json"
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        for path, body in ((self.body, BODY), (self.stream_body, BODY | stream)):
            with open(path, "w", encoding="utf-8") as file:
                json.dump(body, file, separators=(",", ":"))

    def backend(self, port, **options):
        """Starts a backend; its process."""
        arguments = ["backend", "--listen", f"127.0.0.1:{port}", "--certificates", self.certificates, *flags(options)]
        process = subprocess.Popen([self.program, *arguments], preexec_fn=on_core(CLIENT_CORE))
        wait_for(port, process)
        return process

    def bill(self, port):
        """What a backend says it has answered."""
        command = ["curl", "-sf", "--cacert", self.root, f"https://127.0.0.1:{port}/bill"]
        return json.loads(run(*command))

    def requests(self, target, **options):
        return json.loads(self._client("requests", target, options))

    def streams(self, target, **options):
        return json.loads(self._client("streams", target, options))

    @contextlib.contextmanager
    def held(self, target, connections):
        """While this lasts, so many idle connections are open."""
        command = [self.program, "hold", *target.flags(), "--connections", str(connections)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            if not process.stdout.readline():
                raise RuntimeError(f"{target.flags()} does not hold {connections} connections")
            yield
            process.stdin.close()

    def _client(self, what, target, options):
        command = [self.program, what, *target.flags(), *flags(options)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=on_core(CLIENT_CORE)).stdout


def flags(options):
    found = []
    for name, value in options.items():
        found += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return found


class Target:
    """Where a client connects to."""

    def __init__(self, port, name, path, roots=None, body=None):
        self.port, self.name, self.path, self.roots, self.body = port, name, path, roots, body

    def flags(self):
        optional = {"roots": self.roots, "body": self.body}
        given = {name: value for name, value in optional.items() if value}
        return flags({"address": f"127.0.0.1:{self.port}", "name": self.name, "path": self.path, **given})

    def posting(self, body):
        return Target(self.port, self.name, self.path, self.roots, body)
