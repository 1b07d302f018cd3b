"""Runs through a whole installation: `assay up`, the real engine, real sandboxes."""

import datetime
import json
import os
import re
import subprocess
import sys
import time

import engine

TASK = "examples/tasks/hello-file"
SEPARATE = '[verifier]\nmode = "separate"\ncarry = ["/app"]\n'


def measure(built, sandbox_bin, socket, folder):
    bench = Bench(built, sandbox_bin, socket, folder)
    subprocess.run([bench.assay, "up", "--detach", "--slots", "8", "--sandbox-bin", sandbox_bin], env=bench.env, check=True, stdout=sys.stderr)
    try:
        yield from bench.samples()
    finally:
        subprocess.run([bench.assay, "down", "--purge"], env=bench.env, check=False, stdout=sys.stderr)


class Bench:
    def __init__(self, built, sandbox_bin, socket, folder):
        self.assay, self.screener = f"{built}/assay", f"{built}/assay-screener"
        self.sandbox_bin, self.socket, self.folder = sandbox_bin, socket, folder
        self.env = dict(os.environ, ASSAY_CONFIG_DIR=f"{folder}/config", ASSAY_STATE_DIR=f"{folder}/state", DOCKER_HOST=f"unix://{socket}")

    def samples(self):
        separate = f"{self.folder}/separate.toml"
        with open(separate, "w", encoding="utf-8") as file:
            file.write(SEPARATE)
        self.evaluate("nop", 1)  # The image is built once; that is not what is measured.
        nops = [self.evaluate("nop", 1)[0] for _ in range(15)]
        yield "nop_run_ms", [wall_ms(run) for run in nops]
        yield "screener_idle_mib", [self.screener_idle()]
        yield from self.cancels(10).items()
        for name, options in (("oracle_runs_per_minute", []), ("separate_runs_per_minute", ["--policy", separate])):
            rates = []
            for _ in range(10):
                rates.append(self.rate(options))
                yield name, rates

    def json(self, *words):
        text = subprocess.run([self.assay, "--json", *words], env=self.env, check=True, capture_output=True, text=True).stdout
        return json.loads(text)

    def evaluate(self, agent, repeats, options=()):
        answer = self.json("run", TASK, "--agent", agent, "--repeats", str(repeats), *options)
        runs = answer["runs"]
        assert len(runs) == repeats and all(run["cause"] == "completed" for run in runs), answer
        return runs

    def rate(self, options):
        """Runs a minute of 40 runs, from the first claim to the last report."""
        runs = self.evaluate("oracle", 40, options)
        first, last = min(at(run["started_at"]) for run in runs), max(at(run["finished_at"]) for run in runs)
        return 40 * 60 / (last - first)

    def cancels(self, times):
        """From the cancel to no container of the run; and what the programs of a live sandbox weigh."""
        samples = {"cancel_ms": [], "proxy_idle_mib": [], "runner_idle_mib": [], "rules_and_proof_ms": []}
        for _ in range(times):
            evaluation = self.json("submit", TASK, "--agent", "examples/agents/sleeper")["id"]
            run = self.wait_for_agent(evaluation)
            for container in engine.containers(self.socket, run):
                weigh(self.socket, container, samples)
            begin = time.monotonic()
            self.json("cancel", run)
            while engine.containers(self.socket, run):
                time.sleep(0.02)
            samples["cancel_ms"].append((time.monotonic() - begin) * 1000)
        return samples

    def wait_for_agent(self, evaluation):
        """The id of the evaluation's run, once its agent works."""
        while True:
            run = self.json("show", evaluation)["runs"][0]["id"]
            if any(event["phase"] == "agent" for event in self.json("why", run)["events"]):
                return run
            time.sleep(0.1)

    def screener_idle(self):
        """A screener of its own beside the installation, registered, with nothing to do."""
        state = f"{self.folder}/state/local"
        key = f"{self.folder}/worker.key"
        with open(key, "w", encoding="utf-8") as file:
            file.write(read_json(f"{state}/installation.json")["worker_key"])
        command = [self.screener, "run", "--api", read_json(f"{state}/running.json")["api"], "--key-file", key, "--class", "idle"]
        command += ["--engine-socket", self.socket, "--sandbox-bin", self.sandbox_bin]
        command += ["--work-dir", f"{self.folder}/screener", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(5)
        weight = engine.resident_mib(process.pid)
        process.terminate()
        process.wait()
        return weight


def weigh(socket, container, samples):
    """Adds what a container of a live sandbox tells: memory of its first process, or how long the packet rules took."""
    pid = engine.call(socket, "GET", f"/containers/{container['Id']}/json")["State"]["Pid"]
    match container["Labels"]["assay.dev/role"]:
        case "proxy":
            samples["proxy_idle_mib"].append(engine.resident_mib(pid))
        case "main":
            samples["runner_idle_mib"].append(engine.resident_mib(pid))
        case "init":
            log = engine.call(socket, "GET", f"/containers/{container['Id']}/logs?stdout=1&stderr=1")
            samples["rules_and_proof_ms"] += [int(number) for number in re.findall(r'"millis":(\d+)', str(log))]


def wall_ms(run):
    return (at(run["finished_at"]) - at(run["started_at"])) * 1000


def at(text):
    """Seconds of a timestamp, whose fraction may have more digits than Python reads."""
    return datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
