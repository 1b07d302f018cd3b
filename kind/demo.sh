#!/usr/bin/env bash
# `make k8s-demo`: the cases of `make demo` in the cluster, where they have to end alike; at the end one model call that was
# forwarded and one connection that was denied, from the proxies' audits. The model service is the scripted one of `make demo`,
# on this machine; the cluster is told of it for as long as this runs.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

target=${CARGO_TARGET_DIR:-$project/target}
work=$(mktemp -d "${TMPDIR:-/tmp}/assay-k8s-demo.XXXXXX")
# shellcheck source=../demo/model-for-cluster.sh
. "$project/demo/model-for-cluster.sh"

finish() {
  local status=$?
  set +e
  take_model_back
  rm -rf "$work"
  exit $status
}

# Where pods find this machine: the gateway of the network that the nodes are in. Docker and Podman tell it in different words.
gateway() {
  container network inspect kind | { grep -oiE '"gateway": *"[0-9.]+"' || true; } | grep -m1 -oE '[0-9.]+' || true
}

serve() {
  local address listen advertise=()
  address=$(gateway)
  [ -n "$address" ] || fail "the network kind has no gateway, so pods cannot reach a model service on this machine"
  listen=$address:0
  # Without root the gateway is in a namespace of the engine's own; its key is random.
  if ! ip -4 -o addr show | grep -qF " $address/"; then
    listen=0.0.0.0:0 advertise=(--advertise "$address")
  fi
  serve_model "$target/release/assay-scripted-model" "$project/demo" "$address" --listen "$listen" ${advertise[@]+"${advertise[@]}"}
}

has_cluster || fail "the cluster is not up; run: make k8s-setup"
[ -x "$target/release/assay" ] || fail "there is no assay command; run: make k8s-setup"
has_secret upstreams && fail "the cluster has model services of its own (Secret upstreams in assay-system), which the demo would replace; \
take them away to run it: kubectl --context $context delete secret -n assay-system upstreams"
trap finish EXIT
trap 'exit 130' INT TERM
(cd "$project" && cargo build --release --quiet -p assay-tests --bin assay-scripted-model)
"$project/demo/wheels.sh" "$(engine)" "${ASSAY_CACHE:-$HOME/.cache/assay}" "$work/agents"
serve
tell_api
DEMO_PROFILE=kind python3 "$project/demo/demo.py" "$target/release/assay" "$work/agents" assay-demo/scripted-1
