#!/usr/bin/env bash
# The cases of `make demo` on the test cluster, where they have to end alike. Its control plane is told of a scripted model on the
# node for as long as this runs.
#
# usage: run.sh tests/cluster/demo.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/cluster/lib.sh

kubectl=("${ASSAY_TEST_KUBECTL:?usage: run.sh tests/cluster/demo.sh}" --kubeconfig "$ASSAY_TEST_KUBERNETES_ADMIN")
programs=$ASSAY_TEST_KUBE_PROGRAMS
work=$(mktemp -d /tmp/assay-cluster-demo.XXXXXX)
export ASSAY_CONFIG_DIR=$work/config
model='' told=''

finish() {
  local status=$?
  set +e
  "${kubectl[@]}" delete networkpolicy -n assay-sandboxes demo-model --ignore-not-found >/dev/null
  "${kubectl[@]}" delete secret -n assay-system upstreams --ignore-not-found >/dev/null
  [ -z "$told" ] || "${kubectl[@]}" rollout undo -n assay-system deployment/api >/dev/null
  [ -z "$model" ] || { kill "$model" && wait "$model" 2>/dev/null; }
  rm -rf "$work"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# What wheels.sh asks an engine for: the version of the Python that tasks have.
python_of_tasks() {
  "${kubectl[@]}" delete pod -n default demo-python --ignore-not-found >/dev/null
  "${kubectl[@]}" run -n default demo-python --image=python:3.12-slim --restart=Never --command -- \
    python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' >/dev/null
  "${kubectl[@]}" wait -n default --for=jsonpath='{.status.phase}'=Succeeded pod/demo-python --timeout=180s >/dev/null
  "${kubectl[@]}" logs -n default demo-python
  "${kubectl[@]}" delete pod -n default demo-python >/dev/null
}

serve_model() {
  "$programs/assay-scripted-model" --listen $node_address:0 --script demo/script.toml --upstreams "$work/upstreams.toml" \
    >"$work/model.log" 2>&1 8>&- &
  model=$!
  for _ in $(seq 300); do { [ -s "$work/model.log" ] || ! kill -0 "$model" 2>/dev/null; } && break; sleep 0.1; done
  grep -q '^scripted model at ' "$work/model.log" || { cat "$work/model.log" >&2; fail "the scripted model does not start"; }
  sed -n 's/^scripted model at .*:\([0-9]*\) as .*/\1/p' "$work/model.log" >"$work/port"
}

tell_cluster() {
  "${kubectl[@]}" apply -f - >&2 <<YAML
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: demo-model, namespace: assay-sandboxes}
spec:
  podSelector: {matchLabels: {assay.dev/role: sandbox, assay.dev/phase: agent}}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: $node_address/32}}]
    ports: [{protocol: TCP, port: $(cat "$work/port")}]
YAML
  "${kubectl[@]}" create secret generic upstreams -n assay-system --from-literal=path=/secrets/upstreams/upstreams.toml \
    --from-file=upstreams.toml="$work/upstreams.toml" >&2
  # By the path itself: the word of a Secret that is new is left out where the node has not seen it yet, and an API that does not
  # find its file does not start.
  "${kubectl[@]}" set env -n assay-system deployment/api ASSAY_UPSTREAMS=/secrets/upstreams/upstreams.toml >&2
  told=1
  "${kubectl[@]}" rollout status -n assay-system deployment/api --timeout=300s >&2
}

python=$(python_of_tasks)
# wheels.sh runs one command in a container of an engine; here it is known what that would say.
told_python() { echo "$python"; }
export -f told_python
export python
demo/wheels.sh told_python "$cluster_cache/.." "$work/agents"
serve_model
tell_cluster
"$programs/assay" --profile cluster login "$ASSAY_TEST_KUBE_API" <<<"$ASSAY_TEST_KUBE_KEY"
DEMO_PROFILE=cluster python3 demo/demo.py "$programs/assay" "$work/agents" assay-demo/scripted-1
