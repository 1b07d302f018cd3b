#!/usr/bin/env bash
# `make cluster-test`: builds what is missing, brings the cluster up, applies our manifests, runs the suites that need a
# cluster, and takes everything down again. Says what it used.
#
# usage: run.sh [COMMAND…]        the command instead of the suites, with the same environment
#
# CNI=cilium|bridge, KEEP=1 leaves the cluster running (FOLDER=… names its folder). CLUSTER_PROFILE=release: optimised programs.
# ASSAY_KANIKO=PROGRAM (its executor) builds images in Buildah's place, ASSAY_ZOT=PROGRAM is the registry in docker-registry's.
set -uo pipefail
cd "$(dirname "$0")/../.."
. tests/cluster/lib.sh

folder=${FOLDER:-$(mktemp -d /tmp/assay-cluster.XXXXXX)}
end() {
  local status=$?
  [ -n "${KEEP:-}" ] && say "left running; stop it by: tests/cluster/down.sh $folder" || tests/cluster/down.sh "$folder"
  exit $status
}
trap end EXIT

builder=Buildah registry=docker-registry
if [ -n "${ASSAY_KANIKO:-}" ]; then
  [ -x "$ASSAY_KANIKO" ] || fail "ASSAY_KANIKO is $ASSAY_KANIKO, which is no program"
  builder="Kaniko ($("$ASSAY_KANIKO" version 2>&1 | head -1))"
  export ASSAY_TEST_BUILDER=kaniko
fi
if [ -n "${ASSAY_ZOT:-}" ]; then
  [ -x "$ASSAY_ZOT" ] || fail "ASSAY_ZOT is $ASSAY_ZOT, which is no program"
  registry="Zot ($("$ASSAY_ZOT" --version 2>&1 | grep -o '"commit":"[^"]*"' | head -1))"
fi

triple=$(rustc -vV | sed -n 's/^host: //p')
export ASSAY_SANDBOX_BIN=${ASSAY_SANDBOX_BIN:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/$triple/sandbox}
begin=$SECONDS
components=(kubernetes containerd runc helm kind keda)
[ "${CNI:-cilium}" != cilium ] || components+=(cilium)
tests/cluster/build.sh "${components[@]}" || exit
say "programs are there after $((SECONDS - begin)) s"
tests/cluster/up.sh "$folder" || exit
ASSAY_TEST_KUBECTL=$(bin_of kubernetes)/kubectl
export ASSAY_TEST_KUBECTL ASSAY_TEST_KUBERNETES_ADMIN=$folder/pki/admin.kubeconfig ASSAY_TEST_REGISTRY=$registry_url
tests/cluster/keda.sh "$ASSAY_TEST_KUBECTL" "$ASSAY_TEST_KUBERNETES_ADMIN" $registry_url || exit
export ASSAY_TEST_KUBE_KEDA=1
ASSAY_TEST_CNI=$(cat "$folder/cni/name")
export ASSAY_TEST_CNI
ASSAY_TEST_KUBE_HELM=$(bin_of helm)/helm ASSAY_TEST_KUBE_KIND=$(bin_of kind)/kind
export ASSAY_TEST_KUBE_HELM ASSAY_TEST_KUBE_KIND
# The whole control plane, with the programs of this checkout.
profile=${CLUSTER_PROFILE:-dev}
cargo build --workspace --bins --profile "$profile" || exit
ASSAY_TEST_KUBE_PROGRAMS=$(realpath -m "${CARGO_TARGET_DIR:-target}")/${profile/dev/debug}
export ASSAY_TEST_KUBE_PROGRAMS
# First by Helm, while nothing of ours is there.
log=$folder/tests.log
[ $# -gt 0 ] || ASSAY_TEST_KUBE_EMPTY=1 cargo test --workspace --test cluster chart:: -- --show-output 2>&1 | tee "$log" || exit
# An API server that has seen an admission policy go never finds the parameters of the next one, until it is started again.
state=$folder
stop kube-apiserver
tests/cluster/up.sh "$folder" >/dev/null || exit
ASSAY_TEST_KUBERNETES=$(tests/cluster/apply.sh "$folder") || exit
export ASSAY_TEST_KUBERNETES
mapfile -t api < <(tests/cluster/control-plane.sh "$ASSAY_TEST_KUBECTL" "$ASSAY_TEST_KUBERNETES_ADMIN" $registry_url "$ASSAY_TEST_KUBE_PROGRAMS")
[ ${#api[@]} = 2 ] || fail "the control plane did not start; see above, and kubectl get pods -n assay-system"
export ASSAY_TEST_KUBE_API=${api[0]} ASSAY_TEST_KUBE_KEY=${api[1]}
say "Kubernetes $(version_of kubernetes), CNI $ASSAY_TEST_CNI, scaler KEDA $(version_of keda), registry $registry, builder $builder"
if [ $# -gt 0 ]; then "$@"; exit; fi
status=0
cargo test --workspace --test engine_contract kubernetes -- --show-output 2>&1 | tee -a "$log" || status=1
cargo test --workspace --test cluster -- --show-output --skip chaos:: --skip taken:: 2>&1 | tee -a "$log" || status=1
# What stops parts of the node, or takes its room, comes alone: the others would meet it.
cargo test --workspace --test cluster -- --show-output --test-threads=1 chaos:: taken:: 2>&1 | tee -a "$log" || status=1
# What needs an empty cluster has run before; the other takes minutes.
export ASSAY_NO_SKIP=${ASSAY_NO_SKIP:-1} ASSAY_MAY_SKIP=${ASSAY_MAY_SKIP:-ASSAY_TEST_KUBE_EMPTY|ASSAY_TEST_KUBE_SLOW}
tests/tally.sh "$log" "$status"
