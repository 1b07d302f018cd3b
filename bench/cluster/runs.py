"""Runs on the control plane of the cluster: one after the other, thirty at once on a screener of its own, and two hundred with
screeners that KEDA starts."""

import collections
import datetime
import json
import os
import pathlib
import subprocess
import tempfile
import time
import uuid

NOPS = int(os.environ.get("BENCH_TIMES", "10"))
MANY = int(os.environ.get("BENCH_MANY", "30"))
SCALED = int(os.environ.get("BENCH_SCALED", "200"))
EXAMPLE = pathlib.Path("examples/tasks/hello-file")
SCALED_OBJECTS = "manifests/components/keda/scaled-objects.yaml"
# All work at a moment that is the same for all, by the clock that all share; then they end one after the other.
LONG = "end=$(({} + $(od -An -N1 -tu1 /dev/urandom) / 4))\nuntil [ \"$(date +%s)\" -ge $end ]; do sleep 0.5; done\n"


class Runs:
    def __init__(self, cluster, built, folder):
        self.cluster, self.built, self.folder = cluster, built, folder
        self.api, self.key = os.environ["ASSAY_TEST_KUBE_API"], os.environ["ASSAY_TEST_KUBE_KEY"]
        self.env = dict(os.environ, ASSAY_CONFIG_DIR=f"{folder}/config", ASSAY_STATE_DIR=f"{folder}/state")

    def assay(self, *words):
        command = [f"{self.built}/assay", "--json", "--api", self.api, "--key", self.key, *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"assay {' '.join(words)}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout)

    def task(self, dockerfile=None):
        """The example, on an image that is there or with a Dockerfile of its own."""
        path = pathlib.Path(tempfile.mkdtemp(dir=self.folder), "hello-file")
        for name in ("instruction.md", "solution/solve.sh", "tests/test.sh", "task.toml"):
            text = (EXAMPLE / name).read_text(encoding="utf-8")
            if name == "task.toml" and not dockerfile:
                text = text.replace("[environment]", '[environment]\ndocker_image = "debian:bookworm-slim"\nworkdir = "/app"')
            write(path / name, text)
        write(path / "environment" / ("Dockerfile" if dockerfile else "none"), dockerfile or "")
        return str(path)

    def run(self, task, agent, *options):
        """To the end; its runs."""
        runs = self.assay("run", task, "--agent", agent, *options)["runs"]
        assert all(run["cause"] == "completed" for run in runs), runs
        return runs

    def nops(self):
        task = self.task()
        self.run(task, "nop")  # The image is pulled once.
        runs = [self.run(task, "nop")[0] for _ in range(NOPS)]
        events = [self.assay("why", run["id"])["events"] for run in runs]
        proofs = [[event["data"] for event in found if event["kind"] == "phase_proven"] for found in events]
        verify = [proof for found in proofs for proof in found if proof["egress"] == "verify"]
        yield "flip_ms", [proof["proven_ms"] for proof in verify]
        yield "flip_reaction_ms", [proof["reaction_ms"] for proof in verify]
        yield "run_flips_ms", [sum(proof["proven_ms"] for proof in found) for found in proofs]
        yield "nop_run_ms", [(at(run["finished_at"]) - at(run["started_at"])) * 1000 for run in runs]

    def many(self):
        """A screener on this machine with a class of its own: what it weighs, and how often it asks the API server."""
        with self.screener("many", MANY) as process:
            asked = self.asked()
            agent = self.agent(LONG.format(int(time.time()) + 10 + 3 * MANY))
            evaluation = self.assay("submit", self.task(), "--agent", agent, "--repeats", str(MANY), "--class", "many")["id"]
            weights, most = [], 0
            while True:
                states = [run["state"] for run in self.assay("show", evaluation)["runs"]]
                working = self.working("many")
                if working > most:
                    most, weights = working, []
                if working == most:
                    weights.append(resident_mib(process.pid))
                if not {"queued", "running"} & set(states):
                    break
                time.sleep(1)
            # The last pods go.
            while self.working("many"):
                time.sleep(0.5)
            kinds = self.asked() - asked
            yield "screener_mib", weights
            yield "concurrent_runs", [most]
            yield "requests_by_kind", dict(kinds)
            yield "requests_per_sandbox", [sum(kinds.values()) / MANY]
            assert states.count("finished") == MANY, states

    def scale(self):
        """Submitted while no screener is there; until none is there again."""
        self.cluster.kubectl("apply", "--server-side", "-f", SCALED_OBJECTS)
        try:
            self.cluster.kubectl("patch", "-n", "assay-system", "scaledobject/screener-1", "--type=merge", "-p", '{"spec":{"maxReplicaCount":2}}')
            self.until(lambda: self.screeners() == (0, 0))
            evaluation = self.assay("submit", self.task(), "--agent", "nop", "--repeats", str(SCALED))["id"]
            begin, timeline = time.monotonic(), []

            def over():
                wanted, ready = self.screeners()
                states = [run["state"] for run in self.assay("show", evaluation)["runs"]]
                ended = len(states) - states.count("queued") - states.count("running")
                note = (wanted, ready, ended // 20 * 20)
                if not timeline or timeline[-1][1] != note:
                    seconds = time.monotonic() - begin
                    line = f"+{seconds:6.1f} s  screeners wanted {wanted}, ready {ready}; runs queued {states.count('queued')}, running {states.count('running')}, ended {ended}"
                    timeline.append((line, note))
                return ended == SCALED and (wanted, ready) == (0, 0)

            self.until(over)
            yield "timeline", [line for line, _ in timeline]
            yield "scaled_seconds", [time.monotonic() - begin]
            runs = self.assay("show", evaluation)["runs"]
            assert all(run["cause"] == "completed" for run in runs), runs
        finally:
            self.cluster.kubectl("delete", "-f", SCALED_OBJECTS)
            self.cluster.kubectl("scale", "-n", "assay-system", "statefulset/screener-1", "statefulset/screener-2", "--replicas=1")

    def until(self, is_so):
        end = time.monotonic() + 1200
        while not is_so():
            if time.monotonic() > end:
                raise RuntimeError("not within twenty minutes")
            time.sleep(1)

    def screeners(self):
        found = json.loads(self.cluster.kubectl("get", "statefulset", "screener-1", "-n", "assay-system", "-o", "json"))
        return found["spec"]["replicas"], found["status"].get("readyReplicas", 0)

    def agent(self, script):
        path = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        write(path / "agent.toml", 'name = "long"\ncontract = "command"\nrun = ["sh", "/installed-agent/agent.sh"]\n')
        write(path / "agent.sh", script)
        return str(path)

    def working(self, name):
        """Pods of the screener's class whose agent may work."""
        pods = json.loads(self.cluster.kubectl("get", "pods", "-n", "assay-sandboxes", "-l", "assay.dev/phase=agent", "-o", "json"))["items"]
        return sum(1 for pod in pods if pod["status"]["phase"] == "Running")

    def screener(self, name, slots):
        return Screener(self, name, slots)

    def asked(self):
        """Requests of this machine's screener in the API server's audit log, by verb and kind, without watches."""
        return audit(pathlib.Path(os.environ["ASSAY_TEST_KUBERNETES_ADMIN"]).parents[1] / "log" / "audit.log")


class Screener:
    """A screener process against the cluster, with the rights and the images of those in it."""

    def __init__(self, runs, name, slots):
        key = runs.assay("key", "create", f"{name}-{uuid.uuid4().hex[:8]}", "--scope", "worker")
        file = pathlib.Path(runs.folder, f"{name}.key")
        write(file, key["secret"])
        registry = os.environ["ASSAY_TEST_REGISTRY"]
        host = registry.removeprefix("http://")
        command = [f"{runs.built}/assay-screener", "run", "--api", runs.api, "--key-file", str(file), "--name", name]
        command += ["--class", name, "--slots", str(slots), "--engine", "kubernetes", "--kubeconfig", os.environ["ASSAY_TEST_KUBERNETES"]]
        command += ["--init-image", f"{host}/assay/init-iptables:test", "--proxy-image", f"{host}/assay/proxy:test"]
        command += ["--work-dir", f"{runs.folder}/{name}", "--resolver", "10.96.0.10:53", "--cpu-request-percent", "1"]
        env = dict(runs.env, ASSAY_MIRRORS=f"docker.io={registry},{host}={registry}", ASSAY_LOG="warn")
        self.process = subprocess.Popen(command, env=env)

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def audit(path):
    """Counts requests of this machine, by verb and kind."""
    kinds = collections.Counter()
    with open(path, encoding="utf-8") as file:
        for line in file:
            event = json.loads(line)
            # Pods of the cluster have addresses of their own; this machine is the node.
            if event["verb"] == "watch" or event["sourceIPs"] != ["10.250.0.1"]:
                continue
            about = event.get("objectRef", {})
            kinds[f"{event['verb']} {about.get('resource', '')}{'/' + about['subresource'] if 'subresource' in about else ''}"] += 1
    return kinds


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def at(text):
    """Seconds of a timestamp, whose fraction may have more digits than Python reads."""
    return datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
