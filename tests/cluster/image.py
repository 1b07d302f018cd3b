#!/usr/bin/env python3
"""Puts images into the test cluster's registry: as much of an engine's client as base-images.sh asks for.

usage: image.py REGISTRY-URL image inspect NAME
       image.py REGISTRY-URL digest NAME
       image.py REGISTRY-URL import [--base NAME] [--change 'ENV A=b' | --change 'CMD ["x"]' | ENTRYPOINT | USER | WORKDIR]… LAYER.tar NAME

With --base the layer lies on those of an image that is there.
"""
import hashlib
import io
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def ask(method, url, body=None, headers=None):
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    # Never through a proxy: the registry is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=600)


def exists(url):
    try:
        ask("HEAD", url, headers={"Accept": MANIFEST}).close()
        return True
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise


def place(registry, name):
    """The repository's base URL and the tag, as an engine would find them behind a mirror."""
    path, _, tag = name.rpartition(":")
    first, _, rest = path.partition("/")
    if rest and ("." in first or ":" in first):
        path = rest
    elif not rest:
        path = "library/" + path
    return f"{registry}/v2/{path}", tag


def digest_of(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            total.update(piece)
    return "sha256:" + total.hexdigest()


def upload(base, digest, size, open_body):
    if exists(f"{base}/blobs/{digest}"):
        return
    with ask("POST", f"{base}/blobs/uploads/", b"") as started:
        # Some registries name the host, some do not.
        where = urllib.parse.urljoin(base, started.headers["Location"])
    joint = "&" if "?" in where else "?"
    with open_body() as body:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        ask("PUT", f"{where}{joint}digest={digest}", body, headers).close()


def configuration(changes, config):
    for change in changes:
        word, _, value = change.partition(" ")
        if word == "ENV":
            config["Env"].append(value)
        elif word in ("CMD", "ENTRYPOINT"):
            config[word.capitalize()] = json.loads(value)
        elif word == "USER":
            config["User"] = value
        elif word == "WORKDIR":
            config["WorkingDir"] = value
        else:
            sys.exit(f"image.py: --change {change!r} is not known")
    return config


def below(registry, name):
    """Layers, their uncompressed digests and the configuration of the image that is built on."""
    if not name:
        return [], [], {"Env": [], "WorkingDir": "/"}
    base, tag = place(registry, name)
    with ask("GET", f"{base}/manifests/{tag}", headers={"Accept": MANIFEST}) as answer:
        manifest = json.load(answer)
    with ask("GET", f"{base}/blobs/{manifest['config']['digest']}") as answer:
        config = json.load(answer)
    return manifest["layers"], config["rootfs"]["diff_ids"], config["config"]


def mount(registry, name, base, layers):
    """Makes layers of one repository known in another of the same registry."""
    source = place(registry, name)[0].split("/v2/", 1)[1] if name else ""
    for layer in layers:
        if not exists(f"{base}/blobs/{layer['digest']}"):
            ask("POST", f"{base}/blobs/uploads/?mount={layer['digest']}&from={source}", b"").close()


def put(registry, tar, name, changes, under=None):
    base, tag = place(registry, name)
    layers, diffs, config = below(registry, under)
    mount(registry, under, base, layers)
    layer = {"mediaType": LAYER, "digest": digest_of(tar), "size": os.path.getsize(tar)}
    upload(base, layer["digest"], layer["size"], lambda: open(tar, "rb"))
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = json.dumps({"architecture": machine, "os": "linux", "config": configuration(changes, config),
                         "rootfs": {"type": "layers", "diff_ids": [*diffs, layer["digest"]]},
                         "history": [{"created_by": "image.py"} for _ in [*diffs, layer]]}).encode()
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    upload(base, digest, len(config), lambda: io.BytesIO(config))
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [*layers, layer],
                "config": {"mediaType": CONFIG, "digest": digest, "size": len(config)}}
    ask("PUT", f"{base}/manifests/{tag}", json.dumps(manifest).encode(), {"Content-Type": MANIFEST}).close()


def main(words):
    registry, words = words[0].rstrip("/"), words[1:]
    if words[:2] == ["image", "inspect"]:
        base, tag = place(registry, words[2])
        return 0 if exists(f"{base}/manifests/{tag}") else 1
    if words[:1] == ["digest"]:
        base, tag = place(registry, words[1])
        with ask("GET", f"{base}/manifests/{tag}", headers={"Accept": MANIFEST}) as answer:
            print("sha256:" + hashlib.sha256(answer.read()).hexdigest())
        return 0
    if words[:1] == ["import"]:
        changes, under, rest = [], None, words[1:]
        while rest and rest[0] in ("--change", "--base"):
            if rest[0] == "--base":
                under = rest[1]
            else:
                changes.append(rest[1])
            rest = rest[2:]
        put(registry, rest[0], rest[1], changes, under)
        return 0
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
