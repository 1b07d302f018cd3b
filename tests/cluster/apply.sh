#!/usr/bin/env bash
# Applies our manifests to the running test cluster, lets the registry's images of ours in, and writes the kubeconfig of a
# screener: the rights that the tests of the engine have, and no more.
#
# usage: apply.sh FOLDER        prints the path of that kubeconfig
set -euo pipefail
. "$(dirname "$0")/lib.sh"

state=$(realpath -m "${1:?usage: apply.sh FOLDER}")
kubectl() { "$(bin_of kubernetes)/kubectl" --kubeconfig "$state/pki/admin.kubeconfig" "$@"; }
pinned() { # repository of ours: as pods name it
  echo "$node_address:5000/assay/$1@$("$cluster_folder/image.py" $registry_url digest "assay/$1:test")"
}

kubectl apply -k "$cluster_folder/../../manifests/base" >&2
kubectl create configmap admission -n assay-sandboxes --dry-run=client -o yaml \
  --from-literal=init="$(pinned init-iptables)" --from-literal=proxy="$(pinned proxy)" | kubectl apply -f - >&2
kubectl set image -n assay-system deployment/beacon beacon="$(pinned proxy)" >&2
kubectl rollout status -n assay-system deployment/beacon --timeout=300s >&2
# Registry and the object store of the tests are not in this cluster but on its node.
kubectl apply -f - >&2 <<EOF
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: node-registry-and-objects, namespace: assay-builds}
spec:
  podSelector: {matchLabels: {assay.dev/role: build}}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: $node_address/32}}]
    ports: [{protocol: TCP, port: 5000}, {protocol: TCP, port: 5001}]
EOF
# The tests go both ways, also by port-forward.
kubectl create rolebinding screener-port-forward -n assay-sandboxes --role=port-forward \
  --serviceaccount=assay-system:screener --dry-run=client -o yaml | kubectl apply -f - >&2

token=$(kubectl create token screener -n assay-system --duration=24h)
screener=$state/screener.kubeconfig
kubectl config view --minify --flatten --raw -o json |
  python3 -c '
import json, sys
config = json.load(sys.stdin)
config["users"][0]["user"] = {"token": sys.argv[1]}
print(json.dumps(config))' "$token" >"$screener"
chmod 600 "$screener"
echo "$screener"
