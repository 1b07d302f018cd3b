"""Harbor's own runner on the same task, where it is installed: `harbor` in PATH or ASSAY_HARBOR, and Docker's compose plugin."""

import os
import shutil
import subprocess
import time


def measure(task, socket, folder):
    program = os.environ.get("ASSAY_HARBOR") or shutil.which("harbor")
    env = dict(os.environ, DOCKER_HOST=f"unix://{socket}", HOME=folder)
    if not program:
        yield "harbor_runs_per_minute_why", "harbor is not installed"
        return
    if subprocess.run(["docker", "compose", "version"], env=env, capture_output=True, check=False).returncode:
        yield "harbor_runs_per_minute_why", "Docker has no compose plugin"
        return
    evaluate = [program, "run", "-p", task, "-a", "oracle", "-o", f"{folder}/harbor", "-n", "8"]
    subprocess.run([*evaluate, "-k", "1"], env=env, check=True, capture_output=True)  # builds the image
    rates = []
    for _ in range(3):
        begin = time.monotonic()
        subprocess.run([*evaluate, "-k", "16"], env=env, check=True, capture_output=True)
        rates.append(16 * 60 / (time.monotonic() - begin))
    yield "harbor_runs_per_minute", rates
