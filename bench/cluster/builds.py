"""A build Job of the platform, beside a Job that runs the builder alone."""

import os
import threading
import time
import uuid

from kube import condition

TIMES = int(os.environ.get("BENCH_TIMES", "5"))
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
DOCKERFILE = "FROM {}\nRUN echo {} >/known\nWORKDIR /app\n"


class Builds:
    def __init__(self, cluster, runs):
        self.cluster, self.runs = cluster, runs
        self.host = os.environ["ASSAY_TEST_REGISTRY"].removeprefix("http://")

    def samples(self):
        self.ours(), self.alone()  # Images of the builders are pulled once.
        ours, alone = [], []
        for _ in range(TIMES):
            ours.append(self.ours())
            alone.append(self.alone())
        for at, (job, bare) in enumerate((("build_pushed_ms", "bare_pushed_ms"), ("build_job_ms", "bare_build_ms"))):
            yield job, [one[at] for one in ours]
            yield bare, [one[at] for one in alone]

    def ours(self):
        """The Job that a run of a new Dockerfile makes: fetch, build, push."""
        task = self.runs.task(DOCKERFILE.format("debian:bookworm-slim", uuid.uuid4()))
        before = {job["metadata"]["uid"] for job in self.cluster.call("GET", JOBS.format("assay-builds"))["items"]}
        found = []
        watch = threading.Thread(target=lambda: found.append(self.job("assay-builds", "push", lambda job: job["metadata"]["uid"] not in before)))
        watch.start()
        self.runs.run(task, "nop")
        watch.join()
        return found[0]

    def alone(self):
        """Buildah as root without walls: base from the registry, result to it."""
        name = f"bench-{uuid.uuid4().hex[:8]}"
        text = DOCKERFILE.format(f"{self.host}/library/debian:bookworm-slim", name).replace("\n", "\\n")
        storage = "buildah --root /storage/root --runroot /storage/run"
        script = (
            f"mkdir /storage/context && printf '{text}' >/storage/context/Dockerfile && "
            f"{storage} build --isolation=chroot --tls-verify=false --no-cache --format=docker --tag result /storage/context && "
            f"{storage} push --tls-verify=false result docker://{self.host}/assay/alone:{name}"
        )
        mounts = [
            {"name": "storage", "mountPath": "/storage"},
            {"name": "storage", "mountPath": "/var/cache/containers", "subPath": "cache"},
        ]
        build = {
            "name": "build", "image": f"{self.host}/assay/buildah:test", "command": ["sh", "-c", script],
            "securityContext": {"privileged": True}, "volumeMounts": mounts,
        }
        spec = {"restartPolicy": "Never", "containers": [build], "volumes": [{"name": "storage", "emptyDir": {}}]}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": spec}}}
        self.cluster.call("POST", JOBS.format("default"), job)
        taken = self.job("default", "build", lambda job: job["metadata"]["name"] == name)
        self.cluster.kubectl("delete", "job", name, "--wait=false")
        return taken

    def job(self, namespace, last, wanted):
        """Milliseconds from the first sight of a Job until its last container has ended well, and until it is Complete: its pod
        is put away in between."""
        begin, pushed = None, []
        for job in self.cluster.watch(JOBS.format(namespace)):
            if not wanted(job):
                continue
            if begin is None:
                begin = time.monotonic()
                watch = threading.Thread(target=lambda job=job: pushed.append(self.ended(namespace, job["metadata"]["name"], last)))
                watch.start()
            if condition(job, "Failed"):
                raise RuntimeError(f"the Job failed: {job['status']}")
            if condition(job, "Complete"):
                complete = time.monotonic()
                watch.join()
                return (pushed[0] - begin) * 1000, (complete - begin) * 1000
        raise RuntimeError("the watch has ended")

    def ended(self, namespace, job, container):
        """When a container of a Job's pod is seen to have ended well."""
        pods = self.cluster.watch(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"batch.kubernetes.io/job-name={job}")
        for pod in pods:
            for status in pod["status"].get("containerStatuses", []):
                ended = status["state"].get("terminated")
                if status["name"] == container and ended and ended["exitCode"] == 0:
                    return time.monotonic()
        raise RuntimeError("the watch has ended")
