#!/usr/bin/env bash
# `make k8s-apply`: Secrets of random keys where there are none, and the manifests with the images of k8s-images.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

[ -f "$state/applied/builds.env" ] || fail "no images were built yet; run: make k8s-images"
[ -f "$state/registry-address" ] || fail "the cluster is not up; run: make k8s-up"

secrets() {
  local password
  kubectl_ apply -f "$project/manifests/base/namespaces.yaml" >/dev/null
  if ! has_secret database; then
    password=$(random 24)
    kubectl_ create secret generic database -n assay-system --from-literal=password="$password" \
      --from-literal=url="postgres://assay:$password@postgres.assay-system.svc/assay"
  fi
  has_secret objects || kubectl_ create secret generic objects -n assay-system \
    --from-literal=endpoint=http://objects.assay-system.svc:9000 --from-literal=public-endpoint=http://127.0.0.1:9000 \
    --from-literal=access-key="$(random 10)" --from-literal=secret-key="$(random 20)"
  has_secret seal || kubectl_ create secret generic seal -n assay-system --from-literal=key="$(random 32)"
  has_secret pending-work || kubectl_ create secret generic pending-work -n assay-system --from-literal=token="$(random 24)"
  login push assay-builds builder
  login bases assay-builds node
  login registry-login assay-system screener
}

# Who somebody is at the registry, by each name that pods have for it. Made anew each time, since its address may change.
login() { # secret namespace user
  logins "$3" "$registry_host" "$address:5000" docker.io |
    kubectl_ create secret generic "$1" -n "$2" --type=kubernetes.io/dockerconfigjson \
      --from-file=.dockerconfigjson=/dev/stdin --dry-run=client -o yaml |
    kubectl_ apply -f -
}

# A kustomization over the overlay: digests, and where pods find the registry. Nodes know it by name, pods by address.
named() { # address
  cat <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [$(realpath --relative-to "$state/applied" "$project/manifests/overlays/kind"), registry.yaml]
components: [images, $(realpath --relative-to "$state/applied" "$project/manifests/components/sandbox-images")]
configMapGenerator:
- name: screener
  namespace: assay-system
  behavior: merge
  options: {disableNameSuffixHash: true}
  envs: [builds.env]
  literals:
  - ASSAY_PUSH_REPOSITORY=$1:5000/assay/tasks
  - ASSAY_PUSH_SECRET=push
  - ASSAY_BASE_SECRET=bases
  - ASSAY_REGISTRY_LOGIN=/var/run/secrets/registry/.dockerconfigjson
  - ASSAY_MIRRORS=docker.io=http://$1:5000,$registry_host=http://$1:5000,$1:5000=http://$1:5000
YAML
}

# The registry stands outside of the cluster, so its wall is an address.
reach() { # address
  cat <<YAML
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: registry-of-kind
  namespace: assay-builds
  labels: {app.kubernetes.io/part-of: assay}
spec:
  podSelector: {matchLabels: {assay.dev/role: build}}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: $1/32}}]
    ports: [{protocol: TCP, port: 5000}]
YAML
}

address=$(cat "$state/registry-address")
secrets >&2
named "$address" >"$state/applied/kustomization.yaml"
reach "$address" >"$state/applied/registry.yaml"
# A Job cannot be changed.
kubectl_ delete job -n assay-system migrate --ignore-not-found --wait >&2
kubectl_ apply --server-side --force-conflicts -k "$state/applied" >&2
for set in postgres objects; do
  kubectl_ rollout status -n assay-system statefulset/$set --timeout=5m >&2
done
kubectl_ wait -n assay-system --for=condition=Complete job/migrate --timeout=5m >&2
kubectl_ rollout status -n assay-system deployment/api --timeout=5m >&2
