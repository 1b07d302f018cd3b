#!/usr/bin/env bash
# `make k8s-screener`: a screener on this machine that runs its sandboxes in the cluster, until ^C. Pods are reached through
# the API server. It takes class `host`: assay run … --class host.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

has_cluster || fail "the cluster is not up; run: make k8s-setup"
image() { kubectl_ get configmap -n assay-sandboxes admission -o "jsonpath={.data.$1}"; }

key=$state/host-screener.key
if [ ! -s "$key" ]; then
  mkdir -p "$state"
  (umask 077 && kubectl_ exec -n assay-system deployment/api -c api -- \
    assay-api key create --name host-screener --scope worker --worker-class host >"$key.part")
  mv "$key.part" "$key"
fi
# The rights of a screener and of port-forward, and no more.
kubectl_ create rolebinding host-screener -n assay-sandboxes --role=port-forward \
  --serviceaccount=assay-system:screener --dry-run=client -o yaml | kubectl_ apply -f - >&2
kubeconfig=$state/host-screener.kubeconfig
(umask 077 && kubectl_ config view --minify --flatten --raw -o json |
  python3 -c 'import json, sys
config = json.load(sys.stdin)
config["users"][0]["user"] = {"token": sys.argv[1]}
print(json.dumps(config))' "$(kubectl_ create token screener -n assay-system --duration=8h)" >"$kubeconfig")

login=$state/host-screener.login
(umask 077 && logins screener "$registry_host" docker.io >"$login")

exec "${CARGO_TARGET_DIR:-$project/target}/release/assay-screener" run --api http://127.0.0.1:8000 --key-file "$key" \
  --class host --listen 127.0.0.1:8081 --engine kubernetes --kubeconfig "$kubeconfig" --reach forward \
  --init-image "$(image init)" --proxy-image "$(image proxy)" --work-dir "$state/work" \
  --mirror "docker.io=http://127.0.0.1:$registry_port" --mirror "$registry_host=http://127.0.0.1:$registry_port" \
  --registry-login "$login" --resolver 10.96.0.10:53
