"""A sandbox's pod from nothing to a runner that takes phases, beside bare pods of the same shape."""

import os
import re
import subprocess
import time

from kube import condition

TIMES = int(os.environ.get("BENCH_TIMES", "10"))
PODS = "/api/v1/namespaces/default/pods"
IMAGE = "debian:bookworm-slim"
SLEEP = ["sleep", "1000"]


class Pods:
    def __init__(self, cluster, built):
        self.cluster, self.built = cluster, built

    def samples(self):
        self.bare(0, shape())  # The image is pulled once; that is not what is measured.
        half = TIMES // 2
        bare = [self.bare(number, shape()) for number in range(half)]
        yield "pod_phase_ms", self.ours()
        bare += [self.bare(number, shape()) for number in range(half)]
        yield "bare_pod_ms", bare
        yield "naive_pod_ms", [self.bare(number, naive()) for number in range(half)]

    def ours(self):
        command = [f"{self.built}/examples/ready", "kubernetes", os.environ["ASSAY_TEST_KUBERNETES"]]
        command += [os.environ["ASSAY_TEST_REGISTRY"], IMAGE, str(TIMES)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [int(number) for number in re.findall(r"^ready (\d+) ms", text, re.M)]

    def bare(self, number, spec):
        """Milliseconds from the request to the condition Ready."""
        name = f"bench-{number}"
        begin = time.monotonic()
        self.cluster.call("POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        seen = self.cluster.watch(PODS, fieldSelector=f"metadata.name={name}")
        next(pod for pod in seen if condition(pod, "Ready"))
        ready = (time.monotonic() - begin) * 1000
        self.cluster.kubectl("delete", "pod", name, "--wait", "--grace-period=1")
        return ready


def container(name, **more):
    """Requests as small as ours, and the same limits."""
    resources = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}
    mounts = [{"name": "work", "mountPath": "/work"}]
    return {"name": name, "image": IMAGE, "command": SLEEP, "resources": resources, "volumeMounts": mounts, **more}


def pod(inits, containers):
    return {
        "initContainers": inits, "containers": containers, "volumes": [{"name": "work", "emptyDir": {}}],
        "automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": 1,
        "restartPolicy": "Never",
    }


def shape():
    """As a sandbox: what writes the rules, then proxy and main side by side."""
    return pod([container("init", command=["true"])], [container("proxy"), container("main")])


def naive():
    """Rules, then the runner, then the proxy as a native sidecar, then main."""
    sidecar = container("proxy", restartPolicy="Always")
    inits = [container("rules", command=["true"]), container("runner", command=["true"]), sidecar]
    return {**pod(inits, [container("main")]), "restartPolicy": "Always"}
