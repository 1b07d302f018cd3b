#!/usr/bin/env bash
# Writes modules/NAME/go.mod and go.sum from `versions`. Run it after a change there and commit what it wrote: from then on
# every download is compared with these sums.
#
# usage: pin.sh [NAME…]
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Kubernetes' own libraries: v1.X.Y is v0.X.Y there, and its go.mod points at folders of its own tree.
staging=(api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap
  code-generator component-base component-helpers controller-manager cri-api cri-client csi-translation-lib
  dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator kube-controller-manager kube-proxy
  kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission sample-apiserver sample-cli-plugin
  sample-controller)

pin() { # component
  local name=$1 version folder=$cluster_folder/modules/$1 library program tools=()
  version=$(version_of "$name")
  say "pinning $name $version"
  mkdir -p "$folder"
  rm -f "$folder/go.mod" "$folder/go.sum"
  cd "$folder"
  go mod init "cluster.test/$name" 2>/dev/null
  go mod edit -go=1.26
  go mod edit -require="$(module_of "$name")@$version"
  if [ "$name" = kubernetes ]; then
    for library in "${staging[@]}"; do
      go mod edit -replace="k8s.io/$library=k8s.io/$library@v0.${version#v1.}"
    done
  fi
  # These are built inside of their own modules, which bring their own sums; here is the sum of that module.
  if [ "$name" = cilium ] || [ "$name" = keda ]; then
    go mod download -json "$(module_of "$name")@$version" >/dev/null
    go mod download "$(module_of "$name")"
    return
  fi
  for program in $(programs_of "$name"); do tools+=("-tool=$program"); done
  go mod edit "${tools[@]}"
  go mod tidy
}

[ $# -gt 0 ] || mapfile -t names < <(awk '!/^#/ && NF { print $1 }' "$cluster_folder/versions")
for name in "${@:-${names[@]}}"; do (pin "$name"); done
