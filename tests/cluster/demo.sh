#!/usr/bin/env bash
# The cases of `make demo` on the test cluster, where they have to end alike. Its control plane is told of a scripted model on the
# node for as long as this runs.
#
# usage: run.sh tests/cluster/demo.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/cluster/lib.sh

kubectl_() { "${ASSAY_TEST_KUBECTL:?usage: run.sh tests/cluster/demo.sh}" --kubeconfig "$ASSAY_TEST_KUBERNETES_ADMIN" "$@"; }
programs=$ASSAY_TEST_KUBE_PROGRAMS
work=$(mktemp -d /tmp/assay-cluster-demo.XXXXXX)
export ASSAY_CONFIG_DIR=$work/config
# shellcheck source=../../demo/model-for-cluster.sh
. demo/model-for-cluster.sh

finish() {
  local status=$?
  set +e
  take_model_back
  rm -rf "$work"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# What wheels.sh asks an engine for: the version of the Python that tasks have.
python_of_tasks() {
  kubectl_ delete pod -n default demo-python --ignore-not-found >/dev/null
  kubectl_ run -n default demo-python --image=python:3.12-slim --restart=Never --command -- \
    python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' >/dev/null
  kubectl_ wait -n default --for=jsonpath='{.status.phase}'=Succeeded pod/demo-python --timeout=180s >/dev/null
  kubectl_ logs -n default demo-python
  kubectl_ delete pod -n default demo-python >/dev/null
}

python=$(python_of_tasks)
# wheels.sh runs one command in a container of an engine; here it is known what that would say.
told_python() { echo "$python"; }
export -f told_python
export python
demo/wheels.sh told_python "$cluster_cache/.." "$work/agents"
serve_model "$programs/assay-scripted-model" demo $node_address --listen $node_address:0
tell_api
"$programs/assay" --profile cluster login "$ASSAY_TEST_KUBE_API" <<<"$ASSAY_TEST_KUBE_KEY"
DEMO_PROFILE=cluster python3 demo/demo.py "$programs/assay" "$work/agents" assay-demo/scripted-1
