#!/usr/bin/env python3
"""A scripted stand-in for Kaniko's executor: its arguments, its exit codes and its last words, and nothing of how it builds.

It takes the base image from the mapped registry, runs each RUN where it is, and leaves base and one more layer as the
result, in files that only it may read, as Kaniko does.
"""
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request

options = {}
for word in sys.argv[1:]:
    name, _, value = word.removeprefix("--").partition("=")
    options.setdefault(name, []).append(value)
known = {
    "context", "dockerfile", "no-push", "oci-layout-path", "reproducible", "custom-platform", "log-format",
    "credential-helpers", "skip-default-registry-fallback", "insecure-registry", "ignore-path", "registry-map", "build-arg",
}
for name in options.keys() - known:
    print(f"Error: unknown flag: --{name}\nUsage:\n" + "  --flag\n" * 100, file=sys.stderr)
    sys.exit(1)
dockerfile = options["dockerfile"][0]
if not os.path.exists(dockerfile):
    text = "error resolving dockerfile path: please provide a valid path to a Dockerfile within the build context with --dockerfile"
    print(f"Error: {text}\nUsage:\n" + "  --flag\n" * 100, file=sys.stderr)
    sys.exit(1)
maps = dict(one.split("=", 1) for one in options["registry-map"])


def get(url):
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10).read()


def base(name):
    path, _, tag = name.rpartition(":")
    place, _, prefix = maps["index.docker.io"].partition("/")
    repository = f"http://{place}/v2/{prefix}/library/{path}"
    manifest = json.loads(get(f"{repository}/manifests/{tag}"))
    blobs = {one["digest"]: get(f"{repository}/blobs/{one['digest']}") for one in [manifest["config"], *manifest["layers"]]}
    for digest, content in blobs.items():
        assert digest == "sha256:" + hashlib.sha256(content).hexdigest()
    return manifest, blobs


def put(folder, content):
    digest = hashlib.sha256(content).hexdigest()
    descriptor, path = tempfile.mkstemp(dir=f"{folder}/blobs/sha256")
    os.write(descriptor, content)
    os.rename(path, f"{folder}/blobs/sha256/{digest}")
    return {"digest": f"sha256:{digest}", "size": len(content)}


def leave(manifest, blobs):
    folder = options["oci-layout-path"][0]
    os.makedirs(f"{folder}/blobs/sha256", exist_ok=True)
    for content in blobs.values():
        put(folder, content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("made"))
    layer = put(folder, packed.getvalue())
    config = json.loads(blobs[manifest["config"]["digest"]])
    config["rootfs"]["diff_ids"].append(layer["digest"])
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    manifest |= {"mediaType": docker, "config": put(folder, json.dumps(config).encode()), "layers": [*manifest["layers"], layer]}
    image = put(folder, json.dumps(manifest).encode()) | {"mediaType": docker}
    with open(f"{folder}/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [image]}, file)
    with open(f"{folder}/oci-layout", "w") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


# Opened as Kaniko opens everything: that needs rights over its owner.
with os.fdopen(os.open(dockerfile, os.O_RDONLY | os.O_NOATIME)) as file:
    lines = file.read().splitlines()
for line in lines:
    word, _, rest = line.partition(" ")
    if word == "FROM":
        image = base(rest)
    elif word == "RUN":
        print(f"INFO[0001] {line}", flush=True)
        code = subprocess.run(["/bin/sh", "-c", rest], env={"PATH": os.environ["PATH"]}).returncode
        if code:
            said = f"exit status {code}" if code > 0 else "signal: killed"
            print(f"error building image: error building stage: failed to execute command: waiting for process to exit: {said}", file=sys.stderr)
            sys.exit(code if code > 0 else 255)
leave(*image)
