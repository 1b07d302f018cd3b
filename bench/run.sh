#!/usr/bin/env bash
# `make bench`: builds optimised programs, measures this machine, prints medians, keeps raw JSON under target/bench.
# Uses the engine that DOCKER_HOST names, else a private dockerd (root). BENCH_PROFILE=dev skips the long optimised build.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${BENCH_PROFILE:-release}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
built=$target/${profile/dev/debug}
sandbox=$target/$(rustc -vV | sed -n 's/^host: //p')/sandbox
work=$(mktemp -d /tmp/assay-bench.XXXXXX)
stop() { [ ! -d "$work/docker" ] || tests/engines/docker.sh stop "$work/docker"; rm -rf "$work"; }
trap stop EXIT

cargo build --quiet --profile "$profile" -p assay-cli -p assay-api -p assay-screener
cargo build --quiet --profile "$profile" -p assay-engine --example ready -p assay-cli --example queue
if [ -n "${DOCKER_HOST:-}" ]; then
  socket=${DOCKER_HOST#unix://}
else
  mkdir -p "$work/docker"
  socket=$(tests/engines/docker.sh start "$work/docker")
fi
DOCKER_HOST=unix://$socket tests/engines/base-images.sh

mkdir -p "$target/bench"
python3 bench/bench.py "$built" "$sandbox" "$socket" "$target/bench/$(date -u +%Y%m%dT%H%M%SZ).json"
