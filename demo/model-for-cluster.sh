# The scripted model of the demo for a control plane on a cluster, for as long as a demo runs. Sourced by the demos of clusters,
# which give `kubectl_`, `fail` and their folder `work`, and call `take_model_back` at their end.
# shellcheck shell=bash

model='' # the process of the model service
told=''  # the API knows it

serve_model() { # program, folder of this script, address of this machine as pods see it, options of the program…
  local program=$1 folder=$2 address=$3
  shift 3
  "$program" "$@" --script "$folder/script.toml" --upstreams "${work:?}/upstreams.toml" >"$work/model.log" 2>&1 &
  model=$!
  for _ in $(seq 1200); do { [ -s "$work/model.log" ] || ! kill -0 "$model" 2>/dev/null; } && break; sleep 0.1; done
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

# What was there before is not touched.
take_model_back() {
  [ -n "$model" ] || return 0
  kubectl_ delete networkpolicy -n assay-sandboxes demo-model --ignore-not-found >/dev/null
  kubectl_ delete secret -n assay-system upstreams --ignore-not-found >/dev/null
  if [ -n "$told" ]; then
    kubectl_ rollout undo -n assay-system deployment/api >/dev/null
    # Whoever comes next meets no replica that is about to end.
    kubectl_ rollout status -n assay-system deployment/api --timeout=5m >&2
  fi
  kill "$model" && wait "$model" 2>/dev/null
}
