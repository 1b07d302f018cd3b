#!/usr/bin/env bash
# `make k8s-demo`: the cases of `make demo` in the cluster, where they have to end alike; at the end one model call that was
# forwarded and one connection that was denied, from the proxies' audits. The model service is the scripted one of `make demo`,
# on this machine; the cluster is told of it for as long as this runs.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

target=${CARGO_TARGET_DIR:-$project/target}
work=$(mktemp -d "${TMPDIR:-/tmp}/assay-k8s-demo.XXXXXX")
model= # the process of the model service
told=  # the API knows it

finish() {
  local status=$?
  set +e
  if [ -n "$model" ]; then
    kubectl_ delete networkpolicy -n assay-sandboxes demo-model --ignore-not-found >/dev/null
    kubectl_ delete secret -n assay-system upstreams --ignore-not-found >/dev/null
    [ -z "$told" ] || kubectl_ rollout undo -n assay-system deployment/api >/dev/null
    kill "$model" && wait "$model" 2>/dev/null
  fi
  rm -rf "$work"
  exit $status
}

# Where pods find this machine: the gateway of the network that the nodes are in. Docker and Podman tell it in different words.
gateway() {
  container network inspect kind | { grep -oiE '"gateway": *"[0-9.]+"' || true; } | grep -m1 -oE '[0-9.]+' || true
}

serve_model() {
  local address listen advertise=()
  address=$(gateway)
  [ -n "$address" ] || fail "the network kind has no gateway, so pods cannot reach a model service on this machine"
  listen=$address:0
  # Without root the gateway is in a namespace of the engine's own; its key is random.
  if ! ip -4 -o addr show | grep -qF " $address/"; then
    listen=0.0.0.0:0 advertise=(--advertise "$address")
  fi
  "$target/release/assay-scripted-model" --listen "$listen" ${advertise[@]+"${advertise[@]}"} --script "$project/demo/script.toml" \
    --upstreams "$work/upstreams.toml" >"$work/model.log" 2>&1 &
  model=$!
  for _ in $(seq 300); do { [ -s "$work/model.log" ] || ! kill -0 "$model" 2>/dev/null; } && break; sleep 0.1; done
  grep -q '^scripted model at ' "$work/model.log" || { cat "$work/model.log" >&2; fail "the scripted model does not start"; }
  let_to "$address" "$(sed -n 's/^scripted model at .*:\([0-9]*\) as .*/\1/p' "$work/model.log")"
}

# Private addresses are closed to sandboxes; this one is opened to those whose agent works.
let_to() { # address port
  kubectl_ apply -f - >&2 <<YAML
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: demo-model, namespace: assay-sandboxes}
spec:
  podSelector: {matchLabels: {assay.dev/role: sandbox, assay.dev/phase: agent}}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: $1/32}}]
    ports: [{protocol: TCP, port: $2}]
YAML
}

# Replicas read it when they start.
tell_api() {
  kubectl_ create secret generic upstreams -n assay-system --from-literal=path=/secrets/upstreams/upstreams.toml \
    --from-file=upstreams.toml="$work/upstreams.toml" >&2
  # By the path itself: the word of a Secret that is new is left out where the node has not seen it yet, and an API that does not
  # find its file does not start.
  kubectl_ set env -n assay-system deployment/api ASSAY_UPSTREAMS=/secrets/upstreams/upstreams.toml >&2
  told=1
  kubectl_ rollout status -n assay-system deployment/api --timeout=5m >&2
}

has_cluster || fail "the cluster is not up; run: make k8s-setup"
[ -x "$target/release/assay" ] || fail "there is no assay command; run: make k8s-setup"
has_secret upstreams && fail "the cluster has model services of its own (Secret upstreams in assay-system), which the demo would replace; \
take them away to run it: kubectl --context $context delete secret -n assay-system upstreams"
trap finish EXIT
trap 'exit 130' INT TERM
(cd "$project" && cargo build --release --quiet -p assay-tests --bin assay-scripted-model)
"$project/demo/wheels.sh" "$(engine)" "${ASSAY_CACHE:-$HOME/.cache/assay}" "$work/agents"
serve_model
tell_api
DEMO_PROFILE=kind python3 "$project/demo/demo.py" "$target/release/assay" "$work/agents" assay-demo/scripted-1
