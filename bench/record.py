"""Samples as they come, in a JSON file, and the table that they make."""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys


def machine():
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {"cores": os.cpu_count(), "kernel": platform.release(), "date": datetime.date.today().isoformat(), "commit": commit}


def kept(output, figures, derive=lambda samples: None):
    """The samples of all figures, written after each one: what came before a fault is not lost."""
    samples, about = {}, machine()
    for name, values in figures:
        samples[name] = values
        derive(samples)
        with open(output, "w", encoding="utf-8") as file:
            json.dump({"machine": about, "samples": samples}, file, indent=1)
        print(f"measured: {name}", file=sys.stderr)
    return samples


def show(figures, samples, output):
    """A line for each of `figures`: name of the samples to what it is and its target."""
    print(f"{'what':54}{'median':>10}{'min':>10}{'p99':>10}{'max':>10}  {'n':>5}  target")
    for name, (what, target) in figures.items():
        values = sorted(samples.get(name, []))
        if not values:
            print(f"{what:54}{'not measured: ' + samples.get(name + '_why', 'no sample'):>10}")
            continue
        p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
        line = [statistics.median(values), values[0], p99, values[-1]]
        print(f"{what:54}" + "".join(f"{figure:10.2f}" for figure in line) + f"  {len(values):5}  {target}")
    print(f"raw samples: {output}")
