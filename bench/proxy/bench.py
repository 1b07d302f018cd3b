#!/usr/bin/env python3
"""Measures the egress proxy beside its peers and prints a table with targets and verdicts; raw samples go to a JSON file.

usage: bench.py BUILT PEERS OUTPUT.json      (in a network namespace of its own; see run.sh)

Every peer is driven by the same clients and stands before the same backend, directly at its port: packet rules would
cost each connection the same, and the peers have none. Each has one worker, alone on the second core; clients and
backend share the first. A round measures every peer once, so that all of them see the same machine.
"""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile

import rows
from load import Load, run
from peers import Peers


def main():
    built, peers, output = sys.argv[1:]
    run("ip", "link", "set", "lo", "up")
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        load = Load(f"{built}/examples/load", folder)
        with Peers(f"{built}/assay-proxy", peers, load, folder) as started:
            measured = rows.measure(started, load)
    with open(output, "w", encoding="utf-8") as file:
        json.dump({"machine": machine(), "missing": started.missing, "samples": measured.samples}, file, indent=1)
    measured.show()
    for name, why in started.missing.items():
        print(f"not measured: {name}: {why}")
    print(f"raw samples: {output}")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cores": os.cpu_count(),
        "cpu": model and model[1],
        "kernel": platform.release(),
        "date": datetime.date.today().isoformat(),
        "commit": commit,
    }


if __name__ == "__main__":
    main()
