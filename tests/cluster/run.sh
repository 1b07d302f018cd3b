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

need_root
# One at a time: a cluster's addresses are fixed. What is started and may stay behind (8>&-) does not hold the lock, so it is free
# when this process is gone.
exec 8>"$run_folder.lock"
flock -n 8 || { say "waits for another run on this machine"; flock 8; }
folder=$(realpath -m "${FOLDER:-$(mktemp -d /tmp/assay-cluster.XXXXXX)}")

# What tells why, while it is still there. Logs go where they outlive the folder.
tell_why() {
  local kept client
  kept=$(realpath -m "${CARGO_TARGET_DIR:-target}")/cluster-logs
  client=("$(bin_of kubernetes)/kubectl" --kubeconfig "$folder/pki/admin.kubeconfig" --request-timeout=20s)
  [ -d "$folder/pid" ] || return
  "${client[@]}" get pods -A -o wide
  "${client[@]}" get events -A --sort-by=.metadata.creationTimestamp | tail -60
  rm -rf "$kept"
  cp -r "$folder/log" "$kept" && cp -r "$folder/podlogs" "$kept/pods" && rm -f "$kept"/audit*
  say "logs of the node and of the pods that are there: $kept"
}

end() {
  local status=$?
  [ $status = 0 ] || tell_why >&2
  if [ -n "${KEEP:-}" ]; then
    rm -f "$folder/passing"
    say "left running; stop it by: tests/cluster/down.sh $folder"
  else
    tests/cluster/down.sh "$folder"
  fi
  exit $status
}

# A run that was killed took nothing down, and its processes hold every address. A cluster that somebody keeps is theirs.
remove_left() {
  local left
  left=$(cat "$run_folder/folder" 2>/dev/null) || return 0
  [ "$left" != "$folder" ] && [ -d "$left/pid" ] || return 0
  [ -e "$left/passing" ] || fail "a cluster runs already; stop it by: tests/cluster/down.sh $left"
  say "takes down what a run that was killed has left in $left"
  KEEP='' tests/cluster/down.sh "$left"
}
remove_left
mkdir -p "$folder" && touch "$folder/passing"
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
# All that is compiled is compiled before anything runs: for the memory that a linker takes, a kubelet evicts pods.
profile=${CLUSTER_PROFILE:-dev}
cargo build --workspace --bins --profile "$profile" 8>&- || exit
[ $# -gt 0 ] || cargo test --workspace --test engine_contract --test cluster --no-run 8>&- || exit
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
ASSAY_TEST_KUBE_PROGRAMS=$(realpath -m "${CARGO_TARGET_DIR:-target}")/${profile/dev/debug}
export ASSAY_TEST_KUBE_PROGRAMS
# First by Helm, while nothing of ours is there.
log=$folder/tests.log
[ $# -gt 0 ] || ASSAY_TEST_KUBE_EMPTY=1 cargo test --workspace --test cluster chart:: -- --show-output 2>&1 8>&- | tee "$log" || exit
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
if [ $# -gt 0 ]; then "$@" 8>&-; exit; fi
status=0
cargo test --workspace --test engine_contract kubernetes -- --show-output 2>&1 8>&- | tee -a "$log" || status=1
cargo test --workspace --test cluster -- --show-output --skip chaos:: --skip taken:: 2>&1 8>&- | tee -a "$log" || status=1
# Told as a test is, so that it counts as one.
the_demo() {
  if tests/cluster/demo.sh; then
    echo 'test result: ok. 1 passed; 0 failed: the demo, each of its cases as expected'
  else
    echo 'test result: FAILED. 0 passed; 1 failed: the demo'
  fi
}
the_demo 2>&1 8>&- | tee -a "$log"
# What stops parts of the node, or takes its room, comes alone: the others would meet it.
cargo test --workspace --test cluster -- --show-output --test-threads=1 chaos:: taken:: 2>&1 8>&- | tee -a "$log" || status=1
# What needs an empty cluster has run before; the other takes minutes.
export ASSAY_NO_SKIP=${ASSAY_NO_SKIP:-1} ASSAY_MAY_SKIP=${ASSAY_MAY_SKIP:-ASSAY_TEST_KUBE_EMPTY|ASSAY_TEST_KUBE_SLOW}
tests/tally.sh "$log" "$status"
