"""The Docker API on a unix socket, as far as measuring needs it."""

import http.client
import json
import socket as sockets
import urllib.parse


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("engine")
        self.path = path

    def connect(self):
        self.sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self.sock.connect(self.path)


def call(socket, method, path, body=None):
    """One call; the answer's JSON, or its text."""
    connection = Connection(socket)
    connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    connection.close()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {text}")
    try:
        return json.loads(text)
    except ValueError:
        return text


def containers(socket, run):
    """The containers of a run, whatever their state."""
    filters = json.dumps({"label": [f"assay.dev/run={run}"]})
    return call(socket, "GET", "/containers/json?all=1&filters=" + urllib.parse.quote(filters))


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
