#!/usr/bin/env python3
"""Measures an installation on this machine and prints medians; raw samples go to a JSON file.

usage: bench.py BUILT SANDBOX_BIN SOCKET OUTPUT.json      (BUILT: folder with assay, assay-api, assay-screener, examples)

It starts `assay up` on a folder of its own, evaluates `examples/tasks/hello-file`, and takes it down again. Nothing here
fails on a slow machine: a figure is printed beside its target and judged by the reader. Samples are written as they come.
BENCH_PARTS="ready bare" measures these parts alone.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

import bare
import harbor
import installation
import record

IMAGE = "debian:bookworm-slim"

# Name of the samples: what it is, target.
FIGURES = {
    "sandbox_ready_ms": ("sandbox ready: init, proxy, main", "<= 700"),
    "bare_sandbox_ready_ms": ("  three bare containers of that shape", ""),
    "nop_run_ms": ("nop run, claim to reported", "<= 2000"),
    "platform_share_ms": ("  platform's own share: the run without its sandbox", "<= 500"),
    "oracle_runs_per_minute": ("40 oracle runs at 8, shared verifier", ">= 100"),
    "separate_runs_per_minute": ("40 oracle runs at 8, separate verifier", ">= 50"),
    "bare_sandboxes_per_minute": ("  the bare engine's ceiling at 8", ""),
    "harbor_runs_per_minute": ("  Harbor's own runner with Docker at 8", ""),
    "cancel_ms": ("cancel to sandbox gone", "<= 10000"),
    "queue_short_per_second": ("claim + complete, short queue", ""),
    "queue_long_per_second": ("claim + complete, 100,000 runs queued", ">= 500"),
    "claim_short_ms": ("one claim, short queue", ""),
    "claim_long_ms": ("one claim as fast as can be, 100,000 runs queued", ""),
    "queue_paced_per_second": ("claim + complete, workers that ask for 500 a second", ""),
    "claim_paced_ms": ("one claim at that rate, 100,000 runs queued", "p99 <= 20"),
    "api_idle_mib": ("resident memory: API, idle", "<= 60"),
    "screener_idle_mib": ("resident memory: screener, idle", "<= 40"),
    "proxy_idle_mib": ("resident memory: proxy, in a sandbox", "<= 15"),
    "runner_idle_mib": ("resident memory: runner, in a sandbox", "<= 4"),
    "rules_and_proof_ms": ("packet rules and proof", "<= 150"),
}


def main():
    built, sandbox_bin, socket, output = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        os.chmod(folder, 0o755)  # PostgreSQL runs as another user.
        parts = {
            "queue": lambda: queue(built),
            "ready": lambda: sandbox_ready(built, socket, sandbox_bin),
            "bare": lambda: bare.measure(socket, IMAGE),
            "installation": lambda: installation.measure(built, sandbox_bin, socket, folder),
            "harbor": lambda: harbor.measure(installation.TASK, socket, folder),
        }
        wanted = os.environ.get("BENCH_PARTS", " ".join(parts)).split()
        samples = record.kept(output, (found for part in wanted for found in parts[part]()), platform_share)
    record.show(FIGURES, samples, output)


def platform_share(samples):
    if {"nop_run_ms", "bare_sandbox_ready_ms"} <= samples.keys():
        bare_ready = statistics.median(samples["bare_sandbox_ready_ms"])
        samples["platform_share_ms"] = [wall - bare_ready for wall in samples["nop_run_ms"]]


def queue(built):
    command = [f"{built}/examples/queue", f"{built}/assay-api", "100000", "10"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    yield "queue_short_per_second", found["short"]["runs_per_second"]
    yield "queue_long_per_second", found["long"]["runs_per_second"]
    yield "claim_short_ms", found["short"]["claim_ms"]
    yield "claim_long_ms", found["long"]["claim_ms"]
    yield "queue_paced_per_second", found["paced"]["runs_per_second"]
    yield "claim_paced_ms", found["paced"]["claim_ms"]
    yield "api_idle_mib", [found["idle_kib"] / 1024]


def sandbox_ready(built, socket, sandbox_bin):
    command = [f"{built}/examples/ready", socket, sandbox_bin, IMAGE, "21"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    yield "sandbox_ready_ms", [int(number) for number in re.findall(r"^ready (\d+) ms", text, re.M)]


if __name__ == "__main__":
    main()
