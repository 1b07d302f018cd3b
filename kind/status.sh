#!/usr/bin/env bash
# `make k8s-status`: what runs, what waits, and what the API says of itself.
set -uo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

has_cluster || fail "there is no cluster; run: make k8s-setup"
kubectl_ get nodes
for namespace in assay-system assay-sandboxes assay-builds keda; do
  echo
  echo "# $namespace"
  kubectl_ get pods -n "$namespace" -o wide --ignore-not-found
done
echo
kubectl_ get scaledobjects -n assay-system --ignore-not-found
echo
curl -sS --noproxy '*' --max-time 5 http://127.0.0.1:8000/version || say "the API does not answer at http://127.0.0.1:8000"
echo
kubectl_ exec -n assay-system deployment/api -c api -- true 2>/dev/null || say "no API pod is ready: make k8s-logs"
