#!/usr/bin/env bash
# `make cluster-test`: builds what is missing, brings the cluster up, applies our manifests, runs the suites that need a
# cluster, and takes everything down again. Says what it used.
#
# CNI=cilium|bridge, KEEP=1 leaves the cluster running (FOLDER=… names its folder).
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

triple=$(rustc -vV | sed -n 's/^host: //p')
export ASSAY_SANDBOX_BIN=${ASSAY_SANDBOX_BIN:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/$triple/sandbox}
begin=$SECONDS
components=(kubernetes containerd runc helm kind)
[ "${CNI:-cilium}" != cilium ] || components+=(cilium)
tests/cluster/build.sh "${components[@]}" || exit
say "programs are there after $((SECONDS - begin)) s"
tests/cluster/up.sh "$folder" || exit
ASSAY_TEST_KUBERNETES=$(tests/cluster/apply.sh "$folder") || exit
ASSAY_TEST_KUBECTL=$(bin_of kubernetes)/kubectl
export ASSAY_TEST_KUBERNETES_ADMIN=$folder/pki/admin.kubeconfig
export ASSAY_TEST_KUBERNETES ASSAY_TEST_KUBECTL ASSAY_TEST_REGISTRY=$registry_url
ASSAY_TEST_CNI=$(cat "$folder/cni/name")
export ASSAY_TEST_CNI
ASSAY_TEST_KUBE_HELM=$(bin_of helm)/helm ASSAY_TEST_KUBE_KIND=$(bin_of kind)/kind
export ASSAY_TEST_KUBE_HELM ASSAY_TEST_KUBE_KIND
# The whole control plane, with the programs of this checkout.
cargo build --workspace --bins || exit
ASSAY_TEST_KUBE_PROGRAMS=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug
mapfile -t api < <(tests/cluster/control-plane.sh "$ASSAY_TEST_KUBECTL" "$ASSAY_TEST_KUBERNETES_ADMIN" $registry_url "$ASSAY_TEST_KUBE_PROGRAMS")
[ ${#api[@]} = 2 ] || fail "the control plane did not start; see above, and kubectl get pods -n assay-system"
export ASSAY_TEST_KUBE_PROGRAMS ASSAY_TEST_KUBE_API=${api[0]} ASSAY_TEST_KUBE_KEY=${api[1]}
say "Kubernetes $(version_of kubernetes), CNI $ASSAY_TEST_CNI, registry docker-registry, builder Buildah"
cargo test --workspace --test engine_contract kubernetes && cargo test --workspace --test cluster
