#!/usr/bin/env bash
# Copies the example agents and puts the wheels of the `openai` package into those that install it.
#
# usage: wheels.sh ENGINE-CLIENT CACHE OUT
# The wheels are fetched once, for the Python inside of the tasks' image. The sandbox then installs them without network.
set -euo pipefail
cd "$(dirname "$0")/.."
client=$1 cache=$2 out=$3

python=$($client run --rm --network none python:3.12-slim python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
wheels=$cache/wheels-$python
if [ ! -f "$wheels/complete" ]; then
  rm -rf "$wheels"
  python3 -m pip download --quiet --disable-pip-version-check --dest "$wheels" --only-binary=:all: \
    --python-version "$python" --platform "manylinux2014_$(uname -m)" --platform "manylinux_2_17_$(uname -m)" \
    --platform "manylinux_2_28_$(uname -m)" openai
  touch "$wheels/complete"
fi
mkdir -p "$out"
cp -r examples/agents/. "$out/"
for agent in "$out"/*/; do
  if grep -q '/installed-agent/wheels' "$agent/agent.toml"; then
    mkdir -p "$agent/wheels"
    cp "$wheels"/*.whl "$agent/wheels/"
  fi
done
