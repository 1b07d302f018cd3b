#!/bin/sh
# Installs Harbor's own parser beside the checkout and prints the interpreter that has it:
#
#     ASSAY_HARBOR_PYTHON=$(tests/harbor/setup.sh) cargo test -p assay-core --test harbor
#
# Harbor needs Python 3.12 or newer. One that is found is used; else, as root, a trixie folder is made for it.
# Everything is kept in ${ASSAY_CACHE:-$HOME/.cache/assay}; a second call only prints the path.
set -eu

cache=${ASSAY_CACHE:-$HOME/.cache/assay}
venv=$cache/harbor-0.25.0
rootfs=$cache/trixie
wrapper=$cache/harbor-python

# `--no-deps` and the dependencies by hand: one of Harbor's pins is newer than what is served.
packages="certifi pydantic shortuuid typer requests pyyaml rich toml tenacity python-dotenv jinja2 dirhash packaging \
semver fastapi uvicorn pathspec httpx filelock platformdirs pyjwt jsonschema litellm supabase"

is_new_enough() {
  "$1" -c 'import sys, venv; sys.exit(sys.version_info < (3, 12))' 2>/dev/null
}

works() {
  "$1" -c 'from harbor.models.task.config import TaskConfig' 2>/dev/null
}

for python in "$venv/bin/python" "$wrapper"; do
  if [ -x "$python" ] && works "$python"; then
    echo "$python"
    exit 0
  fi
done

mkdir -p "$cache"
for python in python3 python3.14 python3.13 python3.12 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python3; do
  if is_new_enough "$python"; then
    "$python" -m venv "$venv" >&2
    "$venv/bin/pip" install -q --no-deps harbor==0.25.0 >&2
    # shellcheck disable=SC2086 # a list of words
    "$venv/bin/pip" install -q $packages >&2 || true
    works "$venv/bin/python"
    echo "$venv/bin/python"
    exit 0
  fi
done

if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
  echo "Python 3.12 is missing; as root with debootstrap a trixie folder would be made" >&2
  exit 1
fi
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie "$rootfs" >&2
cp /etc/resolv.conf "$rootfs/etc/resolv.conf"
chroot "$rootfs" python3 -m venv /harbor >&2
chroot "$rootfs" /harbor/bin/pip install -q --no-deps harbor==0.25.0 >&2
# shellcheck disable=SC2086 # a list of words
chroot "$rootfs" /harbor/bin/pip install -q $packages >&2 || true
cat > "$wrapper" <<WRAPPER
#!/bin/sh
exec chroot "$rootfs" /harbor/bin/python "\$@"
WRAPPER
chmod +x "$wrapper"
works "$wrapper"
echo "$wrapper"
