#!/usr/bin/env python3
"""Measures an installation on this machine and prints medians; raw samples go to a JSON file.

usage: bench.py ASSAY READY SANDBOX_BIN SOCKET OUTPUT.json

It starts `assay up` on a folder of its own, runs `examples/tasks/hello-file`, and takes it down again. Nothing here fails
on a slow machine: a figure is printed beside its target and judged by the reader.
"""

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

TASK = "examples/tasks/hello-file"
IMAGE = "debian:bookworm-slim"


def main():
    assay, ready, sandbox_bin, socket, output = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        os.chmod(folder, 0o755)  # PostgreSQL runs as another user.
        env = dict(os.environ, ASSAY_CONFIG_DIR=f"{folder}/config", ASSAY_STATE_DIR=f"{folder}/state", DOCKER_HOST=f"unix://{socket}")
        samples = {"sandbox_ready_ms": sandbox_ready(ready, socket, sandbox_bin)}
        subprocess.run([assay, "up", "--detach", "--slots", "8", "--sandbox-bin", sandbox_bin], env=env, check=True, stdout=sys.stderr)
        try:
            samples |= installation(assay, env)
        finally:
            subprocess.run([assay, "down", "--purge"], env=env, check=False, stdout=sys.stderr)
    machine = {"cores": os.cpu_count(), "kernel": platform.release(), "date": datetime.date.today().isoformat(), "commit": commit()}
    with open(output, "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "samples": samples}, file, indent=1)
    show(samples, output)


def sandbox_ready(ready, socket, sandbox_bin):
    text = subprocess.run([ready, socket, sandbox_bin, IMAGE, "21"], check=True, capture_output=True, text=True).stdout
    return [int(number) for number in re.findall(r"^ready (\d+) ms", text, re.M)]


def installation(assay, env):
    evaluate(assay, env, "nop", 1)  # The image is built once; that is not what is measured.
    samples = {
        "nop_run_s": [walls(evaluate(assay, env, "nop", 1))[0] for _ in range(15)],
        "resident_kib_assay_up": [resident("assay up")],
        "oracle_runs_per_minute": [],
    }
    for _ in range(3):
        begin = time.monotonic()
        evaluate(assay, env, "oracle", 40)
        samples["oracle_runs_per_minute"].append(40 * 60 / (time.monotonic() - begin))
    return samples


def evaluate(assay, env, agent, repeats):
    command = [assay, "--json", "run", TASK, "--agent", agent, "--repeats", str(repeats)]
    text = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    runs = json.loads(text)["runs"]
    assert len(runs) == repeats and all(run["cause"] == "completed" for run in runs), text
    return runs


def walls(runs):
    at = lambda text: datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()
    return [at(run["finished_at"]) - at(run["started_at"]) for run in runs]


def resident(words):
    lines = subprocess.run(["ps", "-eo", "rss,args"], check=True, capture_output=True, text=True).stdout.splitlines()
    return max((int(line.split()[0]) for line in lines if words in line), default=0)


def commit():
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def show(samples, output):
    targets = {"sandbox_ready_ms": "<= 700", "nop_run_s": "<= 2.0", "oracle_runs_per_minute": ">= 100"}
    print(f"{'what':26}{'median':>10}{'min':>10}{'max':>10}  {'n':>3}  target")
    for name, values in samples.items():
        figures = [statistics.median(values), min(values), max(values)]
        print(f"{name:26}" + "".join(f"{figure:10.2f}" for figure in figures) + f"  {len(values):3}  {targets.get(name, '')}")
    print(f"raw samples: {output}")


if __name__ == "__main__":
    main()
