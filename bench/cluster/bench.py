#!/usr/bin/env python3
"""Measures the control plane of the test cluster and prints medians; raw samples go to a JSON file.

usage: bench.py BUILT OUTPUT.json      (BUILT: folder with assay, assay-screener, examples)

Called by run.sh with the environment of tests/cluster/run.sh. Nothing here fails on a slow machine: a figure is printed beside
its target and judged by the reader. BENCH_PARTS="pods runs builds many scale" measures these parts alone.
"""

import os
import statistics
import sys
import tempfile

import record
from builds import Builds
from kube import Cluster
from pods import Pods
from runs import Runs

# Name of the samples: what it is, target.
FIGURES = {
    "pod_phase_ms": ("pod created -> its runner takes phases", "<= 2000"),
    "bare_pod_ms": ("  bare pod of that shape, created -> Ready", ""),
    "naive_pod_ms": ("  two inits and a native sidecar, the naive order", ""),
    "flip_ms": ("phase flip -> proven", "<= 1000 over the next"),
    "flip_reaction_ms": ("  the network's own reaction in that", ""),
    "flip_over_reaction_ms": ("  the proof beyond it", "<= 1000"),
    "nop_run_ms": ("nop run, claim to reported", ""),
    "platform_share_ms": ("  platform's own share: without pod and proof", "<= 1000"),
    "build_pushed_ms": ("build of a 3-line Dockerfile: Job made -> pushed", "<= 1.5 x the next"),
    "bare_pushed_ms": ("  the builder alone, privileged: the same", ""),
    "build_job_ms": ("build Job of a 3-line Dockerfile, with push", "<= 1.5 x the next"),
    "bare_build_ms": ("  the builder alone, privileged, with push", ""),
    "screener_mib": ("screener's memory while 30 runs run", "<= 100"),
    "concurrent_runs": ("  runs at that moment", "30"),
    "requests_per_sandbox": ("  API-server requests per sandbox, beside watches", "<= 5"),
    "scaled_seconds": ("200 runs, 2 screeners by KEDA from 0 back to 0, s", "all done"),
}


def main():
    built, output = sys.argv[1:]
    cluster = Cluster(os.environ["ASSAY_TEST_KUBECTL"], os.environ["ASSAY_TEST_KUBERNETES_ADMIN"])
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        runs = Runs(cluster, built, folder)
        parts = {
            "pods": Pods(cluster, built).samples,
            "runs": runs.nops,
            "builds": Builds(cluster, runs).samples,
            "many": runs.many,
            "scale": runs.scale,
        }
        wanted = os.environ.get("BENCH_PARTS", " ".join(parts)).split()
        samples = record.kept(output, (found for part in wanted for found in parts[part]()), derived)
    record.show(FIGURES, samples, output)
    if "timeline" in samples:
        print("\n".join(samples["timeline"]))
    for method, number in sorted(samples.get("requests_by_kind", {}).items()):
        print(f"requests of 30 sandboxes: {method} {number}")


def derived(samples):
    """What is the difference of others."""
    if {"flip_ms", "flip_reaction_ms"} <= samples.keys():
        pairs = zip(samples["flip_ms"], samples["flip_reaction_ms"])
        samples["flip_over_reaction_ms"] = [proven - reaction for proven, reaction in pairs]
    if {"nop_run_ms", "flip_ms", "bare_pod_ms"} <= samples.keys():
        bare = statistics.median(samples["bare_pod_ms"])
        pairs = zip(samples["nop_run_ms"], samples["run_flips_ms"])
        samples["platform_share_ms"] = [wall - bare - flips for wall, flips in pairs]


if __name__ == "__main__":
    main()
