"""Makes what the played package host offers: `registry.py FOLDER`. A wheel, a package of npm, a git repository."""
import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

HOST = "https://packages.example"
TEXT = "sample"


def python_package(folder):
    page = folder / "simple/assay-sample"
    page.mkdir(parents=True)
    wheel = "assay_sample-1.0.0-py3-none-any.whl"
    info = "assay_sample-1.0.0.dist-info"
    with zipfile.ZipFile(page / wheel, "w") as packed:
        packed.writestr("assay_sample.py", TEXT)
        packed.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: assay-sample\nVersion: 1.0.0\n")
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: sample\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{info}/RECORD", "")
    (page / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{wheel}">{wheel}</a></body></html>')


def npm_package(folder):
    (folder / "npm/files").mkdir(parents=True)
    manifest = {"name": "assay-sample", "version": "1.0.0", "main": "index.js"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in (("package.json", json.dumps(manifest)), ("index.js", TEXT)):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    (folder / "npm/files/assay-sample-1.0.0.tgz").write_bytes(packed.getvalue())
    sum512 = base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()
    dist = {"tarball": f"{HOST}/npm/files/assay-sample-1.0.0.tgz", "integrity": f"sha512-{sum512}"}
    document = {"name": "assay-sample", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**manifest, "dist": dist}}}
    (folder / "npm/assay-sample").write_text(json.dumps(document))


def repository(folder):
    work = folder / "work"
    (folder / "git").mkdir()

    def git(*words):
        who = ("-c", "user.name=sample", "-c", "user.email=sample@packages.example")
        subprocess.run(["git", *who, *words], check=True, stdout=subprocess.DEVNULL)

    git("init", "--quiet", str(work))
    (work / "README").write_text(TEXT)
    git("-C", str(work), "add", ".")
    git("-C", str(work), "commit", "--quiet", "--message", "Begin")
    git("clone", "--quiet", "--bare", str(work), str(folder / "git/sample.git"))


if __name__ == "__main__":
    made = Path(sys.argv[1])
    python_package(made)
    npm_package(made)
    repository(made)
