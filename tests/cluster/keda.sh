#!/usr/bin/env bash
# Puts KEDA onto the test cluster by its own manifests: operator, metrics server and admission webhooks, as pods of namespace
# keda. build.sh keda has run before.
#
# usage: keda.sh KUBECTL ADMIN-KUBECONFIG REGISTRY-URL
set -euo pipefail
. "$(dirname "$0")/lib.sh"

kubectl=("${1:?usage: keda.sh KUBECTL KUBECONFIG REGISTRY-URL}" --kubeconfig "${2:?kubeconfig}")
registry=${3:?registry}
client=("$cluster_folder/image.py" "$registry")
keda=$(bin_of keda)
[ -d "$keda" ] || fail "KEDA is not built; run: tests/cluster/build.sh keda"
work=$(mktemp -d /tmp/assay-keda.XXXXXX)
trap 'rm -rf "$work"' EXIT

image() { # repository program: the program and nothing else, the same bytes for the same file
  mkdir -p "$work/$2"
  install -m 755 "$keda/$2" "$work/$2/"
  tar -C "$work/$2" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/$2.tar" .
  "${client[@]}" import --change "ENTRYPOINT [\"/$2\"]" --change 'USER 65532:65532' "$work/$2.tar" "kedacore/$1:test"
  echo "- {name: ghcr.io/kedacore/$1, newName: ${registry#http://}/kedacore/$1, digest: \"$("${client[@]}" digest "kedacore/$1:test")\"}"
}

# Nobody answers for names on this cluster, so services that are asked by name have fixed addresses. What is ready is told
# sooner than a busy production would ask, and the node's two cores carry more than this.
kustomization() {
  cat <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [config/default]
images:
$images
patches:
- target: {kind: Service, name: keda-operator}
  patch: |
    - {op: add, path: /spec/clusterIP, value: 10.96.0.66}
- target: {kind: Deployment}
  patch: |
    - {op: replace, path: /spec/template/spec/containers/0/readinessProbe/initialDelaySeconds, value: 1}
    - {op: replace, path: /spec/template/spec/containers/0/resources/requests/cpu, value: 20m}
    - {op: add, path: /spec/template/spec/containers/0/readinessProbe/periodSeconds, value: 1}
    - op: add
      path: /spec/template/spec/hostAliases
      value:
      - {ip: 10.96.0.66, hostnames: [keda-operator.keda.svc.cluster.local]}
      - {ip: 10.96.0.81, hostnames: [api-internal.assay-system.svc]}
YAML
}

cp -r "$keda/config" "$work/config"
images=$(
  set -e
  image keda keda
  image keda-metrics-apiserver keda-adapter
  image keda-admission-webhooks keda-admission-webhooks
)
kustomization >"$work/kustomization.yaml"
"${kubectl[@]}" apply --server-side --force-conflicts -k "$work" >&2
for name in keda-operator keda-metrics-apiserver keda-admission; do
  "${kubectl[@]}" rollout status -n keda deployment/$name --timeout=300s >&2
done
"${kubectl[@]}" wait --for=condition=Available apiservice/v1beta1.external.metrics.k8s.io --timeout=300s >&2
say "KEDA $(version_of keda) serves external metrics after $SECONDS s"
