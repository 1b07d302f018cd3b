#!/usr/bin/env bash
# `make bench-cluster`: tests/cluster/run.sh has brought the cluster up, with KEDA and the control plane, and calls this with
# its environment. Medians on the screen, raw JSON under target/bench. BENCH_PARTS="pods runs" measures these parts alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

: "${ASSAY_TEST_KUBE_API:?run: make bench-cluster}"
profile=${CLUSTER_PROFILE:-dev}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo build --quiet --workspace --profile "$profile" --example ready
mkdir -p "$target/bench"
PYTHONPATH=bench python3 bench/cluster/bench.py "$ASSAY_TEST_KUBE_PROGRAMS" "$target/bench/cluster-$(date -u +%Y%m%dT%H%M%SZ).json"
