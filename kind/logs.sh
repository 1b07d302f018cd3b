#!/usr/bin/env bash
# `make k8s-logs`: follows what API and screeners print; PART=api, screener, postgres, objects or migrate for one of them.
set -uo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

has_cluster || fail "there is no cluster; run: make k8s-setup"
parts=${PART:-api,screener}
exec kubectl --context "$context" logs -n assay-system --prefix --follow --tail=50 --max-log-requests=30 --all-containers \
  -l "app.kubernetes.io/name in ($parts)"
